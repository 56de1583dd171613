//! An address that stays, where the runtime hands out another one at every start: a VXLAN device in every machine, and
//! entries that say where the others are just now (decision 0019).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The script that makes the device, and takes the peers.
pub const SCRIPT_PATH: &str = "/kina/overlay/run";
/// What it is told for life.
pub const CONFIG_PATH: &str = "/kina/overlay/config";
/// What it was told last of the others.
pub const PEERS_PATH: &str = "/kina/overlay/peers";
/// What runs the script at every boot of a node.
const UNIT_PATH: &str = "/etc/systemd/system/kina-overlay.service";
/// What has both of a node's services wait for it.
const WAITING: [&str; 2] = [
    "/etc/systemd/system/containerd.service.d/05-kina-overlay.conf",
    "/etc/systemd/system/kubelet.service.d/05-kina-overlay.conf",
];

const SCRIPT: &str = include_str!("overlay.sh");
const UNIT: &str = "[Unit]\nDescription=The address of this node that stays\nBefore=containerd.service kubelet.service\n\n\
                    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/bash /kina/overlay/run up\n";
const WAIT: &str = "[Unit]\nRequires=kina-overlay.service\nAfter=kina-overlay.service\n";

/// Length of a cluster's subnet for machines.
const LENGTH: u8 = 24;

/// Where machines are: addresses that stay, to those that the runtime gave them. Ordered, so that the same is said in the
/// same words.
pub type Peers = BTreeMap<Ipv4Addr, Ipv4Addr>;

/// Path and content of every file that a load balancer needs for an address that stays.
#[must_use]
pub fn files(address: Ipv4Addr) -> Vec<(&'static str, String)> {
    vec![(CONFIG_PATH, config(address)), (SCRIPT_PATH, SCRIPT.to_owned())]
}

/// Path and content of every file that a node needs for it. All are regular files: they can be written before the first
/// start.
#[must_use]
pub fn node_files(address: Ipv4Addr) -> Vec<(&'static str, String)> {
    let mut all = files(address);
    all.push((UNIT_PATH, UNIT.to_owned()));
    all.extend(WAITING.map(|path| (path, WAIT.to_owned())));
    all
}

/// Tells a machine that runs where the others are; it reads [`text`] from its standard input.
#[must_use]
pub fn command() -> Vec<String> {
    ["/bin/bash", SCRIPT_PATH, "peers"].map(str::to_owned).to_vec()
}

/// Peers as the script reads them: one a line, and a last line that says that it is whole.
#[must_use]
pub fn text(peers: &Peers) -> String {
    let lines: String = peers.iter().map(|(stays, now)| format!("{stays} {now}\n")).collect();
    format!("{lines}end\n")
}

/// The address with its prefix, and the number of the network: a subnet has 24 bits, and so has the number, so that no two
/// clusters of a host share one.
fn config(address: Ipv4Addr) -> String {
    format!("{address}/{LENGTH} {}\n", u32::from(address) >> (32 - LENGTH))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Output, Stdio};

    use super::*;

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 160, 3, last)
    }

    #[test]
    fn a_machine_is_told_its_address_and_the_number_of_its_network() {
        assert_eq!(config(address(10)), "10.160.3.10/24 696323\n");
        assert_ne!(config(Ipv4Addr::new(10, 160, 4, 10)), config(Ipv4Addr::new(10, 161, 3, 10)));
    }

    #[test]
    fn every_peer_is_named_and_the_end_marked() {
        let peers =
            Peers::from([(address(11), Ipv4Addr::new(192, 168, 64, 5)), (address(2), Ipv4Addr::new(192, 168, 64, 3))]);
        assert_eq!(text(&peers), "10.160.3.2 192.168.64.3\n10.160.3.11 192.168.64.5\nend\n");
        assert_eq!(text(&Peers::new()), "end\n");
    }

    #[test]
    fn a_nodes_services_wait_for_its_address() {
        let files = node_files(address(10));
        let waiting = files.iter().filter(|(path, _)| path.ends_with(".service.d/05-kina-overlay.conf"));
        assert_eq!(waiting.count(), 2);
        assert!(files.iter().any(|(path, text)| *path == UNIT_PATH && text.contains("run up")));
    }

    /// Machines as network namespaces at a bridge, each with a copy of the script.
    struct Lab {
        name: String,
        directory: tempfile::TempDir,
        machines: Vec<u8>,
    }

    fn run(program: &str, arguments: &[&str]) -> Output {
        Command::new(program).args(arguments).output().unwrap()
    }

    fn ip(line: &str) -> bool {
        run("ip", &line.split(' ').collect::<Vec<_>>()).status.success()
    }

    impl Lab {
        /// `None` where this host makes no namespaces, or no such devices.
        fn new(machines: &[u8]) -> Option<Self> {
            let directory = tempfile::tempdir().unwrap();
            let name = format!("k{}", std::process::id() % 100_000);
            let lab = Self { name, directory, machines: machines.to_vec() };
            let name = &lab.name;
            // The bridge has a namespace of its own: a host may filter what goes through its own bridges.
            let has_all = ip(&format!("netns add {name}"))
                && ip(&format!("-n {name} link add {name} type bridge"))
                && ip(&format!("-n {name} link set {name} up"))
                && machines.iter().all(|machine| lab.add(*machine))
                && lab
                    .inside(machines[0], &["ip", "link", "add", "probe", "type", "vxlan", "id", "1", "dstport", "1"])
                    .status
                    .success()
                && Command::new("ping").arg("-V").output().is_ok();
            has_all.then_some(lab)
        }

        fn add(&self, machine: u8) -> bool {
            let Self { name, .. } = self;
            let made = ip(&format!("netns add {name}-{machine}"))
                && ip(&format!("-n {name} link add {name}v{machine} type veth peer name eth0 netns {name}-{machine}"))
                && ip(&format!("-n {name} link set {name}v{machine} master {name} up"))
                && ip(&format!("-n {name}-{machine} link set eth0 mtu 1280 up"));
            let home = self.home(machine);
            std::fs::create_dir_all(&home).unwrap();
            for (path, content) in files(address(machine)) {
                std::fs::write(home.join(Path::new(path).file_name().unwrap()), content).unwrap();
            }
            made
        }

        fn home(&self, machine: u8) -> std::path::PathBuf {
            self.directory.path().join(machine.to_string())
        }

        /// Gives a machine an address of the runtime's, in place of any that it had.
        fn is_at(&self, machine: u8, underlay: Ipv4Addr) {
            let namespace = format!("{}-{machine}", self.name);
            assert!(ip(&format!("-n {namespace} address flush dev eth0")));
            assert!(ip(&format!("-n {namespace} address add {underlay}/24 dev eth0")));
            assert!(ip(&format!("-n {namespace} route replace default via 192.168.64.1 dev eth0")));
        }

        fn inside(&self, machine: u8, command: &[&str]) -> Output {
            let namespace = format!("{}-{machine}", self.name);
            run("ip", &[&["netns", "exec", namespace.as_str()], command].concat())
        }

        fn up(&self, machine: u8) {
            let script = self.home(machine).join("run").display().to_string();
            let output = self.inside(machine, &["bash", &script, "up"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }

        fn tell(&self, machine: u8, peers: &Peers) {
            let script = self.home(machine).join("run").display().to_string();
            let namespace = format!("{}-{machine}", self.name);
            let mut child = Command::new("ip")
                .args(["netns", "exec", &namespace, "bash", &script, "peers"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), text(peers).as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }

        fn reaches(&self, from: u8, to: u8) -> bool {
            let to = address(to).to_string();
            self.inside(from, &["ping", "-c", "1", "-W", "1", "-M", "do", "-s", "1000", &to]).status.success()
        }

        fn shown(&self, machine: u8, command: &[&str]) -> String {
            String::from_utf8(self.inside(machine, command).stdout).unwrap()
        }
    }

    impl Drop for Lab {
        fn drop(&mut self) {
            for machine in &self.machines {
                ip(&format!("netns del {}-{machine}", self.name));
            }
            ip(&format!("netns del {}", self.name));
        }
    }

    #[test]
    fn machines_reach_each_other_by_addresses_that_stay_while_those_below_move() {
        let Some(lab) = Lab::new(&[10, 11, 12]) else {
            let why = "this host makes no network namespaces with VXLAN devices, or has no ping";
            let _ = std::io::Write::write_fmt(
                &mut std::io::stderr(),
                format_args!("SKIPPED, an overlay in the kernel: {why}\n"),
            );
            return;
        };
        let under = |last: u8| Ipv4Addr::new(192, 168, 64, last);
        let peers =
            |at: &[(u8, u8)]| -> Peers { at.iter().map(|(stays, now)| (address(*stays), under(*now))).collect() };
        for (machine, at) in [(10, 3), (11, 4), (12, 5)] {
            lab.is_at(machine, under(at));
        }
        let first = peers(&[(10, 3), (11, 4), (12, 5)]);
        // One is told before its device is there, the others after: both count.
        lab.tell(10, &first);
        [10, 11, 12].iter().for_each(|machine| lab.up(*machine));
        [11, 12].iter().for_each(|machine| lab.tell(*machine, &first));
        assert!(lab.reaches(10, 11) && lab.reaches(11, 12) && lab.reaches(12, 10));
        assert!(lab.shown(10, &["ip", "link", "show", "kina0"]).contains("mtu 1230"));

        for (machine, at) in [(10, 4), (11, 5), (12, 3)] {
            lab.is_at(machine, under(at));
        }
        assert!(!lab.reaches(10, 11));
        let moved = peers(&[(10, 4), (11, 5), (12, 3)]);
        [10, 11, 12].iter().for_each(|machine| lab.tell(*machine, &moved));
        assert!(lab.reaches(10, 11) && lab.reaches(11, 12) && lab.reaches(12, 10));

        // A boot makes the device anew, and knows what was told last.
        assert!(lab.inside(10, &["ip", "link", "del", "kina0"]).status.success());
        lab.up(10);
        assert!(lab.reaches(10, 11));
        // Twice is as good as once, and who left is forgotten.
        lab.up(10);
        lab.tell(10, &peers(&[(10, 4), (11, 5)]));
        let entries = lab.shown(10, &["bridge", "fdb", "show", "dev", "kina0"])
            + &lab.shown(10, &["ip", "neigh", "show", "dev", "kina0", "nud", "permanent"]);
        assert!(entries.contains("02:6b:0a:a0:03:0b") && !entries.contains("02:6b:0a:a0:03:0c"), "{entries}");
        assert!(lab.reaches(10, 11) && !lab.reaches(10, 12));
    }
}

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::*;

fn book() -> Book {
    let member = |name: &str, place: u8| Member {
        name: name.into(),
        address: Ipv4Addr::new(10, 99, 0, 10 + place),
        range: format!("10.244.{place}.0/24").parse().unwrap(),
    };
    Book { pods: "10.244.0.0/16".parse().unwrap(), members: vec![member("a", 0), member("b", 1), member("c", 2)] }
}

fn without(book: &Book, name: &str) -> Book {
    let members = book.members.iter().filter(|member| member.name != name).cloned().collect();
    Book { members, ..book.clone() }
}

#[test]
fn a_node_is_told_of_all_nodes_alike_and_which_one_it_is() {
    insta::assert_snapshot!(book().of("b"), @r"
    self b
    pods 10.244.0.0/16
    node a 10.99.0.10 10.244.0.0/24 10.244.0.1
    node b 10.99.0.11 10.244.1.0/24 10.244.1.1
    node c 10.99.0.12 10.244.2.0/24 10.244.2.1
    end
    ");
}

#[test]
fn the_script_is_one_that_bash_understands() {
    let checked = Command::new("bash").args(["-n", "-c", SCRIPT]).status();
    assert!(checked.is_ok_and(|status| status.success()));
}

/// A directory that stands for a node's root.
fn root_of_a_node() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for directory in ["kina/routed", "proc/sys/net/ipv4", "bin"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    fs::write(root.path().join("kina/routed/run"), SCRIPT).unwrap();
    fs::write(root.path().join("proc/sys/net/ipv4/ip_forward"), "0\n").unwrap();
    root
}

fn run_in(mut command: Command, stdin: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that has nothing to read may be over.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Nodes whose `ip` and `iptables` only note what they are asked for.
struct Played {
    root: tempfile::TempDir,
}

impl Played {
    fn new() -> Self {
        let root = root_of_a_node();
        let play = |name: &str, text: &str| {
            let path = root.path().join("bin").join(name);
            fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        let note = "printf '%s\\n' \"${0##*/} $*\" >>\"$NOTES\"";
        play(
            "ip",
            &format!(
                "{note}\ncase $* in *-batch*) sort \"${{@: -1}}\" >>\"$NOTES\" ;; *'route show'*) cat \"$SHOWN\" 2>/dev/null ;; esac\nexit 0"
            ),
        );
        for name in ["iptables", "iptables-nft"] {
            play(name, "exit 1");
        }
        play("iptables-legacy", &format!("{note}\ncase $* in *' -C '*) exit 1 ;; esac"));
        play("iptables-legacy-restore", &format!("{note}\ncat >>\"$NOTES\""));
        Self { root }
    }

    fn run(&self, verb: &str, stdin: &str) -> Output {
        let root = self.root.path();
        let mut command = Command::new("bash");
        command
            .args([root.join("kina/routed/run"), PathBuf::from(verb)])
            .env("PATH", format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap()))
            .env("NOTES", root.join("notes"))
            .env("SHOWN", root.join("shown"));
        run_in(command, stdin)
    }

    fn notes(&self) -> String {
        fs::read_to_string(self.root.path().join("notes"))
            .unwrap_or_default()
            .replace(&self.root.path().display().to_string(), "")
    }
}

#[test]
fn routes_follow_the_book_and_those_of_nodes_that_are_gone_go() {
    let node = Played::new();
    fs::write(node.root.path().join("shown"), "unreachable 10.244.0.0/16 metric 9999\n10.244.0.0/24 via 10.99.0.10 dev x\n10.244.9.0/24 via 10.99.0.19 dev x\n").unwrap();
    let output = node.run("set", &book().of("b"));
    assert!(output.status.success(), "{}", said(&output));
    insta::assert_snapshot!(node.notes(), @r"
    ip -4 address replace 10.244.1.1/32 dev lo scope host
    ip -4 route show proto 75
    ip -4 -force -batch /kina/routed/batch
    route del 10.244.9.0/24 proto 75
    route replace 10.244.0.0/24 via 10.99.0.10 src 10.244.1.1 proto 75
    route replace 10.244.2.0/24 via 10.99.0.12 src 10.244.1.1 proto 75
    route replace unreachable 10.244.0.0/16 proto 75 metric 9999
    iptables-legacy -w 5 -t nat -S POSTROUTING
    iptables-legacy-restore -w 5 --noflush
    *nat
    :KINA-ROUTED - [0:0]
    -A KINA-ROUTED -d 10.244.0.0/16 -j RETURN
    -A KINA-ROUTED -m addrtype --dst-type LOCAL,MULTICAST,BROADCAST -j RETURN
    -A KINA-ROUTED -j MASQUERADE
    COMMIT
    iptables-legacy -w 5 -t nat -C POSTROUTING -s 10.244.1.0/24 -j KINA-ROUTED
    iptables-legacy -w 5 -t nat -A POSTROUTING -s 10.244.1.0/24 -j KINA-ROUTED
    ");
    let forwards = fs::read_to_string(node.root.path().join("proc/sys/net/ipv4/ip_forward")).unwrap();
    assert_eq!(forwards, "1\n");
}

#[test]
fn half_a_book_changes_nothing() {
    let node = Played::new();
    let whole = book().of("b");
    let cut = whole.lines().count() - 1;
    for lines in 0..=cut {
        let half: String = whole.lines().take(lines).map(|line| format!("{line}\n")).collect();
        assert!(!node.run("set", &half).status.success(), "{lines} lines");
    }
    assert!(!node.run("set", &book().of("somebody")).status.success(), "a book of others");
    assert_eq!(node.notes(), "");
    assert!(!node.root.path().join("kina/routed/book").exists());
}

#[test]
fn a_node_whose_routes_cannot_be_restored_is_not_to_be_ready_and_one_without_a_book_is_as_it_is() {
    let node = Played::new();
    let configuration = node.root.path().join("etc/cni/net.d/10-kina.conflist");
    fs::create_dir_all(configuration.parent().unwrap()).unwrap();
    fs::write(&configuration, "{}").unwrap();
    assert!(node.run("restore", "").status.success());
    assert!(node.run("set", &book().of("b")).status.success());
    assert!(node.run("restore", "").status.success() && configuration.exists());
    fs::write(node.root.path().join("bin/iptables-legacy"), "#!/bin/bash\nexit 1\n").unwrap();
    let output = node.run("restore", "");
    assert!(!output.status.success() && !configuration.exists(), "{}", said(&output));
}

/// Namespaces of the kernel's network that stand for nodes, all on one bridge.
struct Kernel {
    names: Vec<String>,
    roots: Vec<tempfile::TempDir>,
}

const MTU: &str = "1400";

impl Kernel {
    /// `None`, and a line that says why, where there can be none.
    fn of(nodes: &[&str]) -> Option<Self> {
        let prefix = format!("kina-{}", std::process::id());
        let mut kernel = Self { names: vec![format!("{prefix}-bridge")], roots: Vec::new() };
        let bridge = kernel.names[0].clone();
        if !ip(&["netns", "add", &bridge]) {
            skipped("SKIPPED, a routed pod network in the kernel: namespaces of the network cannot be made (root can)");
            kernel.names.clear();
            return None;
        }
        assert!(ip(&["-n", &bridge, "link", "add", "br0", "type", "bridge"]));
        assert!(ip(&["-n", &bridge, "link", "set", "br0", "up"]));
        for (place, node) in nodes.iter().enumerate() {
            let (space, port, device) = (format!("{prefix}-{node}"), format!("p{place}"), format!("odd{place}"));
            assert!(ip(&["netns", "add", &space]));
            kernel.names.push(space.clone());
            let link = ["link", "add", &port, "mtu", MTU, "type", "veth", "peer", "name", &device, "mtu", MTU];
            assert!(ip(&[["-n", &bridge].as_slice(), &link, &["netns", &space]].concat()));
            assert!(ip(&["-n", &bridge, "link", "set", &port, "master", "br0", "up"]));
            assert!(ip(&["-n", &space, "address", "add", &format!("10.99.0.{}/24", 10 + place), "dev", &device]));
            for up in [device.as_str(), "lo"] {
                assert!(ip(&["-n", &space, "link", "set", up, "up"]));
            }
            kernel.roots.push(root_of_a_node());
        }
        let tables =
            Command::new("ip").args(["netns", "exec", &kernel.names[1], "iptables", "-t", "nat", "-S"]).output();
        if !tables.is_ok_and(|output| output.status.success()) {
            skipped("SKIPPED, a routed pod network in the kernel: there is no iptables");
            return None;
        }
        Some(kernel)
    }

    fn root(&self, place: usize) -> &Path {
        self.roots[place].path()
    }

    fn run(&self, place: usize, verb: &str, stdin: &str) -> Output {
        let script = self.root(place).join("kina/routed/run");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[place + 1], "bash"]).arg(script).arg(verb);
        run_in(command, stdin)
    }

    fn is_open(&self, place: usize) -> bool {
        self.root(place).join("etc/cni/net.d/10-kina.conflist").exists()
    }

    fn shown(&self, place: usize, arguments: &[&str]) -> String {
        let output =
            Command::new("ip").args(["netns", "exec", &self.names[place + 1]]).args(arguments).output().unwrap();
        said(&output)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "delete", name]);
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    Command::new("ip").args(arguments).output().is_ok_and(|output| output.status.success())
}

#[test]
fn in_a_real_kernel_a_node_becomes_ready_once_packets_come_back_and_not_before() {
    let Some(kernel) = Kernel::of(&["a", "b", "c"]) else { return };
    let all = book();
    let set = |place: usize, book: &Book, name: &str| {
        let output = kernel.run(place, "set", &book.of(name));
        assert!(output.status.success(), "{name}: {}", said(&output));
    };
    set(0, &without(&all, "b"), "a");
    set(1, &all, "b");
    // b has the route to a, and a has none to b.
    let refused = kernel.run(1, "open", "a\n");
    assert_eq!(said(&refused), "no packet comes back from a\n");
    assert!(!refused.status.success() && !kernel.is_open(1));
    set(0, &all, "a");
    // c was told of nobody, and nobody asks for it.
    for (place, peer) in [(1, "a\n"), (0, "b\n")] {
        let output = kernel.run(place, "open", peer);
        assert!(output.status.success() && kernel.is_open(place), "{}", said(&output));
    }
    let written = fs::read_to_string(kernel.root(1).join("etc/cni/net.d/10-kina.conflist")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["plugins"][0]["mtu"].to_string(), MTU);
    assert_eq!(written["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.1.0/24");
    assert_eq!(written["plugins"][1]["type"], "portmap");

    // Pods reach each other under their own addresses, and everything else under their node's.
    let rules = kernel.shown(1, &["iptables", "-t", "nat", "-S"]);
    for rule in [
        "-A POSTROUTING -s 10.244.1.0/24 -j KINA-ROUTED",
        "-A KINA-ROUTED -d 10.244.0.0/16 -j RETURN",
        "-A KINA-ROUTED -j MASQUERADE",
    ] {
        assert_eq!(rules.matches(rule).count(), 1, "{rules}");
    }
    assert!(kernel.shown(1, &["ip", "route", "get", "10.244.77.1"]).contains("No route to host"), "it is nobody's");

    // c goes.
    set(1, &without(&all, "c"), "b");
    let routes = kernel.shown(1, &["ip", "route", "show", "proto", "75"]);
    assert!(routes.contains("10.244.0.0/24 via 10.99.0.10") && !routes.contains("10.244.2.0/24"), "{routes}");

    // A restart takes everything but files away.
    assert!(ip(&["-n", &kernel.names[2], "route", "flush", "proto", "75"]));
    assert!(ip(&["-n", &kernel.names[2], "address", "delete", "10.244.1.1/32", "dev", "lo"]));
    assert!(!kernel.shown(1, &["ip", "route"]).contains("10.244."));
    assert!(kernel.run(1, "restore", "").status.success());
    assert!(kernel.run(0, "open", "b\n").status.success(), "a reaches b again");
    assert_eq!(kernel.shown(1, &["iptables", "-t", "nat", "-S"]), rules, "nothing is there twice");
}

fn skipped(why: &str) {
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{why}\n"));
}

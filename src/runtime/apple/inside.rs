//! What runs inside of a container on Kina's behalf. The `container` command reaches files only while a container runs, knows
//! volumes only as a whole, and has no flag for names of other hosts: a small script does the rest, before the image's own
//! first process takes its place.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::runtime::{ContainerSpec, Mount};

/// Where a container has its volumes as a whole.
pub const VOLUMES: &str = "/kina/volumes";
/// Where a container finds what was written for it while it did not run: a directory of the host.
pub const STAGE: &str = "/kina/stage";
/// In the stage: everything is in its place. It has something in it that every start of the machine makes anew.
pub const READY: &str = "ready";
/// The name that the script goes by.
const NAME: &str = "kina";

/// Prepares a container, then becomes its own first process. Arguments: a prefix of all paths (empty but in tests), what is to
/// be done to the machine's kernel, names of hosts, directories of volumes, and the first process.
pub const START: &str = r#"set -eu
root=${1#root=} sys=$2
shift 2
stage=$root/kina/stage
rm -f "$stage/ready"
case $sys in *remount*) [ -w "$root/proc/sys/kernel/hostname" ] || mount -o remount,rw "$root/proc/sys" ;; esac
case $sys in *forward*) echo 1 >"$root/proc/sys/net/ipv4/ip_forward" ;; esac
case $sys in *node*)
  # Apple's kernels have one kind of tables. An image that finds no rule of either takes the other; a rule decides it. This one
  # is of use besides: what comes over the narrow network of the host is cut to fit.
  if ! iptables-legacy -t nat -S >/dev/null 2>&1; then
    clamp="FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"
    iptables-nft -t mangle -C $clamp 2>/dev/null || iptables-nft -t mangle -A $clamp || true
  fi
  for bridged in "$root"/proc/sys/net/bridge/bridge-nf-call-*tables; do
    if [ -w "$bridged" ]; then echo 1 >"$bridged"; fi
  done
  # Where images cannot be stacked, containerd copies them.
  try=$root/var/lib/kina-stacks
  mkdir -p "$try/below" "$try/above" "$try/work" "$try/all"
  if mount -t overlay -o "lowerdir=$try/below,upperdir=$try/above,workdir=$try/work" overlay "$try/all" 2>/dev/null; then
    umount "$try/all"
  else
    export KIND_EXPERIMENTAL_CONTAINERD_SNAPSHOTTER=native
  fi
  rm -rf "$try"
  ;;
esac
count=$1
shift
if [ "$count" -gt 0 ]; then
  kept=$(grep -v ' # kina$' "$root/etc/hosts" || true)
  printf '%s\n' "$kept" >"$root/etc/hosts"
fi
while [ "$count" -gt 0 ]; do
  printf '%s %s # kina\n' "$2" "$1" >>"$root/etc/hosts"
  shift 2
  count=$((count - 1))
done
count=$1
shift
while [ "$count" -gt 0 ]; do
  mkdir -p "$root/kina/volumes/$1/$2" "$root$3"
  mount -o bind "$root/kina/volumes/$1/$2" "$root$3"
  shift 3
  count=$((count - 1))
done
for archive in "$stage"/*.tar; do
  [ -e "$archive" ] || continue
  tar -x -p -f "$archive" -C "$root/"
  rm "$archive"
done
{ cat "$root/proc/sys/kernel/random/boot_id" || date; } >"$stage/.ready" 2>/dev/null
mv "$stage/.ready" "$stage/ready"
exec "$@"
"#;

/// Prints a regular file, at most `$2` bytes of it; ends with 44 where there is none.
pub const READ: &str = r#"if [ -L "$1" ] || ! [ -f "$1" ]; then exit 44; fi
exec head -c "$2" "$1"
"#;
/// What [`READ`] ends with where there is no such file.
pub const NO_FILE: i32 = 44;

/// Unpacks an archive from standard input.
#[must_use]
pub fn unpack() -> Vec<String> {
    ["tar", "-x", "-p", "-f", "-", "-C", "/"].map(str::to_owned).to_vec()
}

/// Reads one file.
#[must_use]
pub fn read(path: &str, bytes_max: usize) -> Vec<String> {
    ["sh", "-c", READ, NAME, path, &bytes_max.to_string()].map(str::to_owned).to_vec()
}

/// What is done to the machine's kernel before anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kernel {
    /// It is made writable.
    pub remount: bool,
    /// Packets are forwarded.
    pub forward: bool,
    /// It is made ready for a node.
    pub node: bool,
}

/// Arguments of a shell that prepares a container, and becomes `first`.
#[must_use]
pub fn start(spec: &ContainerSpec, kernel: Kernel, first: &[String]) -> Vec<String> {
    preparing("", &spec.hosts, &spec.mounts, kernel, first)
}

fn preparing(
    root: &str,
    hosts: &BTreeMap<String, Ipv4Addr>,
    mounts: &[Mount],
    kernel: Kernel,
    first: &[String],
) -> Vec<String> {
    let parts = [(kernel.remount, "remount"), (kernel.forward, "forward"), (kernel.node, "node")];
    let parts: Vec<&str> = parts.into_iter().filter_map(|(wanted, part)| wanted.then_some(part)).collect();
    let sys = if parts.is_empty() { "as-it-is".to_owned() } else { parts.join("-") };
    let root = format!("root={root}");
    let mut all = ["-c", START, NAME, &root, &sys].map(str::to_owned).to_vec();
    all.push(hosts.len().to_string());
    all.extend(hosts.iter().flat_map(|(name, address)| [name.clone(), address.to_string()]));
    all.push(mounts.len().to_string());
    all.extend(mounts.iter().flat_map(|mount| {
        let Mount { volume, subdirectory, target } = mount;
        [volume.clone(), subdirectory.clone(), target.clone()]
    }));
    all.extend_from_slice(first);
    all
}

/// The directories of volumes that a container was made with, out of the arguments of its first process. None for what Kina
/// did not make.
#[must_use]
pub fn mounts(arguments: &[String]) -> Vec<Mount> {
    directories(arguments).unwrap_or_default()
}

fn directories(arguments: &[String]) -> Option<Vec<Mount>> {
    let mut rest = arguments.iter();
    if rest.next()? != "-c" || !rest.next()?.starts_with("set -eu\nroot=$") || rest.next()? != NAME {
        return None;
    }
    let mut rest = rest.skip(2);
    let hosts: usize = rest.next()?.parse().ok()?;
    let mut rest = rest.skip(hosts.checked_mul(2)?);
    let count: usize = rest.next()?.parse().ok()?;
    let mut mounts = Vec::new();
    for _ in 0..count {
        let (volume, subdirectory, target) = (rest.next()?.clone(), rest.next()?.clone(), rest.next()?.clone());
        mounts.push(Mount { volume, subdirectory, target });
    }
    Some(mounts)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::{Command, Output};

    use super::*;
    use crate::runtime::{NodeFile, archive};

    fn mount(volume: &str, subdirectory: &str, target: &str) -> Mount {
        Mount { volume: volume.into(), subdirectory: subdirectory.into(), target: target.into() }
    }

    /// A directory that stands for a container's root, with a `mount` that only notes what it is asked for.
    fn container() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["kina/stage", "etc", "proc/sys/net/ipv4", "proc/sys/kernel/random", "bin"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        fs::write(root.path().join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        fs::write(root.path().join("proc/sys/kernel/random/boot_id"), "0f7c\n").unwrap();
        let mount = root.path().join("bin/mount");
        fs::write(&mount, "#!/bin/sh\necho \"$@\" >>\"$NOTES\"\n").unwrap();
        fs::set_permissions(&mount, fs::Permissions::from_mode(0o755)).unwrap();
        root
    }

    fn sh(root: &Path, arguments: &[String]) -> Output {
        let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
        Command::new("/bin/sh").args(arguments).env("PATH", path).env("NOTES", root.join("notes")).output().unwrap()
    }

    fn text(root: &Path, name: &str) -> String {
        fs::read_to_string(root.join(name)).unwrap()
    }

    #[test]
    fn a_container_is_prepared_and_then_runs_what_it_is_for() {
        let directory = container();
        let root = directory.path();
        let files = [NodeFile { path: "/opt/deep/file".into(), mode: 0o640, content: b"one".to_vec() }];
        fs::write(root.join("kina/stage/0001.tar"), archive::pack(&files, &[]).unwrap()).unwrap();
        let hosts = BTreeMap::from([("dev-lb".to_owned(), Ipv4Addr::new(10, 1, 2, 3))]);
        let mounts = [mount("dev-1", "etcd", "/var/lib/etcd")];
        let kernel = Kernel { remount: true, forward: true, node: false };
        let first = ["echo", "a b", "$HOME"].map(str::to_owned);
        let prefix = root.display().to_string();
        for _ in 0..2 {
            let output = sh(root, &preparing(&prefix, &hosts, &mounts, kernel, &first));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stdout, b"a b $HOME\n", "no shell sees an argument");
        }
        assert_eq!(text(root, "etc/hosts"), "127.0.0.1 localhost\n10.1.2.3 dev-lb # kina\n");
        assert_eq!(text(root, "proc/sys/net/ipv4/ip_forward"), "1\n");
        let bound = format!("-o bind {prefix}/kina/volumes/dev-1/etcd {prefix}/var/lib/etcd");
        let notes = text(root, "notes");
        assert_eq!(notes.lines().collect::<Vec<_>>()[..2], [format!("-o remount,rw {prefix}/proc/sys"), bound]);
        assert!(root.join("kina/volumes/dev-1/etcd").is_dir() && root.join("var/lib/etcd").is_dir());
        assert_eq!(text(root, "opt/deep/file"), "one");
        let mode = fs::metadata(root.join("opt/deep/file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(!root.join("kina/stage/0001.tar").exists(), "what was written once is not written again");
        assert_eq!(text(root, "kina/stage/ready"), "0f7c\n");
    }

    fn program(root: &Path, name: &str, text: &str) {
        let path = root.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_node_takes_the_tables_that_its_kernel_has_and_stacks_images_where_it_can() {
        let kernel = Kernel { remount: false, forward: true, node: true };
        let first = ["sh", "-c", "echo ${KIND_EXPERIMENTAL_CONTAINERD_SNAPSHOTTER-stacked}"].map(str::to_owned);
        let prepare = |legacy: &str, mount: &str| {
            let directory = container();
            let root = directory.path();
            program(root, "iptables-legacy", legacy);
            program(root, "iptables-nft", "echo \"$@\" >>\"$NOTES\"; [ \"$3\" != -C ]");
            program(root, "mount", mount);
            program(root, "umount", "exit 0");
            fs::create_dir_all(root.join("proc/sys/net/bridge")).unwrap();
            fs::write(root.join("proc/sys/net/bridge/bridge-nf-call-iptables"), "0").unwrap();
            let output = sh(root, &preparing(&root.display().to_string(), &BTreeMap::new(), &[], kernel, &first));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(text(root, "proc/sys/net/bridge/bridge-nf-call-iptables"), "1\n");
            assert!(!root.join("var/lib/kina-stacks").exists());
            let notes = fs::read_to_string(root.join("notes")).unwrap_or_default();
            (String::from_utf8(output.stdout).unwrap(), notes)
        };
        let (stacked, rules) = prepare("exit 3", "exit 0");
        assert_eq!(stacked, "stacked\n");
        assert!(rules.contains("-t mangle -A FORWARD") && rules.contains("--clamp-mss-to-pmtu"), "{rules}");
        let (copied, rules) = prepare("exit 0", "exit 32");
        assert_eq!((copied.as_str(), rules.as_str()), ("native\n", ""), "both kinds of tables are there");
    }

    #[test]
    fn a_container_that_cannot_be_prepared_does_not_begin() {
        let directory = container();
        let root = directory.path();
        fs::write(root.join("kina/stage/0001.tar"), "no archive").unwrap();
        let prefix = root.display().to_string();
        let first = ["echo".to_owned(), "begun".to_owned()];
        let output = sh(root, &preparing(&prefix, &BTreeMap::new(), &[], Kernel::default(), &first));
        assert!(!output.status.success() && output.stdout.is_empty());
        assert!(!root.join("kina/stage/ready").exists());
    }

    #[test]
    fn only_regular_files_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::write(root.join("file"), "content").unwrap();
        std::os::unix::fs::symlink(root.join("file"), root.join("link")).unwrap();
        let read = |path: &str, limit: usize| {
            let words = read(&root.join(path).display().to_string(), limit);
            let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        assert_eq!(read("file", 100), (Some(0), "content".to_owned()));
        assert_eq!(read("file", 3), (Some(0), "con".to_owned()));
        for none in ["link", ".", "nothing"] {
            assert_eq!(read(none, 100), (Some(NO_FILE), String::new()), "{none}");
        }
    }

    #[test]
    fn mounts_are_known_again_from_the_arguments() {
        let asked = [mount("dev-1", "etc", "/etc/kubernetes"), mount("dev-1", "etcd", "/var/lib/etcd")];
        let hosts = BTreeMap::from([("dev-lb".to_owned(), Ipv4Addr::new(10, 1, 2, 3))]);
        let arguments = preparing("", &hosts, &asked, Kernel::default(), &["/sbin/init".to_owned()]);
        assert_eq!(mounts(&arguments), asked);
        assert_eq!(mounts(&arguments[..8]), []);
        assert_eq!(mounts(&["-c".to_owned(), "echo".to_owned()]), []);
        assert_eq!(mounts(&[]), []);
    }
}

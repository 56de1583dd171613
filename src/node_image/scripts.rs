//! What is run in the container, where one command is not enough. Values are arguments: no script holds one.

/// Programs that a base has to have: all of kind's do.
pub const NEEDED: [&str; 8] = ["bash", "containerd", "cp", "ctr", "find", "install", "sleep", "tar"];

/// Prints which of the programs are not there.
pub const MISSING: &str = r#"for name; do command -v "$name" >/dev/null || echo "$name"; done"#;

/// Unpacks standard input. Arguments: directory, `z` or nothing. What a release has besides, and is large, is left out.
pub const UNPACK: &str = r#"set -eu
mkdir -p "$1"
exec tar -C "$1" "-x${2}f" - --no-same-owner --no-same-permissions --wildcards \
  --exclude='*/kubernetes-src.tar.gz' --exclude='*/kube-apiserver' --exclude='*/kube-controller-manager' \
  --exclude='*/kube-scheduler' --exclude='*/kube-proxy' --exclude='*/kube-aggregator' \
  --exclude='*/apiextensions-apiserver' --exclude='*/mounter' --exclude='*/kube-log-runner'
"#;

/// Takes over what the base's containerd has, and starts one beside it, on a disk of its own: what it unpacks there can be
/// mounted. Arguments: directory, address.
pub const CONTAINERD: &str = r#"set -eu
mkdir -p "$1/containerd"
if [ -d /var/lib/containerd ]; then cp -a /var/lib/containerd/. "$1/containerd/"; fi
cat >"$1/containerd.toml" <<'TOML'
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
TOML
echo $$ >"$1/containerd.pid"
exec containerd --config "$1/containerd.toml" --root "$1/containerd" --state "$1/state" --address "$2" \
  --log-level warn >"$1/containerd.log" 2>&1
"#;

/// Waits until containerd answers. Arguments: directory, address.
pub const READY: &str = r#"
for _ in $(seq 150); do
  if ctr --connect-timeout 2s --address "$2" version >/dev/null 2>&1; then exit 0; fi
  sleep 0.2
done
tail -n 5 "$1/containerd.log" >&2
exit 1
"#;

/// Ends containerd, and waits for that. Arguments: directory.
pub const STOP: &str = r#"set -eu
pid=$(cat "$1/containerd.pid")
kill "$pid"
for _ in $(seq 150); do
  # One that nobody has waited for yet has ended, too.
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null || true)
  case $state in '' | Z) exit 0 ;; esac
  sleep 0.2
done
echo "containerd does not end" >&2
exit 1
"#;

/// Prints which of the layers remove something of those below, which can only be written as what an overlay itself makes of
/// it, and so into no layer of another image. Arguments: directory, digests without `sha256:`.
pub const REMOVING: &str = r#"set -eu
blobs=$1/containerd/io.containerd.content.v1.content/blobs/sha256 list=$1/list
shift
for layer; do
  # One that is not kept is unpacked already, by whoever made the base.
  [ -f "$blobs/$layer" ] || continue
  tar -tf "$blobs/$layer" >"$list"
  if grep -qE '(^|/)\.wh\.' "$list"; then echo "$layer"; fi
done
rm -f "$list"
"#;

/// Puts what containerd has where the node's own will look for it. What is unpacked lies outside of `/var`, which is a volume
/// of each node: an engine would copy it for every one. Arguments: directory.
pub const INSTALL: &str = r#"set -eu
snapshots=$1/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots
shared=/usr/lib/kina-node/snapshots
mkdir -p "$shared"
for one in "$snapshots"/*; do
  # A link leads to what the base has there already.
  if [ ! -d "$one" ] || [ -L "$one/fs" ]; then continue; fi
  name=${one##*/}
  rm -rf "${shared:?}/$name"
  cp -a "$one/fs" "$shared/$name"
  rm -rf "$one/fs"
  ln -s "$shared/$name" "$one/fs"
done
for one in "$shared"/*; do
  if [ -e "$one" ] && [ ! -d "$snapshots/${one##*/}" ]; then rm -rf "$one"; fi
done
rm -rf "$1/containerd/tmpmounts" /var/lib/containerd
mkdir -p /var/lib/containerd
cp -a "$1/containerd/." /var/lib/containerd/
"#;

/// Prints the manifests that a node applies.
pub const MANIFESTS: &str = "shopt -s nullglob; for file in /kind/manifests/*.yaml; do cat \"$file\"; echo; done";

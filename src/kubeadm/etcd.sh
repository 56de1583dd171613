# Runs etcdctl beside the etcd of the control plane that the first argument names: images of nodes have it in etcd's own image
# only.
set -eu
node=$1
shift
# Workloads may run here, too, and have containers of this name.
etcd=$(crictl ps --quiet --state Running --label io.kubernetes.pod.namespace=kube-system \
  --label "io.kubernetes.pod.name=etcd-$node" --label io.kubernetes.container.name=etcd | head -n 1)
if [ -z "$etcd" ]; then
  echo "no etcd runs here" >&2
  exit 1
fi
pki=/etc/kubernetes/pki/etcd
# `localhost` is the address of either family on which kubeadm lets etcd listen.
exec crictl exec "$etcd" etcdctl --endpoints=https://localhost:2379 --command-timeout=4s --dial-timeout=2s \
  --cacert="$pki/ca.crt" --cert="$pki/healthcheck-client.crt" --key="$pki/healthcheck-client.key" "$@"

#!/bin/bash
# Gives this machine an address that stays, on a device of its own (`kina0`, VXLAN) above whatever address the runtime hands
# out. `config` beside this script has the address with its prefix, and the number of the network; `peers` says where the
# others are now: their stable address and the one of the runtime a line, and `end` on the last line.
#
#   run up       makes the device, and takes the peers that were known last; at every boot, before the node's services
#   run peers    takes the peers from standard input
#
# A device's MAC follows from its address, so neighbours never change: when something moved, only forwarding entries are
# rewritten, and connections go on.
set -eu
cd "$(dirname "$0")"
device=kina0
# Not 4789, which pod networks use.
port=14789
exec 9>lock
flock 9
read -r cidr vni <config
address=${cidr%/*}

mac() {
  local IFS=.
  # shellcheck disable=SC2086
  printf '02:6b:%02x:%02x:%02x:%02x' $1
}

# Every entry that is wanted and no other.
apply() {
  local lines line peer at hardware wanted=" "
  [ -f peers ] || return 0
  mapfile -t lines <peers
  [[ ${#lines[@]} -gt 0 && ${lines[-1]} == end ]] || return 0
  for line in "${lines[@]:0:${#lines[@]}-1}"; do
    read -r peer at <<<"$line"
    [[ $peer == "$address" ]] && continue
    hardware=$(mac "$peer")
    ip neigh replace "$peer" lladdr "$hardware" dev $device nud permanent
    bridge fdb replace "$hardware" dev $device dst "$at"
    wanted+="$hardware $peer "
  done
  bridge fdb show dev $device | while read -r hardware line; do
    [[ $line == *"dst "* && $wanted != *" $hardware "* ]] && bridge fdb del "$hardware" dev $device ${line//permanent/}
  done || true
  ip -4 neigh show dev $device nud permanent | while read -r peer line; do
    [[ $wanted != *" $peer "* ]] && ip neigh del "$peer" dev $device
  done || true
}

case $1 in
  up)
    # What the packets are wrapped in takes 50 bytes of those that fit through the runtime's network.
    read -r below < <(ip -4 -o route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p')
    mtu=$(($(cat "/sys/class/net/$below/mtu") - 50))
    ip link show $device >/dev/null 2>&1 || ip link add $device type vxlan id "$vni" dstport $port nolearning
    ip link set $device address "$(mac "$address")" mtu $mtu up
    ip address replace "$cidr" dev $device
    apply
    ;;
  peers)
    cat >peers.new
    mv peers.new peers
    # Before the device is there, what makes it takes them.
    ip link show $device >/dev/null 2>&1 || exit 0
    apply
    ;;
  *) exit 2 ;;
esac

#!/bin/bash
# The pod network of one node: routes to the pods of every other node, its own pods behind its address where they leave the
# network, and, once a packet has come back from the others, the CNI configuration that makes the node Ready.
#
#   run set      takes the book of all nodes from standard input, and makes everything as it says
#   run open     proves the way to the nodes named on standard input, one a line; then writes the CNI configuration
#   run restore  makes everything as the last book says; where that fails, the node is not to be Ready
#
# The book: `self NAME`, `pods SUBNET`, a line `node NAME ADDRESS RANGE GATEWAY` for every node, and `end`. A book without its
# end is half a book. The gateway is the first address of a node's range: every node has its own, so that there is somebody to
# answer before the first pod.
set -u
export LC_ALL=C

directory=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${directory%/kina/routed}
book=$directory/book
configuration=$root/etc/cni/net.d/10-kina.conflist
# By which the kernel knows routes as Kina's: those of nodes that are gone are found again.
protocol=75
chain=KINA-ROUTED
# Where kubelets listen. Whoever listens nowhere there refuses, which is an answer as well.
port=10250
# How long an answer of all nodes is waited for, in seconds.
patience=8

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

declare -A address range gateway
read_book() {
  local lines line kind name a r g
  mapfile -t lines <"$1" || die "there is no book of nodes"
  [[ ${#lines[@]} -gt 0 && ${lines[-1]} == end ]] || die "the book of nodes has no end"
  self= pods=
  for line in "${lines[@]}"; do
    read -r kind name a r g <<<"$line"
    case $kind in
      self) self=$name ;;
      pods) pods=$name ;;
      node) address[$name]=$a range[$name]=$r gateway[$name]=$g ;;
    esac
  done
  [[ -n $self && -n $pods && -n ${address[$self]:-} ]] || die "the book of nodes does not tell of this node"
}

# Routes as the book says, and none of Kina's besides. What lies in the network and is nobody's is unreachable: it is not to
# leave by the default route.
routes() {
  local name there words said
  declare -A wanted=([$pods]=1)
  ip -4 address replace "${gateway[$self]}/32" dev lo scope host || die "the gateway of pods cannot be set"
  {
    printf 'route replace unreachable %s proto %s metric 9999\n' "$pods" $protocol
    for name in "${!address[@]}"; do
      [[ $name == "$self" ]] && continue
      wanted[${range[$name]}]=1
      printf 'route replace %s via %s src %s proto %s\n' "${range[$name]}" "${address[$name]}" "${gateway[$self]}" $protocol
    done
    while read -r -a words; do
      there=${words[0]:-}
      [[ $there == unreachable ]] && there=${words[1]}
      [[ -z $there || -n ${wanted[$there]:-} ]] || printf 'route del %s proto %s\n' "$there" $protocol
    done < <(ip -4 route show proto $protocol)
  } >"$directory/batch"
  said=$(ip -4 -force -batch "$directory/batch" 2>&1) || die "routes cannot be set: $said"
}

# Pods keep their addresses among themselves, and take their node's where they leave the network.
masquerade() {
  local kind
  # What the image has chosen goes first: the kernel may know either kind of tables, or both.
  for kind in '' -nft -legacy none; do
    [[ $kind == none ]] && die "the kernel has no tables of iptables for nat"
    iptables$kind -w 5 -t nat -S POSTROUTING >/dev/null 2>&1 && break
  done
  {
    printf '*nat\n:%s - [0:0]\n' $chain
    printf -- '-A %s -d %s -j RETURN\n' $chain "$pods"
    printf -- '-A %s -m addrtype --dst-type LOCAL,MULTICAST,BROADCAST -j RETURN\n' $chain
    printf -- '-A %s -j MASQUERADE\nCOMMIT\n' $chain
  } | iptables$kind-restore -w 5 --noflush || die "pods cannot be masqueraded"
  iptables$kind -w 5 -t nat -C POSTROUTING -s "${range[$self]}" -j $chain 2>/dev/null ||
    iptables$kind -w 5 -t nat -A POSTROUTING -s "${range[$self]}" -j $chain || die "pods cannot be masqueraded"
}

forward() {
  [[ $(<"$root/proc/sys/net/ipv4/ip_forward") == 1 ]] && return
  echo 1 >"$root/proc/sys/net/ipv4/ip_forward" || die "packets cannot be forwarded"
}

apply() {
  read_book "$book"
  forward
  routes
  masquerade
}

# A packet from the range of this node to that of another and back: by the route there, and by the one that leads here.
reaches() {
  local said
  said=$(timeout 1 bash -c ': <>"/dev/tcp/$0/$1"' "$1" $port 2>&1) || [[ $said == *"Connection refused"* ]]
}

# Names of nodes from which nothing comes back.
silent() {
  local name
  for name in "$@"; do
    { [[ -n ${gateway[$name]:-} ]] && reaches "${gateway[$name]}"; } || printf '%s\n' "$name" &
  done
  wait
}

# The largest packet of the device that has the address of this node.
mtu() {
  local device words
  read -r _ device _ < <(ip -4 -o address show to "${address[$self]}/32")
  words=$(ip -o link show dev "${device:-}" 2>/dev/null) || die "no device has the address of this node"
  [[ $words =~ \ mtu\ ([0-9]+)\  ]] || die "the device of this node does not tell its mtu"
  printf '%s' "${BASH_REMATCH[1]}"
}

open() {
  local names left most
  mapfile -t names
  left=("${names[@]}")
  # Others may be told of this node in this very moment.
  while ((${#left[@]})); do
    mapfile -t left < <(silent "${left[@]}")
    ((${#left[@]})) || break
    ((SECONDS < patience)) || die "no packet comes back from ${left[*]}"
    sleep 0.2
  done
  most=$(mtu) || exit 1
  mkdir -p "${configuration%/*}"
  printf '{"cniVersion":"0.3.1","name":"kina","plugins":[{"type":"ptp","ipMasq":false,"mtu":%s,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam-state","ranges":[[{"subnet":"%s"}]],"routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}\n' \
    "$most" "${range[$self]}" >"$directory/conflist" || die "the CNI configuration cannot be written"
  # At once or not at all: containerd watches the directory.
  cp "$directory/conflist" "${configuration%/*}/.kina.part" && mv "${configuration%/*}/.kina.part" "$configuration" ||
    die "the CNI configuration cannot be written"
}

main() {
  exec 9>"$directory/lock"
  flock -w 15 9 || die "another run does not come to its end"
  case $1 in
    set)
      cat >"$directory/book.part"
      (read_book "$directory/book.part") || exit 1
      mv "$directory/book.part" "$book"
      apply
      ;;
    open)
      apply
      # Others go on meanwhile.
      exec 9>&-
      open
      ;;
    restore)
      [[ -e $book ]] || exit 0
      (apply) && exit 0
      rm -f "$configuration"
      exit 1
      ;;
    *) die "there is no $1" ;;
  esac
}

# Read as a whole before it begins: it may be replaced meanwhile.
main "$@"
exit

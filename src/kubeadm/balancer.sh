#!/bin/bash
# Forwards the port of the API servers to those of the nodes, in the kernel: no connection is proxied.
#
# `backends` beside this script names their addresses, one a line, and `end` on the last line: a file without it is being
# written. A single backend always gets everything; of several, those that answer, which is asked every second. One that
# refuses twice is out; one that is slow, as all are on a busy host, only after four times. Where nobody answers everybody is
# tried.
set -u
cd "$(dirname "$0")"
port=6443
chain=KINA-BALANCER

# Where the runtime moves addresses, the one that clients know is on a device of its own.
if [[ -e /kina/overlay/config ]]; then
  bash /kina/overlay/run up || exit
fi

# The kernel may know either kind of tables, or both.
for kind in nft legacy; do
  if iptables-$kind -t nat -N $chain 2>/dev/null || iptables-$kind -t nat -F $chain 2>/dev/null; then
    break
  fi
done
iptables="iptables-$kind"
$iptables -t nat -C PREROUTING -p tcp --dport $port -j $chain 2>/dev/null ||
  $iptables -t nat -A PREROUTING -p tcp --dport $port -j $chain
# The way back leads through here, too.
$iptables -t nat -C POSTROUTING -p tcp --dport $port -j MASQUERADE 2>/dev/null ||
  $iptables -t nat -A POSTROUTING -p tcp --dport $port -j MASQUERADE
# Clients in the same network must not be told of a shorter way.
$iptables -C OUTPUT -p icmp --icmp-type redirect -j DROP 2>/dev/null ||
  $iptables -A OUTPUT -p icmp --icmp-type redirect -j DROP

backends=()
read_backends() {
  local lines
  mapfile -t lines <backends || return
  [[ ${#lines[@]} -gt 0 && ${lines[-1]} == end ]] && backends=("${lines[@]:0:${#lines[@]}-1}")
}

# What an answer counts: nothing for one that is up (one that refuses a stranger is), 2 for none that listens, else 1.
ask() {
  local code
  code=$(curl --insecure --silent --output /dev/null --write-out '%{http_code}' --max-time 3 "https://$1:$port/readyz")
  case $?,$code in
    *,200 | *,401 | *,403) echo "$1 0" ;;
    7,*) echo "$1 2" ;;
    *) echo "$1 1" ;;
  esac
}

declare -A failures=()
answering() {
  local backend count found=()
  while read -r backend count; do
    if [[ $count -eq 0 ]]; then failures[$backend]=0; else failures[$backend]=$((${failures[$backend]:-4} + count)); fi
  done < <(for backend in "${backends[@]}"; do ask "$backend" & done; wait)
  for backend in "${backends[@]}"; do
    [[ ${failures[$backend]:-4} -lt 4 ]] && found+=("$backend")
  done
  healthy=("${found[@]}")
  [[ ${#found[@]} -gt 0 ]] || healthy=("${backends[@]}")
}

forward() {
  local rest=$# backend
  {
    printf '*nat\n:%s - [0:0]\n' $chain
    for backend in "$@"; do
      local share=
      [[ $rest -gt 1 ]] && share="-m statistic --mode nth --every $rest --packet 0"
      printf -- '-A %s -p tcp %s -j DNAT --to-destination %s:%s\n' $chain "$share" "$backend" $port
      rest=$((rest - 1))
    done
    printf 'COMMIT\n'
  } | "$iptables-restore" --noflush
}

# Connections to one that is away, or no backend any more, are forgotten: what comes next on them is refused, and the client
# connects anew.
declare -A known=()
forget() {
  local backend
  for backend in "${backends[@]}"; do known[$backend]=1; done
  for backend in "${!known[@]}"; do
    [[ " $* " == *" $backend "* ]] || conntrack -D -p tcp --reply-src "$backend" --reply-port-src $port >/dev/null 2>&1
  done
}

forwarded=none
healthy=()
while :; do
  read_backends 2>/dev/null
  if [[ ${#backends[@]} -le 1 ]]; then healthy=("${backends[@]}"); else answering; fi
  if [[ "${healthy[*]}" != "$forwarded" ]] && forward "${healthy[@]}"; then
    forwarded="${healthy[*]}"
    forget "${healthy[@]}"
    printf 'forwards to: %s\n' "${forwarded:-nobody}"
  fi
  sleep 1
done

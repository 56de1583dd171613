#!/bin/bash
# Forwards the port of the API servers to those of the nodes, in the kernel: no connection is proxied.
#
# `backends` beside this script names their addresses, one a line, and `end` on the last line: a file without it is being
# written. A single backend always gets everything; of several, those that answer, which is asked every second. Two
# questions without an answer count, one does not, and where nobody answers everybody is tried.
set -u
cd "$(dirname "$0")"
port=6443
chain=KINA-BALANCER

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

# An API server that refuses a stranger answers.
answers() {
  local code
  code=$(curl --insecure --silent --output /dev/null --write-out '%{http_code}' --max-time 2 "https://$1:$port/readyz")
  [[ $code == 200 || $code == 401 || $code == 403 ]]
}

declare -A failures=()
answering() {
  local backend answered found=()
  answered=$(for backend in "${backends[@]}"; do { answers "$backend" && echo "$backend"; } & done; wait)
  for backend in "${backends[@]}"; do
    if [[ $'\n'$answered$'\n' == *$'\n'$backend$'\n'* ]]; then
      failures[$backend]=0
    else
      failures[$backend]=$((${failures[$backend]:-2} + 1))
    fi
    [[ ${failures[$backend]} -lt 2 ]] && found+=("$backend")
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

# Connections to one that is away are forgotten: what comes next on them is refused, and the client connects anew.
forget() {
  local backend
  for backend in "${backends[@]}"; do
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

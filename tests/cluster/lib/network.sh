# shellcheck shell=bash
# Addresses, links, packet filter rules, mounts and kernel settings: made for
# the cluster, and taken back.

# Kernel settings that the kubelet, kube-proxy and the CNI plugins change.
readonly changed_settings='
  net.ipv4.ip_forward net.ipv4.conf.all.route_localnet net.ipv6.conf.all.forwarding
  vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops
  kernel.keys.root_maxkeys kernel.keys.root_maxbytes
'

network_up() {
  ip address replace "$node_address/32" dev lo
  forward_pods
}

# forward_pods: on a machine that forwards nothing by default (Docker's do),
# let the pods' traffic through. Last in the chain: it decides only what no
# other rule has decided. The name is one that rules_remove finds.
forward_pods() {
  local chain=CNI-PAQUEBOT
  iptables --wait=10 --new-chain "$chain" 2>/dev/null || iptables --wait=10 --flush "$chain"
  iptables --wait=10 --append "$chain" --source "$pod_range" --jump ACCEPT
  iptables --wait=10 --append "$chain" --destination "$pod_range" --jump ACCEPT
  iptables --wait=10 --check FORWARD --jump "$chain" 2>/dev/null || iptables --wait=10 --append FORWARD --jump "$chain"
}

# Also right when there is nothing to remove.
network_down() {
  local link
  if ip link show dev "$bridge" >/dev/null 2>&1; then
    for link in $(ip -o link show master "$bridge" | sed -E 's/^[0-9]+: ([^@:]+).*/\1/'); do
      ip link delete "$link" 2>/dev/null || true
    done
    ip link delete "$bridge"
  fi
  ip address delete "$node_address/32" dev lo 2>/dev/null || true
  rules_remove
  conntrack -D -d "$service_range" >/dev/null 2>&1 || true
  conntrack -D -s "$pod_range" >/dev/null 2>&1 || true
}

# rules_remove: kube-proxy's, the kubelet's and the CNI plugins' chains, and
# the rules elsewhere that lead to them. Others' rules are not rewritten.
rules_remove() {
  local tool table
  for tool in iptables ip6tables; do
    for table in nat filter mangle; do
      rules_of "$tool" "$table" | rules_removal "$table" | "$tool-restore" --wait=10 --noflush ||
        say "some rules of $tool's table $table could not be removed"
    done
  done
}

rules_of() { "$1-save" -t "$2" 2>/dev/null | grep -E '(KUBE|CNI)-' || true; }

# rules_removal TABLE: turn saved rules into the commands that remove them.
# Naming a chain flushes it; jumps to it go next, then the chain.
rules_removal() {
  local saved
  saved=$(cat)
  [ -n "$saved" ] || return 0
  echo "*$1"
  sed -nE 's/^:((KUBE|CNI)-[^ ]+) .*/:\1 - [0:0]/p' <<<"$saved"
  grep -E '^-A ' <<<"$saved" | grep -vE '^-A (KUBE|CNI)-' | sed 's/^-A/-D/' || true
  sed -nE 's/^:((KUBE|CNI)-[^ ]+) .*/-X \1/p' <<<"$saved"
  echo COMMIT
}

# settings_save: once, before anything changes one.
settings_save() {
  local name
  [ ! -e "$state/settings" ] || return 0
  for name in $changed_settings; do
    [ ! -r "/proc/sys/${name//.//}" ] || echo "$name $(cat "/proc/sys/${name//.//}")"
  done | write "$state/settings"
}

settings_restore() {
  local name value
  [ -e "$state/settings" ] || return 0
  while read -r name value; do
    [ "$(cat "/proc/sys/${name//.//}")" = "$value" ] || echo "$value" >"/proc/sys/${name//.//}" || true
  done <"$state/settings"
}

# mounts_remove DIR: everything mounted at or below it, the deepest first.
mounts_remove() {
  local directory=$1 attempt point
  for attempt in 1 2 3; do
    while read -r point; do
      umount "$point" 2>/dev/null || umount --lazy "$point" 2>/dev/null || true
    done < <(mounts_below "$directory")
    [ -n "$(mounts_below "$directory")" ] || return 0
    sleep "0.$attempt"
  done
  fail "these could not be unmounted:" "$(mounts_below "$directory")"
}

# mounts_below DIR: last mounted first, which is also deepest first. The
# kernel writes a space in a path as \040.
mounts_below() {
  awk -v directory="$1" '$5 == directory || index($5, directory "/") == 1 { print $5 }' /proc/self/mountinfo |
    tac | while read -r point; do printf '%b\n' "${point//\\0/\\00}"; done
}

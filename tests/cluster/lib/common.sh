# shellcheck shell=bash disable=SC2034
# Settings, messages, waiting and locking: what every other part uses.

# Versions of what is built from source. kube/go.mod and coredns/go.mod say the
# same ones.
readonly kubernetes_version=v1.34.4
readonly helm_version=v3.19.2
readonly coredns_version=v1.12.4

# Where builds are kept. Deleting it costs the next run some minutes.
readonly cache=${PAQUEBOT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/paquebot}
# Everything the cluster writes. `down` removes it.
readonly state=${PAQUEBOT_CLUSTER:-/var/lib/paquebot-cluster}

# Addresses from the range that is set aside for benchmarks (RFC 2544), so that
# they meet nobody's private network.
readonly node_address=198.18.255.1
readonly pod_range=198.18.0.0/24
readonly service_range=198.19.0.0/16
readonly api_service_address=198.19.0.1
readonly dns_address=198.19.0.10
readonly node_name=node
readonly bridge=paquebot0
readonly network_name=paquebot-cluster
readonly cgroup_name=paquebot-cluster
readonly api_url=https://$node_address:6443
readonly kubeconfig=$state/kubeconfig
readonly containerd_socket=$state/run/containerd.sock
readonly lock_file=/run/lock/paquebot-cluster.lock

# The file that says that a directory is ours to delete.
readonly state_mark=.paquebot-cluster
# Unix socket paths end at 107 bytes; ours add at most 40 to the directory.
readonly longest_state_path=64

say() { printf 'cluster: %s\n' "$*" >&2; }

fail() {
  printf 'cluster: error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

# seconds_since START: whole seconds since $START (a value of $SECONDS).
seconds_since() { echo $((SECONDS - $1)); }

# wait_for SECONDS COMMAND...: run COMMAND until it succeeds.
wait_for() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

require_root() {
  [ "$(id -u)" = 0 ] || fail "this needs root: it makes network addresses, mounts and containers." \
    "Run it as root, or name a cluster of your own: make … CONTEXT=your-kube-context"
  [ "$(uname -s)" = Linux ] || fail "the test cluster runs on Linux only." \
    "Elsewhere, name a cluster of your own: make … CONTEXT=your-kube-context"
}

# A state path goes into configuration files, mount tables and `rm -rf`: plain
# characters only, absolute, and never a directory that holds something else.
check_state_path() {
  local path=$1
  [[ $path =~ ^/[A-Za-z0-9._/-]+$ && $path != *..* && $path != *//* && $path != */ ]] ||
    fail "$path cannot hold the cluster: an absolute path of letters, digits, . _ - is needed."
  [ "${#path}" -le "$longest_state_path" ] ||
    fail "$path is too long: $longest_state_path characters at most, since unix sockets are made below it."
  [ ! -e "$path" ] || [ -e "$path/$state_mark" ] || [ -z "$(ls -A "$path" 2>/dev/null)" ] ||
    fail "$path exists and is not the cluster's: nothing in it was touched." \
      "Set PAQUEBOT_CLUSTER (or PAQUEBOT_APISERVER) to a directory that does not exist."
}

# claim_state PATH: make it, and mark it before anything else is in it.
claim_state() {
  check_state_path "$1"
  mkdir -p "$1"
  chmod 0755 "$1"
  : >"$1/$state_mark"
}

# remove_state PATH: the mark goes last, so that a removal cut short is still
# recognised, and a mount that is left over is not followed.
remove_state() {
  [ -e "$1/$state_mark" ] || { rmdir "$1" 2>/dev/null || true; return 0; }
  find "$1" -mindepth 1 -maxdepth 1 ! -name "$state_mark" -exec rm -rf --one-file-system {} +
  rm -f "$1/$state_mark"
  rmdir "$1"
}

# take_lock FILE: one `up`, `down` or `load` at a time. The lock is held until
# this script ends, however it ends; what it starts does not inherit it. The
# file may be deleted by its holder, hence the second look.
take_lock() {
  local file=$1 said=
  while :; do
    exec 9>>"$file"
    if ! flock -n 9; then
      [ -n "$said" ] || say "waiting for another run of this command to end"
      said=yes
      flock 9
    fi
    [ "$(stat -Lc %i "$file" 2>/dev/null)" = "$(stat -Lc %i /proc/self/fd/9)" ] && return
    exec 9>&-
  done
}

# write FILE: standard input, complete or not at all.
write() {
  cat >"$1.new"
  mv "$1.new" "$1"
}

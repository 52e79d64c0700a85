# shellcheck shell=bash
# What the cluster needs from the distribution.

# "what must be there" and the Debian package that brings it: a command's name
# or a file's path.
readonly cluster_needs='
  containerd containerd
  ctr containerd
  runc runc
  /usr/lib/cni/bridge containernetworking-plugins
  etcd etcd-server
  buildah buildah
  iptables iptables
  conntrack conntrack
  ip iproute2
  openssl openssl
  dig bind9-dnsutils
  mount mount
  setsid util-linux
'
readonly apiserver_needs='
  etcd etcd-server
  openssl openssl
  setsid util-linux
'
readonly image_needs='
  buildah buildah
  /etc/ssl/certs/ca-certificates.crt ca-certificates
'

# Daemons of packages are in sbin, which is not in every user's PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# missing_packages TABLE: the packages of what is not there, each once.
missing_packages() {
  local need package
  while read -r need package; do
    [ -n "$need" ] || continue
    if [[ $need == /* ]]; then [ -e "$need" ]; else command -v "$need" >/dev/null; fi || echo "$package"
  done <<<"$1" | sort -u
}

# need_packages TABLE: install what is missing, or say what it is.
need_packages() {
  local packages
  packages=$(missing_packages "$1" | tr '\n' ' ')
  [ -n "$packages" ] || return 0
  command -v apt-get >/dev/null || fail "missing: $packages" \
    "These are Debian's package names; on this distribution, install their equivalents yourself" \
    "(CNI plugins in /usr/lib/cni), or name a cluster of your own: make … CONTEXT=your-kube-context"
  [ "$(id -u)" = 0 ] || fail "missing: $packages" "As root: apt-get update && apt-get install $packages"
  install_packages "$packages"
}

install_packages() {
  local log
  log=$(mktemp)
  say "installing from Debian: $1"
  # shellcheck disable=SC2086 # a list of names
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $1; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get could not install: $1" "Its whole output is in $log"
  fi
  rm -f "$log"
}

# need_go: Go builds Kubernetes; Debian 12's own is too old.
need_go() {
  local version
  export PATH="$PATH:/usr/local/go/bin"
  version=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || version=
  if [[ $version =~ ^go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 24 ]; then return; fi
  fail "Go 1.24 or newer is needed to build Kubernetes ${version:+(found $version)}" \
    "It cannot be installed from here: see https://go.dev/doc/install," \
    "or on Debian 12, bookworm-backports: apt-get install -t bookworm-backports golang-go"
}

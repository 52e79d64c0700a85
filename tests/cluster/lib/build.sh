# shellcheck shell=bash
# Kubernetes, helm and CoreDNS from source, into the cache. A build is keyed by
# name, version and a hash of what defines it, and appears in the cache only
# when it is whole: it is made under another name and renamed.

readonly go_flags=(-trimpath)
readonly go_link_flags="-s -w"
readonly kubernetes_link_flags="$go_link_flags -X k8s.io/component-base/version.gitVersion=$kubernetes_version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"

# cached NAME VERSION DEFINITION: the path in the cache.
cached() { echo "$cache/$1-$2-$(sha256sum <<<"$3" | cut -c1-12)"; }

# module_definition DIR LINK-FLAGS: the source and the flags of a module here.
module_definition() { cat "$here/$1"/*.go "$here/$1"/go.mod "$here/$1"/go.sum; echo "${go_flags[*]} $2"; }

kube_binary() { cached kube "$kubernetes_version" "$(module_definition kube "$kubernetes_link_flags")"; }
helm_binary() { cached helm "$helm_version" "${go_flags[*]} $go_link_flags"; }
coredns_binary() { cached coredns "$coredns_version" "$(module_definition coredns "$go_link_flags")"; }
pause_binary() { cached pause 1 "$(cat "$here/kube/pause/main.go") ${go_flags[*]} $go_link_flags"; }

build_all() {
  build_kube
  build_in_cache "$(coredns_binary)" "CoreDNS $coredns_version" 750 build_package coredns "$go_link_flags"
  build_helm
  build_in_cache "$(pause_binary)" "the pause program" 60 build_package kube/pause "$go_link_flags"
}

build_helm() {
  build_in_cache "$(helm_binary)" "helm $helm_version" 950 build_released helm.sh/helm/v3/cmd/helm "$helm_version"
}

build_kube() {
  build_in_cache "$(kube_binary)" "Kubernetes $kubernetes_version" 2650 build_package kube "$kubernetes_link_flags"
}

# build_in_cache PATH TITLE PACKAGES COMMAND...: run COMMAND with a file to
# write to as its last argument, unless PATH is there. Two runs at once build
# once; what a killed run left is removed.
build_in_cache() {
  local path=$1 title=$2 packages=$3 started=$SECONDS
  shift 3
  [ ! -x "$path" ] || return 0
  mkdir -p "$cache"
  (
    exec 8>"$cache/.building"
    flock -n 8 || { say "waiting for another build to end"; flock 8; }
    [ ! -x "$path" ] || exit 0
    need_go
    rm -rf "$cache"/.partial.*
    partial=$(mktemp -d "$cache/.partial.XXXXXX")
    log=$cache/$(basename "$path").log
    say "building $title from source (once; kept in $cache)"
    build_watched "$log" "$title" "$packages" "$started" "$@" "$partial/out" || {
      tail -n 15 "$log" >&2
      fail "$title could not be built" "The whole output is in $log"
    }
    mv "$partial/out" "$path"
    rm -rf "$partial" "$log"
    say "built $title in $(seconds_since "$started") s, $(($(stat -c %s "$path") / 1000000)) MB"
  )
}

# build_watched LOG TITLE PACKAGES STARTED COMMAND...: run it, and say each 15
# seconds how far it is. The compiler prints a line for each package (go -v);
# what Go's own cache still has is not compiled and not counted.
build_watched() {
  local log=$1 title=$2 packages=$3 started=$4 job next
  shift 4
  "$@" >"$log" 2>&1 </dev/null &
  job=$!
  next=$((SECONDS + 15))
  while kill -0 "$job" 2>/dev/null; do
    sleep 0.5
    [ "$SECONDS" -ge "$next" ] || continue
    next=$((SECONDS + 15))
    say "$title: $(build_progress "$log" "$packages"), $(seconds_since "$started") s"
  done
  wait "$job"
}

build_progress() {
  local compiled
  compiled=$(grep -vc '^go: ' "$1" || true)
  if [ "$compiled" -eq 0 ]; then
    echo "$(grep -c '^go: downloading' "$1" || true) modules downloaded"
  else
    echo "$compiled of about $2 packages compiled"
  fi
}

# Two ways to build: a package of our own, or a released one as it is. CGO is
# off: no C compiler is needed, and the binaries run in images FROM scratch.
build_package() {
  local directory=$1 link_flags=$2 output=$3
  cd "$here/$directory" || return
  CGO_ENABLED=0 nice -n 5 go build -v "${go_flags[@]}" -buildvcs=false -ldflags "$link_flags" -o "$output" .
}

build_released() {
  local package=$1 version=$2 output=$3 directory
  directory=$(dirname "$output")
  cd / || return
  CGO_ENABLED=0 GOBIN=$directory nice -n 5 go install -v "${go_flags[@]}" -ldflags "$go_link_flags" "$package@$version" || return
  mv "$directory/$(basename "$package")" "$output"
}

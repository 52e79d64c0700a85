# shellcheck shell=bash
# Container images: the cluster's own two, and loading of archives.

# buildah with a store of our own in the cache. The images are FROM scratch
# and small: the vfs driver needs no kernel support, and nothing is run in them.
buildah_here() {
  mkdir -p "$cache/images"
  printf '[network]\nnetwork_config_dir = "%s"\n' "$cache/images/network" >"$cache/images/containers.conf"
  CONTAINERS_CONF=$cache/images/containers.conf buildah --root "$cache/images/root" --runroot "$cache/images/run" --storage-driver vfs "$@"
}

# system_image NAME BINARY: an archive in the cache of an image that is one
# static program. Prints the archive's path.
system_image() {
  local name=$1 binary=$2 archive
  archive=$cache/$(basename "$binary").image.tar
  if [ ! -e "$archive" ]; then
    say "packing the image localhost/$name"
    build_system_image "$name" "$binary" "$archive.partial" >&2
    mv "$archive.partial" "$archive"
  fi
  echo "$archive"
}

build_system_image() {
  local name=$1 binary=$2 archive=$3 container image=localhost/$1:cluster
  rm -f "$archive"
  container=$(buildah_here from scratch)
  buildah_here copy --quiet "$container" "$binary" "/$name" >/dev/null
  buildah_here config --user 65532:65532 --entrypoint "[\"/$name\"]" "$container"
  buildah_here commit --quiet --rm "$container" "$image" >/dev/null
  buildah_here push --quiet "$image" "docker-archive:$archive:$image"
  buildah_here rmi --force "$image" >/dev/null
}

ctr_here() { ctr --address "$containerd_socket" --namespace k8s.io "$@"; }

# import_images ARCHIVE...
import_images() {
  local archive
  for archive in "$@"; do
    ctr_here images import --no-unpack "$archive" >/dev/null 2>"$state/log/import.log" ||
      fail "$archive could not be loaded" "$(tail -n 3 "$state/log/import.log")"
  done
}

cluster_load() {
  local archive
  [ $# -gt 0 ] || fail "load needs the path of an image archive (docker save, buildah push … docker-archive:)"
  require_root
  [ -e "$state/ready" ] || fail "the cluster is not up" "Run: make cluster-up"
  for archive in "$@"; do
    [ -r "$archive" ] || fail "$archive cannot be read"
    import_images "$archive"
    say "loaded $archive"
  done
}

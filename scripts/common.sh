# shellcheck shell=bash
# What every script here uses: messages, seconds, and installing what is missing.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
# Where things that are built once are kept, as tests/cluster keeps its own. Deleting it costs the next run some minutes.
# shellcheck disable=SC2034 # used by those who source this file
readonly cache=${PAQUEBOT_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/paquebot}
export PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH"

say() { printf '%s\n' "$*" >&2; }

fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
  exit 1
}

# minutes SECONDS: 75 becomes 1m15s.
minutes() { if [ "$1" -lt 60 ]; then echo "$1s"; else printf '%dm%02ds\n' $(($1 / 60)) $(($1 % 60)); fi; }

# need COMMAND=PACKAGE…: install the Debian packages whose commands are missing, or say which they are.
need() {
  local pair missing=() log
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null ||
    fail "missing: ${missing[*]}" "These are Debian's package names: install your distribution's equivalents."
  [ "$(id -u)" = 0 ] || fail "missing: ${missing[*]}" "As root: apt-get update && apt-get install ${missing[*]}"
  say "installing from Debian: ${missing[*]}"
  log=$(mktemp)
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "apt-get could not install: ${missing[*]}" "Its whole output is in $log"
  fi
  rm -f "$log"
}

# need_rust: the compiler cannot come from Debian (12 has 1.63); rustup takes the version that rust-toolchain.toml pins.
# aws-lc-rs is C: it needs a C compiler, and cmake where no ready assembly fits.
need_rust() {
  command -v cargo >/dev/null || fail "Rust is needed, and Debian's is too old." \
    "Install rustup (https://rustup.rs), then run this again: it takes the version that rust-toolchain.toml pins."
  need cc=gcc cmake=cmake make=make
  if [ ! -e /usr/include/stdlib.h ]; then need no-libc-headers=libc6-dev; fi
  (cd "$root" && cargo --version >/dev/null) || fail "the Rust toolchain of rust-toolchain.toml could not be installed"
}

# unpacked PACKAGE…: a directory with these Debian packages unpacked over one another, for programs that must not be
# installed: as packages they conflict with others, or start services. The libraries that they need are installed.
unpacked() {
  local directory names=$* package partial libraries
  directory=$cache/unpacked-${names// /+}
  if [ ! -d "$directory" ]; then
    [ "$(id -u)" = 0 ] || fail "missing: $names" "Run this as root: they are taken from Debian"
    partial=$(mktemp -d)
    say "taking from Debian: $names"
    apt-get update -q >/dev/null 2>&1 || true
    (cd "$partial" && apt-get download -q "$@" >/dev/null 2>&1) || fail "apt-get could not download: $names"
    mkdir "$partial/tree"
    for package in "$partial"/*.deb; do
      dpkg-deb --extract "$package" "$partial/tree"
    done
    # "libc6 (>= 2.36), libdb5.3, default | other" as names of libraries.
    mapfile -t libraries < <(for package in "$partial"/*.deb; do dpkg-deb --field "$package" Depends; done |
      tr ',' '\n' | sed -n 's/^ *\(lib[a-z0-9.+-]*\).*/\1/p' | sort -u)
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${libraries[@]}" >"$partial/log" 2>&1 ||
      fail "apt-get could not install: ${libraries[*]}" "Its whole output is in $partial/log"
    chmod 755 "$partial/tree"
    mkdir -p "$cache"
    mv -T "$partial/tree" "$directory"
    rm -rf "$partial"
  fi
  printf '%s\n' "$directory"
}

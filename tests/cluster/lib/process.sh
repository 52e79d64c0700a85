# shellcheck shell=bash
# Long-running processes: started in their own session, recorded by pid and
# start time, ended only when both still match. A recycled pid is never killed.
#
# A process writes its own record before it becomes the component, so there is
# no moment at which it runs unrecorded.

# process_started_at PID: its start time in clock ticks since boot; fails when
# it is gone or only waits to be reaped.
process_started_at() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  # The name in parentheses may hold anything; the fields follow the last ")".
  read -ra fields <<<"${stat##*) }"
  [ "${fields[0]}" != Z ] && echo "${fields[19]}"
}

# process_alive DIR NAME
process_alive() {
  local pid started
  read -r pid started 2>/dev/null <"$1/run/$2.pid" || return 1
  [ -n "$started" ] && [ "$(process_started_at "$pid")" = "$started" ]
}

# process_start DIR NAME COMMAND...: no-op when it runs. Output goes to
# DIR/log/NAME.log. Nothing is inherited but the PATH: no descriptors (a
# daemon that holds make's pipe open never lets it end), no environment.
process_start() {
  local directory=$1 name=$2
  shift 2
  ! process_alive "$directory" "$name" || return 0
  (
    cd "$directory" || exit
    exec </dev/null >>"log/$name.log" 2>&1
    for descriptor in /proc/self/fd/*; do
      descriptor=${descriptor##*/}
      [ "$descriptor" -le 2 ] || eval "exec $descriptor>&-"
    done
    pid=$BASHPID # now: in a substitution or a pipe it is another one
    [ -z "${process_cgroup:-}" ] || echo "$pid" >"$process_cgroup/cgroup.procs"
    write "run/$name.pid" <<<"$pid $(process_started_at "$pid")"
    exec setsid env -i PATH="$PATH" HOME="$directory" "$@"
  ) &
}

# process_stop DIR NAME [SECONDS]: ask, wait that long, insist.
process_stop() {
  local file="$1/run/$2.pid" pid started
  if process_alive "$1" "$2"; then
    read -r pid started <"$file"
    kill -TERM "$pid" 2>/dev/null || true
    wait_for "${3:-5}" process_gone "$1" "$2" || kill -KILL "$pid" 2>/dev/null || true
    wait_for 10 process_gone "$1" "$2" || fail "process $pid ($2) does not end"
  fi
  rm -f "$file" "$file.new"
}

process_gone() { ! process_alive "$1" "$2"; }

# log_tail DIR NAME: the end of a log, for an error message.
log_tail() {
  printf '  --- the end of %s\n' "$1/log/$2.log" >&2
  tail -n 8 "$1/log/$2.log" >&2 2>/dev/null || true
}

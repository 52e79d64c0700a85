# shellcheck shell=bash
# Control groups. All processes of the cluster, its daemons and its containers,
# live below one group of our own name. So `down` finds every one of them, also
# those that no record speaks of.

# cgroup_roots: where hierarchies are mounted: one (v2), or one a controller
# (v1). A bind mount of a part of one is left out.
cgroup_roots() { awk '$4 == "/" && / - cgroup2? / { print $5 }' /proc/self/mountinfo | sort -u; }

# cgroup_make: the group in each hierarchy. The kubelet wants to find it there.
cgroup_make() {
  local root file
  for root in $(cgroup_roots); do
    mkdir -p "$root/$cgroup_name" 2>/dev/null || continue
    # A new v1 cpuset is empty and admits no process.
    for file in cpuset.mems cpuset.cpus; do
      [ ! -f "$root/tasks" ] || [ ! -f "$root/$file" ] || cat "$root/$file" >"$root/$cgroup_name/$file"
    done
  done
  mkdir -p "$(cgroup_for_daemons)"
}

# cgroup_for_daemons: one hierarchy is enough to find a process again; the
# containers' own groups are made by the kubelet and runc in all.
cgroup_for_daemons() {
  local root
  root=/sys/fs/cgroup/pids
  grep -qxF "$root" <<<"$(cgroup_roots)" || read -r root < <(cgroup_roots)
  echo "$root/$cgroup_name/daemons"
}

cgroup_processes() {
  local root
  for root in $(cgroup_roots); do
    [ ! -d "$root/$cgroup_name" ] || find "$root/$cgroup_name" -name cgroup.procs -exec cat {} + 2>/dev/null || true
  done | sort -u
}

# cgroup_kill: end everything in the group, and again until it stays empty.
cgroup_kill() {
  local deadline=$((SECONDS + 15)) pids
  cgroup_thaw
  while pids=$(cgroup_processes) && [ -n "$pids" ]; do
    # shellcheck disable=SC2086 # a list of numbers
    kill -KILL $pids 2>/dev/null || true
    [ "$SECONDS" -lt "$deadline" ] || fail "these processes of the cluster do not end: $(echo "$pids" | tr '\n' ' ')"
    sleep 0.1
  done
}

# A frozen v1 group (runc freezes while it changes one) takes no SIGKILL.
cgroup_thaw() {
  local root file
  for root in $(cgroup_roots); do
    [ -d "$root/$cgroup_name" ] || continue
    while read -r file; do echo THAWED >"$file" 2>/dev/null || true; done < <(find "$root/$cgroup_name" -name freezer.state)
  done
}

# cgroup_remove: bottom up. The kernel lets go of a group a moment after its
# last process, hence the retries.
cgroup_remove() { wait_for 10 cgroup_remove_once || say "some control groups named $cgroup_name could not be removed"; }

cgroup_remove_once() {
  local root left=0
  for root in $(cgroup_roots); do
    [ -d "$root/$cgroup_name" ] || continue
    find "$root/$cgroup_name" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ ! -d "$root/$cgroup_name" ] || left=1
  done
  return "$left"
}

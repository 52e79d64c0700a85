# shellcheck shell=bash
# Taking the cluster down, from whatever state a run left it in.



cluster_down() {
  require_root
  check_state_path "$state"
  take_lock "$lock_file"
  sweep
  rm -f "$lock_file"
  say "down"
}

# sweep: end, then undo, then delete. Each step is right to repeat and right
# when there is nothing to do, so a sweep cut short is finished by the next.
sweep() {
  rm -f "$state/ready"
  stop_daemons
  cgroup_kill
  mounts_remove "$state"
  network_down
  cgroup_remove
  remove_strays
  settings_restore
  [ ! -e "$state" ] || remove_state "$state"
}

# The kubelet goes before what it would restart; etcd and containerd are ended
# with the rest by group: their data is about to be deleted.
stop_daemons() {
  local daemon
  [ -d "$state/run" ] || return 0
  for daemon in kubelet proxy volume-provisioner controller-manager scheduler apiserver containerd etcd; do
    process_stop "$state" "$daemon" 2
  done
}

# remove_strays: what containerd, the kubelet and the CNI plugins write at fixed
# places outside the state directory. Only what is provably ours is removed: a
# socket that nobody listens on, a link or a record that names our state.
remove_strays() {
  local file
  for file in /run/containerd/s/* /var/lib/kubelet/device-plugins/kubelet.sock; do
    [ ! -S "$file" ] || grep -qF "$file" /proc/net/unix || rm -f "$file"
  done
  for file in /var/log/containers/*.log; do
    [ ! -L "$file" ] || [[ $(readlink "$file") != "$state"/* ]] || rm -f "$file"
  done
  for file in /var/lib/cni/results/*; do
    [ ! -f "$file" ] || ! grep -qF "$state/" "$file" || rm -f "$file"
  done
  rmdir --ignore-fail-on-non-empty /run/containerd/{s,fifo,} /var/log/containers \
    /var/lib/kubelet/{device-plugins,} /var/lib/cni/{results,} 2>/dev/null || true
}

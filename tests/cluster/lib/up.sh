# shellcheck shell=bash
# Bringing the cluster up, and saying how it is.

# The daemons in the order they are started in; `down` stops them in reverse.
readonly daemons=(containerd etcd apiserver controller-manager scheduler kubelet proxy volume-provisioner)

cluster_up() {
  local started=$SECONDS
  require_root
  check_state_path "$state"
  take_lock "$lock_file"
  if cluster_built_elsewise; then
    say "up, but built from other versions or settings than this source's: make cluster-down cluster-up renews it"
  fi
  if cluster_healthy; then
    say "up: $node_name with Kubernetes $kubernetes_version. Use it: eval \"\$($here/cluster env)\""
    return
  fi
  need_packages "$cluster_needs"
  clear_remains
  build_all
  refuse_neighbours
  started=$SECONDS
  say "starting"
  prepare
  start_daemons
  apply_manifests
  wait_until_ready
  remember
  say "up after $(seconds_since "$started") s: Kubernetes $kubernetes_version, node $node_name. Use it: eval \"\$($here/cluster env)\""
}

# clear_remains: a complete cluster some of whose daemons ended is mended in
# place, as long as etcd holds its data: it does not sync, so its own end can
# lose the last writes, which the API server does not forgive. Everything else,
# what an `up` or a `down` that was cut short left, or an earlier boot, is
# removed.
clear_remains() {
  if can_be_mended; then
    say "something of the cluster has ended; starting it again"
    return
  fi
  [ ! -e "$state/$state_mark" ] || say "removing what an earlier run left"
  sweep
}

can_be_mended() {
  [ -e "$state/ready" ] && [ "$(head -n 1 "$state/ready")" = "$(cat /proc/sys/kernel/random/boot_id)" ] &&
    process_alive "$state" etcd
}

remember() {
  { cat /proc/sys/kernel/random/boot_id; cluster_definition; } | write "$state/ready"
}

# cluster_definition: a short name for what a running cluster is made of.
cluster_definition() {
  { cat "$here"/lib/{common,pki,up}.sh "$here"/manifests/*; kube_binary; coredns_binary; } | sha256sum | cut -c1-12
}

cluster_built_elsewise() {
  [ -e "$state/ready" ] && [ "$(tail -n 1 "$state/ready")" != "$(cluster_definition)" ]
}

cluster_healthy() {
  local daemon
  [ -e "$state/ready" ] || return 1
  for daemon in "${daemons[@]}"; do
    process_alive "$state" "$daemon" || return 1
  done
  node_ready && dns_ready
}

# refuse_neighbours: another Kubernetes node on this machine shares the packet
# filter's chain names and the kubelet's ports with ours.
refuse_neighbours() {
  local name pids
  for name in kubelet kube-proxy k3s k0s; do
    pids=$(comm -23 <(pgrep -x "$name" | sort -u) <(cgroup_processes))
    [ -z "$pids" ] || fail "another Kubernetes runs on this machine ($name, process ${pids//$'\n'/ })" \
      "Two cannot share it. Name that one instead: make … CONTEXT=its-kube-context"
  done
}

prepare() {
  claim_state "$state"
  mkdir -p "$state"/{bin,cni,containerd,etcd,kubelet,log,pki,run,volumes}
  settings_save
  network_up
  cgroup_make
  pki_make "$state/pki" DNS:kubernetes DNS:kubernetes.default DNS:kubernetes.default.svc \
    DNS:kubernetes.default.svc.cluster.local DNS:localhost \
    "IP:$node_address" "IP:$api_service_address" IP:127.0.0.1
  write_kubeconfigs
  write_containerd_config
  write_kubelet_config
  ln -sf "$(kube_binary)" "$state/bin/kubectl"
  ln -sf "$(helm_binary)" "$state/bin/helm"
}

write_kubeconfigs() {
  kubeconfig_write "$kubeconfig" "$state/pki" "$api_url" admin
  kubeconfig_write "$state/pki/controller-manager.conf" "$state/pki" "$api_url" system:kube-controller-manager
  kubeconfig_write "$state/pki/scheduler.conf" "$state/pki" "$api_url" system:kube-scheduler
  kubeconfig_write "$state/pki/proxy.conf" "$state/pki" "$api_url" system:kube-proxy
  kubeconfig_write "$state/pki/kubelet.conf" "$state/pki" "$api_url" "system:node:$node_name"
}

# restrict_oom_score_adj: a container whose machine may not lower
# oom_score_adj would not start at all. The other paths are set so that
# nothing is written outside the state directory.
write_containerd_config() {
  write "$state/containerd.toml" <<TOML
version = 2
root = "$state/containerd/root"
state = "$state/containerd/state"
[grpc]
  address = "$containerd_socket"
[plugins."io.containerd.internal.v1.opt"]
  path = "$state/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:cluster"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "$state/run/runc"
TOML
  write "$state/cni/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "$network_name", "plugins": [
  {"type": "bridge", "bridge": "$bridge", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$state/cni/addresses",
            "ranges": [[{"subnet": "$pod_range"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
}

write_kubelet_config() {
  local cgroup_v1=true
  [ ! -e /sys/fs/cgroup/cgroup.controllers ] || cgroup_v1=false
  write "$state/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
$([ "$cgroup_v1" = false ] || echo "failCgroupV1: false")
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup_name
oomScoreAdj: 0
containerRuntimeEndpoint: unix://$containerd_socket
clusterDNS: ["$dns_address"]
clusterDomain: cluster.local
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $state/pki/ca.crt}
authorization: {mode: Webhook}
failSwapOn: false
localStorageCapacityIsolation: false
evictionHard: {}
imageGCHighThresholdPercent: 100
podLogsDir: $state/log/pods
volumePluginDir: $state/kubelet/plugins-flex
resolvConf: $state/resolv.conf
YAML
  # For pods of DNS policy Default. Nothing here asks outside.
  echo "nameserver $dns_address" | write "$state/resolv.conf"
}

start_daemons() {
  local kube pause coredns process_cgroup
  kube=$(kube_binary)
  process_cgroup=$(cgroup_for_daemons)
  process_start "$state" containerd containerd --config "$state/containerd.toml"
  start_etcd "$state" 127.0.0.1:23790 127.0.0.1:23800
  start_apiserver "$state" "$kube" "$node_address" 6443 127.0.0.1:23790 \
    --kubelet-client-certificate=pki/kubelet-client.crt --kubelet-client-key=pki/kubelet-client.key \
    --kubelet-preferred-address-types=InternalIP --advertise-address="$node_address"
  wait_for 60 test -S "$containerd_socket" || daemon_failed containerd "does not listen"
  wait_for 30 ctr_here version || daemon_failed containerd "does not answer"
  pause=$(system_image pause "$(pause_binary)")
  coredns=$(system_image coredns "$(coredns_binary)")
  import_images "$pause" "$coredns"
  wait_for 120 kubectl_here get --raw /readyz || daemon_failed apiserver "is not ready"
  process_start "$state" controller-manager "$kube" kube-controller-manager \
    --kubeconfig=pki/controller-manager.conf --leader-elect=false --bind-address=127.0.0.1 \
    --service-account-private-key-file=pki/service-account.key --root-ca-file=pki/ca.crt \
    --use-service-account-credentials=true --allocate-node-cidrs=false --cert-dir="$state/run/controller-manager" \
    --flex-volume-plugin-dir="$state/kubelet/plugins-flex"
  process_start "$state" scheduler "$kube" kube-scheduler \
    --kubeconfig=pki/scheduler.conf --leader-elect=false --bind-address=127.0.0.1 --cert-dir="$state/run/scheduler"
  process_start "$state" kubelet "$kube" kubelet --config=kubelet.yaml --kubeconfig=pki/kubelet.conf \
    --root-dir="$state/kubelet" --cert-dir="$state/kubelet/pki" --hostname-override="$node_name" --node-ip="$node_address"
  process_start "$state" proxy "$kube" kube-proxy --kubeconfig=pki/proxy.conf --proxy-mode=iptables \
    --cluster-cidr="$pod_range" --hostname-override="$node_name" --conntrack-max-per-core=0 \
    --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s
  process_start "$state" volume-provisioner "$kube" volume-provisioner \
    --kubeconfig="$kubeconfig" --directory="$state/volumes"
}

# start_etcd DIR CLIENT-ADDRESS PEER-ADDRESS. Its data is not worth an fsync; a hundred thousand mailboxes with their
# Secrets take more than the 2 GiB that it would stop at.
start_etcd() {
  process_start "$1" etcd etcd --data-dir "$1/etcd" --unsafe-no-fsync --quota-backend-bytes=8589934592 \
    --listen-client-urls "http://$2" --advertise-client-urls "http://$2" \
    --listen-peer-urls "http://$3" --initial-advertise-peer-urls "http://$3" --initial-cluster "default=http://$3"
}

# start_apiserver DIR KUBE ADDRESS PORT ETCD-ADDRESS FLAG...
start_apiserver() {
  local directory=$1 kube=$2 address=$3 port=$4 etcd=$5
  shift 5
  process_start "$directory" apiserver "$kube" kube-apiserver --etcd-servers="http://$etcd" \
    --bind-address="$address" --secure-port="$port" --service-cluster-ip-range="$service_range" \
    --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
    --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file=pki/service-account.pub --service-account-signing-key-file=pki/service-account.key \
    --token-auth-file=pki/tokens.csv --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --allow-privileged=true --profiling=false --cert-dir="$directory/run/apiserver" "$@"
}

kubectl_here() { KUBECONFIG=$kubeconfig "$state/bin/kubectl" --request-timeout=10s "$@"; }

apply_manifests() {
  local file
  for file in "$here"/manifests/*.yaml; do
    sed -e "s#@DNS_ADDRESS@#$dns_address#g" "$file" |
      kubectl_here apply --server-side --force-conflicts -f - >"$state/log/apply.log" 2>&1 ||
      fail "the API server refused $file" "$(tail -n 5 "$state/log/apply.log")"
  done
}

node_ready() {
  [ "$(kubectl_here get node "$node_name" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]
}

dns_ready() {
  [ "$(kubectl_here -n kube-system get deployment coredns -o 'jsonpath={.status.readyReplicas}' 2>/dev/null)" = 1 ]
}

dns_answers() { [ -n "$(dig +short +time=1 +tries=1 "@$dns_address" kubernetes.default.svc.cluster.local)" ]; }

wait_until_ready() {
  wait_for 120 node_ready || daemon_failed kubelet "has not made the node ready"
  wait_for 120 dns_ready || daemon_failed kubelet "has not made the cluster DNS ready"
  wait_for 60 dns_answers || daemon_failed proxy "does not carry questions to the cluster DNS"
}

daemon_failed() {
  log_tail "$state" "$1"
  fail "$1 $2" "All logs are in $state/log. To start from nothing: make cluster-down cluster-up"
}

cluster_env() {
  [ -e "$state/ready" ] || fail "the cluster is not up" "Run: make cluster-up"
  echo "export KUBECONFIG=$kubeconfig"
  echo "export PATH=$state/bin:\$PATH"
}

cluster_status() {
  local daemon
  if [ ! -e "$state/$state_mark" ]; then
    echo "down (no $state)"
    return 1
  fi
  for daemon in "${daemons[@]}"; do
    printf '%-20s %s\n' "$daemon" "$(if process_alive "$state" "$daemon"; then echo runs; else echo "does not run: $state/log/$daemon.log"; fi)"
  done
  printf '%-20s %s\n' node "$(if node_ready; then echo ready; else echo not ready; fi)" \
    "cluster DNS" "$(if dns_ready; then echo ready; else echo not ready; fi)"
  cluster_healthy
}

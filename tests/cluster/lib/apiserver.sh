# shellcheck shell=bash
# etcd and an API server alone: for tests of custom resource definitions and
# of controllers that need no node. On loopback, without root, in seconds, and
# beside the whole cluster or beside others of its kind.

readonly apiserver_state=${PAQUEBOT_APISERVER:-${TMPDIR:-/tmp}/paquebot-apiserver-$(id -u)}

apiserver_command() {
  case ${1:-} in
    up) apiserver_up ;;
    down) apiserver_down ;;
    *) fail "usage: apiserver up|down" ;;
  esac
}

# apiserver_up: standard output is the kubeconfig's path and nothing else.
apiserver_up() {
  local started=$SECONDS
  check_state_path "$apiserver_state"
  take_lock "$apiserver_state.lock"
  if ! apiserver_healthy; then
    need_packages "$apiserver_needs"
    build_kube
    apiserver_sweep
    apiserver_start
    say "API server up after $(seconds_since "$started") s: $(cat "$apiserver_state/url")"
  fi
  echo "$apiserver_state/kubeconfig"
}

apiserver_down() {
  check_state_path "$apiserver_state"
  take_lock "$apiserver_state.lock"
  apiserver_sweep
  rm -f "$apiserver_state.lock"
  say "API server down"
}

apiserver_sweep() {
  if [ -d "$apiserver_state/run" ]; then
    process_stop "$apiserver_state" apiserver 2
    process_stop "$apiserver_state" etcd 2
  fi
  [ ! -e "$apiserver_state" ] || remove_state "$apiserver_state"
}

apiserver_start() {
  local ports
  read -ra ports <<<"$(free_ports 3)"
  claim_state "$apiserver_state"
  mkdir -p "$apiserver_state"/{log,pki,run}
  pki_make "$apiserver_state/pki" DNS:localhost IP:127.0.0.1
  echo "https://127.0.0.1:${ports[0]}" >"$apiserver_state/url"
  kubeconfig_write "$apiserver_state/kubeconfig" "$apiserver_state/pki" "$(cat "$apiserver_state/url")" admin
  start_etcd "$apiserver_state" "127.0.0.1:${ports[1]}" "127.0.0.1:${ports[2]}"
  # The address of the one API server is written into a Service's endpoints,
  # and loopback is refused there: no endpoints, then.
  start_apiserver "$apiserver_state" "$(kube_binary)" 127.0.0.1 "${ports[0]}" "127.0.0.1:${ports[1]}" \
    --endpoint-reconciler-type=none
  wait_for 60 apiserver_healthy || {
    log_tail "$apiserver_state" apiserver
    fail "the API server is not ready" "All logs are in $apiserver_state/log"
  }
}

apiserver_healthy() {
  process_alive "$apiserver_state" etcd && process_alive "$apiserver_state" apiserver &&
    "$(kube_binary)" kubectl --kubeconfig "$apiserver_state/kubeconfig" --request-timeout=5s get --raw /readyz >/dev/null 2>&1
}

# free_ports COUNT: loopback ports that nobody listens on now, below the range
# that the kernel gives to outgoing connections.
free_ports() {
  local port ports=()
  while [ "${#ports[@]}" -lt "$1" ]; do
    port=$((20000 + RANDOM % 12000))
    [[ " ${ports[*]} " != *" $port "* ]] || continue
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue
    ports+=("$port")
  done
  echo "${ports[*]}"
}

# shellcheck shell=bash
# Zones in the cluster's DNS: two keys a zone in the ConfigMap coredns-zones,
# NAME.zone (the records) and NAME.server (CoreDNS's block that serves them).

zone_command() {
  local usage="usage: zone add NAME FILE | zone remove NAME | zone list" name
  [ -e "$state/ready" ] || fail "the cluster is not up" "Run: make cluster-up"
  case ${1:-}:$# in
    add:3) name=$(zone_name "$2") && zone_add "$name" "$3" ;;
    remove:2) name=$(zone_name "$2") && zone_remove "$name" ;;
    list:1) zone_list ;;
    *) fail "$usage" ;;
  esac
}

# zone_name NAME: lower case, without the last dot.
zone_name() {
  local name=${1,,}
  name=${name%.}
  [[ $name =~ ^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]*[a-z0-9])?$ ]] || fail "$1 is not a domain name"
  echo "$name"
}

zone_list() {
  kubectl_here -n kube-system get configmap coredns-zones --ignore-not-found -o 'go-template={{range $key, $_ := .data}}{{$key}}{{"\n"}}{{end}}' |
    sed -n 's/\.zone$//p'
}

zone_add() {
  local name=$1 source=$2 revision work
  work=$(mktemp -d)
  # shellcheck disable=SC2064 # the directory of this call
  trap "rm -rf '$work'" EXIT
  cat -- "$source" >"$work/records" 2>/dev/null || fail "$source cannot be read"
  zone_text "$name" <"$work/records" >"$work/$name.zone"
  revision=$(sha256sum "$work/$name.zone" | cut -c1-16)
  zone_block "$name" "$revision" >"$work/$name.server"
  zone_patch "$work" "$name"
  if ! wait_for 30 zone_answers "$name" "$revision"; then
    zone_refused "$name"
  fi
  say "zone $name is served by $dns_address"
}

# zone_text NAME: a whole zone file from records on standard input. Records
# that come without an SOA get one, a name server and its address, so that
# who looks for the zone's authoritative server finds the cluster's DNS. The
# TTLs are a second, also for "does not exist" (RFC 2308 §4: the SOA's last
# number): a test never waits for an old answer to expire.
zone_text() {
  local records
  records=$(cat)
  printf '$ORIGIN %s.\n$TTL 1\n' "$1"
  if ! grep -qiE '(^|[[:space:]])SOA[[:space:]]' <<<"$(sed 's/;.*//' <<<"$records")"; then
    echo "@ 1 IN SOA ns.$1. hostmaster.$1. $(date +%s) 3600 600 86400 1"
    echo "@ 1 IN NS ns.$1."
    echo "ns.$1. 1 IN A $dns_address"
  fi
  printf '%s\n' "$records"
}

# zone_block NAME REVISION: the revision makes each change of the zone a change
# of the configuration, which `reload` takes up whole, whatever the SOA's
# serial number says; and it can be asked for.
zone_block() {
  cat <<COREFILE
$1:1053 {
  errors
  template IN TXT _revision.$1 {
    answer "{{ .Name }} 1 IN TXT $2"
  }
  file /etc/coredns-zones/$1.zone
}
COREFILE
}

zone_answers() { [ "$(dig +short +time=1 +tries=1 "@$dns_address" "_revision.$1" TXT)" = "\"$2\"" ]; }

zone_unserved() { [ -z "$(dig +short +time=1 +tries=1 "@$dns_address" "$1" SOA)" ]; }

zone_refused() {
  kubectl_here -n kube-system logs -l k8s-app=kube-dns --tail=3 >&2 || true
  zone_unpatch "$1"
  fail "CoreDNS did not take the zone $1 (its last words are above); the zone was taken out again"
}

# zone_patch DIR NAME: put the two files into the ConfigMap.
zone_patch() {
  kubectl_here create configmap coredns-zones --dry-run=client -o json \
    --from-file="$1/$2.zone" --from-file="$1/$2.server" >"$1/patch.json"
  kubectl_here -n kube-system get configmap coredns-zones >/dev/null 2>&1 ||
    kubectl_here -n kube-system create configmap coredns-zones >/dev/null 2>&1 || true
  kubectl_here -n kube-system patch configmap coredns-zones --type=merge --patch-file="$1/patch.json" >/dev/null
  zone_refresh
}

zone_unpatch() {
  kubectl_here -n kube-system patch configmap coredns-zones --type=merge \
    --patch="{\"data\":{\"$1.zone\":null,\"$1.server\":null}}" >/dev/null
  zone_refresh
}

zone_remove() {
  grep -qxF "$1" <<<"$(zone_list)" || { say "zone $1 is not served"; return 0; }
  zone_unpatch "$1"
  wait_for 30 zone_unserved "$1" || fail "the cluster DNS still serves $1"
  say "zone $1 is no longer served"
}

# zone_refresh: the kubelet writes a changed ConfigMap into a pod's volume at
# once when the pod changes, else only at its next round, a minute or more on.
zone_refresh() {
  kubectl_here -n kube-system annotate pods -l k8s-app=kube-dns --overwrite "paquebot.dev/zones-changed=$(date +%s%N)" >/dev/null
}

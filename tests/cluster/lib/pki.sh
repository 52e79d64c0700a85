# shellcheck shell=bash
# Keys, certificates, tokens and kubeconfigs of one API server.

# pki_make DIR SAN...: a CA, the API server's certificate for these names, a
# client certificate for its calls to the kubelet, and the service account key.
pki_make() {
  local directory=$1
  shift
  [ ! -e "$directory/complete" ] || return 0
  mkdir -p "$directory"
  chmod 0700 "$directory"
  (
    cd "$directory"
    openssl req -x509 "${pki_key[@]}" -keyout ca.key -out ca.crt -subj "/CN=paquebot test cluster CA" -days 3650
    pki_sign apiserver "/CN=kube-apiserver" "subjectAltName=$(IFS=,; echo "$*")" "extendedKeyUsage=serverAuth"
    pki_sign kubelet-client "/O=system:masters/CN=kube-apiserver-kubelet-client" "extendedKeyUsage=clientAuth"
    openssl ecparam -name prime256v1 -genkey -noout -out service-account.key
    openssl ec -in service-account.key -pubout -out service-account.pub
    pki_tokens >tokens.csv
  ) >"$directory/openssl.log" 2>&1 || fail "openssl could not make the cluster's certificates" "$(tail -n 3 "$directory/openssl.log")"
  : >"$directory/complete"
}

readonly pki_key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

# pki_sign NAME SUBJECT EXTENSION...: NAME.key and NAME.crt, signed by the CA.
pki_sign() {
  local name=$1 subject=$2
  shift 2
  openssl req "${pki_key[@]}" -keyout "$name.key" -out "$name.csr" -subj "$subject"
  printf '%s\n' "$@" >"$name.ext"
  openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$name.crt" -days 3650 -extfile "$name.ext"
  rm -f "$name.csr" "$name.ext"
}

# pki_tokens: one token for each component, so that each has the rights that
# Kubernetes' own roles give it, and no more. Columns: token, user, uid, groups.
pki_tokens() {
  local user group
  while read -r user group; do
    echo "$(openssl rand -hex 16),$user,$user,\"$group\""
  done <<TEXT
admin system:masters
system:kube-controller-manager
system:kube-scheduler
system:kube-proxy
system:node:$node_name system:nodes
TEXT
}

# kubeconfig_write FILE PKI-DIR URL USER
kubeconfig_write() {
  local token
  token=$(awk -F, -v user="$4" '$2 == user { print $1 }' "$2/tokens.csv")
  (umask 077; write "$1") <<YAML
apiVersion: v1
kind: Config
clusters:
- name: paquebot-test
  cluster:
    server: $3
    certificate-authority-data: $(base64 -w0 "$2/ca.crt")
users:
- name: $4
  user: {token: $token}
contexts:
- name: paquebot-test
  context: {cluster: paquebot-test, user: "$4"}
current-context: paquebot-test
YAML
}

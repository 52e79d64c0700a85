"""`scripts/bench propagation`: how soon what is applied is in force, on a whole cluster in which the demo's story runs.

    propagation.py KUBECONFIG RESULTS MAILBOXES

Mailboxes with passwords are added to server1.com, first as many a second as people and their tools apply, and then those
with a hash as fast as one client is answered. What the operator's own histogram says of the time between is the result.
"""

import os
import re
import sys
import time

from cluster import GROUP, Cluster
from main import HASH, say, store

SYSTEM, HOME, DOMAIN = "paquebot-system", "server1", "server1.com"
PASSWORDS_A_SECOND = 20
METRIC = "paquebot_operator_effective_seconds_bucket"


def mailbox(name, kind, secret):
    yield f"/api/v1/namespaces/{HOME}/secrets", {"metadata": {"name": name}, "type": "Opaque", "stringData": secret}
    yield f"{GROUP}/namespaces/{HOME}/mailboxes", {
        "apiVersion": "paquebot.dev/v1alpha1", "kind": "Mailbox", "metadata": {"name": name},
        "spec": {"domainRef": {"name": DOMAIN}, "localPart": name, "credentials": {kind: {"name": name}}}}


def with_password(number):
    return mailbox(f"p{number}", "passwordSecretRef", {"password": f"password of {number}"})


def with_hash(number):
    return mailbox(f"h{number}", "passwordHashSecretRef", {"passwordHash": HASH})


def metrics(cluster):
    """The histogram: {upper bound: how many were no slower}."""
    pods = cluster.get(f"/api/v1/namespaces/{SYSTEM}/pods?labelSelector=app.kubernetes.io%2Fcomponent%3Doperator")
    pod = next(pod for pod in pods["items"] if not pod["metadata"].get("deletionTimestamp"))
    ports = [port for container in pod["spec"]["containers"] for port in container["ports"] if port["name"] == "admin"]
    place = f"{pod['metadata']['name']}:{ports[0]['containerPort']}"
    text = cluster.call("GET", f"/api/v1/namespaces/{SYSTEM}/pods/{place}/proxy/metrics").decode()
    found = re.findall(METRIC + r'\{le="([^"]+)"\} (\d+)', text)
    return {float(bound): int(count) for bound, count in found}


def ready(cluster, prefix):
    items = cluster.get(f"{GROUP}/namespaces/{HOME}/mailboxes?resourceVersion=0")["items"]
    conditions = [item.get("status", {}).get("conditions", []) for item in items if item["metadata"]["name"].startswith(prefix)]
    return sum(any(c["type"] == "Ready" and c["status"] == "True" for c in each) for each in conditions)


def paced(cluster, make, count, a_second=10_000):
    connection, begun = cluster.connection(), time.monotonic()
    for number in range(count):
        time.sleep(max(0, begun + number / a_second - time.monotonic()))
        for path, body in make(number):
            cluster.call("POST", path, body, connection=connection)


def measure(cluster, name, prefix, count, apply):
    before, begun = metrics(cluster), time.monotonic()
    apply()
    applied = time.monotonic() - begun
    while ready(cluster, prefix) < count:
        if time.monotonic() - begun > 900:
            raise RuntimeError(f"{ready(cluster, prefix)} of {count} mailboxes are ready after 15 minutes")
        time.sleep(1)
    settled = time.monotonic() - begun
    after = metrics(cluster)
    counts = {bound: after[bound] - before.get(bound, 0) for bound in sorted(after)}
    total = counts[float("inf")]
    quantile = lambda share: next(bound for bound, seen in counts.items() if seen >= share * total)
    result = {"name": name, "mailboxes": count, "applied": applied, "settled": settled, "observed": total,
              "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99),
              "buckets": {str(bound): seen for bound, seen in counts.items()}}
    say(f"{name}: applied in {applied:.1f} s, all ready after {settled:.1f} s; {total} changes; half within "
        f"{result['p50']} s, 90 % within {result['p90']} s, 99 % within {result['p99']} s")
    return result


def remove(cluster, names):
    connection = cluster.connection()
    for name in names:
        for path in (f"{GROUP}/namespaces/{HOME}/mailboxes/{name}", f"/api/v1/namespaces/{HOME}/secrets/{name}"):
            cluster.call("DELETE", path, connection=connection)


def main():
    kubeconfig, output, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    cluster = Cluster(kubeconfig)
    results = [
        measure(cluster, f"passwords, {PASSWORDS_A_SECOND} a second", "p", count,
                lambda: paced(cluster, with_password, count, PASSWORDS_A_SECOND)),
        measure(cluster, "hashes, one after another", "h", count, lambda: paced(cluster, with_hash, count)),
    ]
    store(results, output)
    if not os.environ.get("KEEP"):
        remove(cluster, [f"{prefix}{number}" for prefix in "ph" for number in range(count)])


if __name__ == "__main__":
    main()

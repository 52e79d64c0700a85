"""`scripts/bench operator`: the operator over many domains and mailboxes on a real API server (etcd and kube-apiserver
alone). It fills the API server, starts the operator's binary, and measures what single events cost it.

    main.py KUBECONFIG OPERATOR DIRECTORY RESULTS MAILBOXES...

Each MAILBOXES is the size of a fleet, ascending, with a tenth as many domains; the last one is the fleet of the cold start.
"""

import glob
import json
import os
import sys
import time

from cluster import GROUP, Cluster, create
from operator_process import Measured, Operator, Relay
from pod import Pod

NAMESPACE = "mail"
TENANTS = 100
# A hash of a password that nobody uses: that it is taken over instead of made saves an hour of argon2.
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$nC3xSNmOHfSC2wG8nOLqGtyFDFbKyVvWdLVhcAmxvKk"
PER_DOMAIN = 10
CONVERGENCE = 5400


def tenant(domain):
    return f"tenant-{domain % TENANTS:02d}"


def domain_objects(number):
    yield f"{GROUP}/namespaces/{tenant(number)}/maildomains", {
        "apiVersion": "paquebot.dev/v1alpha1", "kind": "MailDomain", "metadata": {"name": f"d{number}"},
        "spec": {"domain": f"d{number}.example.com", "serverRef": {"name": "mx", "namespace": NAMESPACE}}}


def mailbox_objects(number):
    domain = number // PER_DOMAIN
    home, name = tenant(domain), f"m{number}"
    yield f"/api/v1/namespaces/{home}/secrets", {
        "metadata": {"name": name}, "type": "Opaque", "stringData": {"passwordHash": HASH}}
    yield f"{GROUP}/namespaces/{home}/mailboxes", {
        "apiVersion": "paquebot.dev/v1alpha1", "kind": "Mailbox", "metadata": {"name": name},
        "spec": {"domainRef": {"name": f"d{domain}"}, "localPart": name,
                 "credentials": {"passwordHashSecretRef": {"name": name}}}}


def shifted(make, by):
    return lambda number: make(number + by)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Bench:
    def __init__(self, kubeconfig, binary, directory):
        self.cluster = Cluster(kubeconfig)
        self.binary, self.directory = binary, directory
        self.relay = Relay(self.cluster, directory)
        self.operator = None
        self.mailboxes = 0
        self.results = []

    def start(self):
        self.operator = Operator(self.binary, self.relay.kubeconfig, os.path.join(self.directory, "operator.log"))

    def prepare(self):
        for path in sorted(glob.glob("crds/*.yaml")):
            with open(path, encoding="utf-8") as file:
                self.cluster.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", file.read(), "application/yaml")
        time.sleep(3)
        names = [NAMESPACE] + [tenant(number) for number in range(TENANTS)]
        for name in names:
            self.cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": {"mail": "yes"}}})
        for name in ("mx", "other"):
            self.cluster.call("POST", f"{GROUP}/namespaces/{NAMESPACE}/mailservers", {
                "apiVersion": "paquebot.dev/v1alpha1", "kind": "MailServer", "metadata": {"name": name},
                "spec": {"hostname": f"{name}.example.net", "dns": {"mode": "Disabled"},
                         "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"mail": "yes"}}}}})
        self.pod = Pod(self.cluster, NAMESPACE, "mx")
        self.pod.register()

    def grow(self, mailboxes):
        """Creates what is missing, without the operator."""
        begun = time.monotonic()
        before, domains = self.mailboxes // PER_DOMAIN, mailboxes // PER_DOMAIN
        create(self.cluster, shifted(domain_objects, before), domains - before)
        create(self.cluster, shifted(mailbox_objects, self.mailboxes), mailboxes - self.mailboxes)
        self.mailboxes = mailboxes
        say(f"{domains} domains and {mailboxes} mailboxes are there after {time.monotonic() - begun:.0f} s")

    def unready(self):
        """How many mailboxes are not ready: counted page by page."""
        count, token = 0, ""
        while True:
            page = self.cluster.get(f"{GROUP}/mailboxes?limit=2000&resourceVersion=&continue={token}")
            for item in page["items"]:
                conditions = item.get("status", {}).get("conditions", [])
                count += not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            token = page["metadata"].get("continue", "")
            if not token:
                return count

    def quiet(self, seconds):
        """Waits until no write was made for some seconds; returns how long ago the last one was."""
        last, since = None, time.monotonic()
        while True:
            writes = sum(n for (verb, _, _), n in self.cluster.requests().items() if verb in WRITES)
            if writes != last:
                last, since = writes, time.monotonic()
            elif time.monotonic() - since > seconds:
                return time.monotonic() - since
            time.sleep(0.5)

    def converge(self):
        """Seconds until every mailbox was ready. Counting costs the API server time, so most of it is spent waiting."""
        begun = time.monotonic()
        while time.monotonic() - begun < CONVERGENCE:
            counting = time.monotonic()
            left = self.unready()
            say(f"{left} mailboxes are not ready")
            if not left:
                seconds = time.monotonic() - begun
                self.quiet(6)
                return seconds
            time.sleep(max(0.5, 3 * (time.monotonic() - counting)))
        raise RuntimeError("the mailboxes do not become ready; see operator.log")

    def measure(self, name, event, settled, note="", wait=4):
        """One event: until `settled` says so, and then everything that follows within some quiet seconds."""
        measured = Measured(self.cluster, self.relay, self.operator)
        event()
        begun = time.monotonic()
        while not settled():
            if time.monotonic() - begun > CONVERGENCE:
                raise RuntimeError(f"this did not happen: {name}")
            time.sleep(0.02)
        seconds = time.monotonic() - begun
        self.quiet(wait)
        result = measured.end(seconds)
        result.update(name=name, note=note, mailboxes=self.mailboxes)
        self.results.append(result)
        say(f"{name}: {seconds:.2f} s, processor {result['processor']:.2f} s, {writes_of(result)}")
        return result

    def cold(self):
        """A new process over a world that it has written: nothing is hashed, nothing is written."""
        self.operator.stop()
        calls, octets = self.cluster.requests(), (self.relay.up, self.relay.down)
        self.start()
        seconds = self.idle()
        after = self.cluster.requests()
        result = {
            "name": "cold start", "mailboxes": self.mailboxes, "note": "",
            "seconds": seconds, "processor": self.operator.processor(),
            "peak": self.operator.peak(), "resident": self.operator.resident(),
            "sent": self.relay.up - octets[0], "received": self.relay.down - octets[1],
            "calls": {key: n - calls.get(key, 0) for key, n in after.items() if n != calls.get(key, 0)},
        }
        self.results.append(result)
        say(f"cold start: {result['seconds']:.1f} s, {result['resident']:.0f} MiB, at most {result['peak']:.0f} MiB, "
            f"{writes_of(result)}")
        time.sleep(5)

    def idle(self):
        """Seconds since the process began until it used less than a thirtieth of a core for three seconds."""
        busy, last = time.monotonic(), self.operator.processor()
        while time.monotonic() - busy < 3:
            time.sleep(0.5)
            used = self.operator.processor()
            if used - last > 0.02:
                busy = time.monotonic()
            last = used
        return busy - self.operator.begun

    def revision_moves(self):
        before = self.pod.answer["revision"]
        return lambda: self.pod.answer["revision"] != before

    def mailbox(self, number):
        return f"{GROUP}/namespaces/{tenant(number // PER_DOMAIN)}/mailboxes/m{number}"

    def observed(self, number):
        """Whether the mailbox says that its newest generation is served."""
        item = self.cluster.get(self.mailbox(number))
        ready = [c for c in item.get("status", {}).get("conditions", []) if c["type"] == "Programmed"]
        return bool(ready) and ready[0]["status"] == "True" and \
            ready[0].get("observedGeneration") == item["metadata"]["generation"]

    def events(self):
        number = self.mailboxes // 2
        for quota in ("2Gi", "3Gi"):
            # The first change of a fresh process reads what later ones know.
            change = lambda quota=quota: self.cluster.merge(self.mailbox(number), {"spec": {"quota": quota}})
            self.measure("one mailbox's quota" + (", first" if quota == "2Gi" else ""), change,
                         lambda: self.observed(number), wait=6)
        home = f"/api/v1/namespaces/{tenant(1)}"
        for labels, name in (("no", "one namespace loses its label"), ("yes", "and gets it again")):
            self.measure(name, lambda labels=labels: self.cluster.merge(home, {"metadata": {"labels": {"mail": labels}}}),
                         self.revision_moves(), f"{self.mailboxes // TENANTS} mailboxes of {TENANTS} namespaces")
        path = f"{GROUP}/namespaces/{NAMESPACE}/mailservers"
        self.measure("one server without domains is deleted",
                     lambda: self.cluster.call("DELETE", f"{path}/other"), lambda: True)
        self.cluster.call("POST", path, {
            "apiVersion": "paquebot.dev/v1alpha1", "kind": "MailServer", "metadata": {"name": "other"},
            "spec": {"hostname": "other.example.net", "dns": {"mode": "Disabled"}}})
        self.quiet(4)


WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "CREATE", "UPDATE")


def writes_of(result):
    writes = {f"{verb} {resource}{'/' + sub if sub else ''}": n
              for (verb, resource, sub), n in sorted(result["calls"].items()) if verb in WRITES}
    return ", ".join(f"{n} × {what}" for what, n in writes.items()) or "no writes"


def main():
    kubeconfig, binary, directory, output, *sizes = sys.argv[1:]
    bench = Bench(kubeconfig, binary, directory)
    bench.prepare()
    for size in map(int, sizes):
        if bench.operator:
            bench.operator.stop()
        bench.grow(size)
        bench.start()
        seconds = bench.converge()
        bench.results.append({
            "name": "first start", "mailboxes": size, "note": "", "seconds": seconds,
            "processor": bench.operator.processor(), "peak": bench.operator.peak(),
            "resident": bench.operator.resident(), "sent": 0, "received": 0, "calls": {}})
        bench.cold()
        bench.events()
        write(bench.results, output)
    bench.measure("the server of all of them is deleted",
                  lambda: bench.cluster.call("DELETE", f"{GROUP}/namespaces/{NAMESPACE}/mailservers/mx"),
                  lambda: True, wait=10)
    write(bench.results, output)
    bench.operator.stop()


def write(results, output):
    plain = [dict(result, calls={" ".join(filter(None, key)): n for key, n in result["calls"].items()})
             for result in results]
    store(plain, output)


def store(results, output):
    with open(output, "w", encoding="utf-8") as file:
        json.dump({"facts": os.environ.get("BENCH_FACTS", "").splitlines(), "results": results}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()

"""Writes docs/benchmarks/operator.md from what the benchmarks of the operator measured.

    table.py PAGE FLEETS.json PROPAGATION.json

A file that is not there is a part that was not measured, and the page says so.
"""

import json
import os
import sys

WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "CREATE", "UPDATE")
HEAD = """# The operator, measured

The operator's binary over fleets of mailboxes on a real API server (etcd and kube-apiserver alone, on the same machine),
and how soon what is applied is in force on a whole cluster. Made by `scripts/bench operator` and `scripts/bench propagation`;
the JSON files beside this page have every number.

"""
FLEETS = """One MailServer, a tenth as many MailDomains as Mailboxes, a hundred tenants' namespaces; each Mailbox has a Secret with a
hash. *First start*: the operator meets a fleet that nothing was written for. *Cold start*: a new process over a fleet that
is as it should be, until it rests; nothing is hashed again. For one change the seconds are those until its Mailbox's status
says that it is served, and until the configuration was written for a namespace's labels. Processor seconds, calls and octets are the
operator's, but the calls of a change include the one that made it and are those of all clients of the API server.

| | Mailboxes | Seconds | Processor s | MiB, at most | MiB, then | Calls | of them writes | KB sent | KB received |
| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |
"""
PROPAGATION = """The operator's histogram `paquebot_operator_effective_seconds`: from the watch's report of an object until every ready pod
said that it serves it. Bounds are those of its buckets. The kubelet brings the files to the pods, and the server's pod reads them.

| | Mailboxes | applied in | all ready after | changes | half within | 90 % within | 99 % within |
| --- | --: | --: | --: | --: | --: | --: | --: |
"""
# How what is measured is called on the page.
WORDS = {"one mailbox's quota, first": "one mailbox's quota, the first change of a process",
         "and gets it again": "the namespace gets its label again"}


def read(path):
    if not os.path.exists(path):
        return {"facts": [], "results": []}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def number(value, digits=2):
    return f"{value:.{digits}f}" if value < 10 else f"{value:,.0f}"


def fleet_rows(results):
    for result in results:
        calls = result["calls"]
        writes = sum(count for key, count in calls.items() if key.split()[0] in WRITES)
        counted = [f"{sum(calls.values()):,}", f"{writes:,}", f"{result['sent'] / 1000:,.0f}",
                   f"{result['received'] / 1000:,.0f}"] if calls else ["–"] * 4
        cells = [WORDS.get(result["name"], result["name"]), f"{result['mailboxes']:,}", number(result["seconds"]),
                 number(result["processor"]), number(result["peak"], 0), number(result["resident"], 0), *counted]
        yield "| " + " | ".join(cells) + " |\n"


def propagation_rows(results):
    for result in results:
        cells = [result["name"], f"{result['mailboxes']:,}", f"{result['applied']:.0f} s", f"{result['settled']:.0f} s",
                 f"{result['observed']:,}", *(f"{result[share]:g} s" for share in ("p50", "p90", "p99"))]
        yield "| " + " | ".join(cells) + " |\n"


def main():
    page, fleets, propagation = sys.argv[1:]
    with open(page, "w", encoding="utf-8") as file:
        file.write(HEAD)
        for title, head, rows_of, path in (("Fleets", FLEETS, fleet_rows, fleets),
                                           ("From apply to effective", PROPAGATION, propagation_rows, propagation)):
            measured = read(path)
            file.write(f"## {title}\n\n")
            if not measured["results"]:
                file.write(f"Not measured: {os.path.basename(path)} is not there.\n\n")
                continue
            file.write("".join(f"- {fact}\n" for fact in measured["facts"]) + "\n" + head)
            file.write("".join(rows_of(measured["results"])) + "\n")


if __name__ == "__main__":
    main()

"""The API server as a client of the standard library sees it: calls, many at a time, and what it says of its clients."""

import base64
import http.client
import json
import os
import re
import ssl
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

GROUP = "/apis/paquebot.dev/v1alpha1"


class Cluster:
    """Where the API server is, and who we are to it: read from a kubeconfig that has certificates in it or beside it."""

    def __init__(self, kubeconfig):
        self.kubeconfig = kubeconfig
        with open(kubeconfig, encoding="utf-8") as file:
            self.text = file.read()
        self.server = re.search(r"server: *\"?(https://[^\s\"]+)", self.text).group(1)
        self.host, port = self.server.removeprefix("https://").rsplit(":", 1)
        self.port = int(port)
        token = re.search(r"\btoken: *\"?([^\s\"{}]+)", self.text)
        self.headers = {"Accept": "application/json"}
        if token:
            self.headers["Authorization"] = f"Bearer {token.group(1)}"
        self.files = {name: self._material(name) for name in
                      ("certificate-authority", "client-certificate", "client-key")}

    def _material(self, name):
        inline = re.search(name + r"-data: *\"?([A-Za-z0-9+/=]+)", self.text)
        if not inline:
            path = re.search(name + r": *\"?([^\s\"]+)", self.text)
            return os.path.join(os.path.dirname(self.kubeconfig), path.group(1)) if path else None
        descriptor, path = tempfile.mkstemp()
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64decode(inline.group(1)))
        return path

    def connection(self, timeout=120):
        context = ssl.create_default_context(cafile=self.files["certificate-authority"])
        if self.files["client-certificate"]:
            context.load_cert_chain(self.files["client-certificate"], self.files["client-key"])
        return http.client.HTTPSConnection(self.host, self.port, context=context, timeout=timeout)

    def call(self, method, path, body=None, kind="application/json", connection=None):
        """One call; raises on anything but success."""
        own = connection is None
        connection = connection or self.connection()
        headers = dict(self.headers)
        data = None
        if body is not None:
            data = body if isinstance(body, (bytes, str)) else json.dumps(body)
            headers["Content-Type"] = kind
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        if own:
            connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:400]!r}")
        return text

    def get(self, path, connection=None):
        return json.loads(self.call("GET", path, connection=connection))

    def merge(self, path, body):
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def requests(self):
        """What the API server counted of all its clients: {(verb, resource, subresource): calls}."""
        counted = {}
        for line in self.call("GET", "/metrics").decode().splitlines():
            if line.startswith("apiserver_request_total{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if labels["resource"] == "leases":
                    continue  # The API server's own.
                key = (labels["verb"], labels["resource"], labels["subresource"])
                counted[key] = counted.get(key, 0) + int(float(line.rsplit(" ", 1)[1]))
        return counted


def _worker(kubeconfig, make, begin, end, step, threads):
    cluster = Cluster(kubeconfig)
    local = threading.local()

    def one(number):
        if not hasattr(local, "connection"):
            local.connection = cluster.connection()
        for path, body in make(number):
            cluster.call("POST", path, body, connection=local.connection)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, range(begin, end, step), chunksize=64):
            pass


def create(cluster, make, count, processes=4, threads=6):
    """Creates what `make(number)` gives as pairs of path and object, for each number below `count`."""
    context = get_context("fork")
    workers = [
        context.Process(target=_worker, args=(cluster.kubeconfig, make, first, count, processes, threads))
        for first in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError("objects could not be created; what the API server said is above")

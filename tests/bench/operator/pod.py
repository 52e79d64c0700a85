"""The server part of a pod: ready, on loopback, answering `/configz` with the newest configuration that was written."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The operator asks pods at their own address, always at this port.
ADDRESS, PORT = "127.0.0.77", 8080


class Pod:
    """Serves the server `name` of a namespace; follows the index by a watch, which is one call."""

    def __init__(self, cluster, namespace, name):
        self.cluster, self.namespace, self.name = cluster, namespace, name
        self.answer = {"revision": None, "error": "nothing yet", "digests": {}}
        pod = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                body = json.dumps(pod.answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer((ADDRESS, PORT), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        threading.Thread(target=self._follow, daemon=True).start()

    def register(self):
        """What the StatefulSet's controller and the kubelet would do."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        labels = {"app.kubernetes.io/name": "paquebot-server", "app.kubernetes.io/instance": self.name,
                  "app.kubernetes.io/component": "server", "app.kubernetes.io/managed-by": "paquebot-operator",
                  "app.kubernetes.io/part-of": "paquebot"}
        self.cluster.call("POST", f"/api/v1/namespaces/{self.namespace}/serviceaccounts", {"metadata": {"name": "bench"}})
        self.cluster.call("POST", path, {
            "metadata": {"name": f"{self.name}-0", "labels": labels},
            "spec": {"serviceAccountName": "bench", "automountServiceAccountToken": False,
                     "containers": [{"name": "server", "image": "localhost/none:bench"}]}})
        self.cluster.merge(f"{path}/{self.name}-0/status", {"status": {
            "phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}],
            "conditions": [{"type": "Ready", "status": "True"}]}})

    def _follow(self):
        path = (f"/api/v1/namespaces/{self.namespace}/configmaps?watch=1"
                f"&fieldSelector=metadata.name%3D{self.name}-config&timeoutSeconds=3600")
        while True:
            try:
                connection = self.cluster.connection(timeout=3700)
                connection.request("GET", path, headers=self.cluster.headers)
                for line in connection.getresponse():
                    config = json.loads(line)["object"]
                    index = json.loads(config.get("data", {}).get("index.json", "null"))
                    if index:
                        digests = {entry["name"]: entry["sha256"] for entry in index["shards"]}
                        self.answer = {"revision": index["revision"], "error": None, "digests": digests}
            except (OSError, ValueError, KeyError):
                pass

"""The operator as a process: what it costs, as the operating system and a relay in front of the API server see it."""

import os
import re
import signal
import socket
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Relay:
    """Passes octets between the operator and the API server, and counts them. TLS stays whole: they are octets as sent."""

    def __init__(self, cluster, directory):
        self.target = (cluster.host, cluster.port)
        self.up = self.down = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        address = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.kubeconfig = os.path.join(directory, "operator.kubeconfig")
        text = cluster.text.replace(cluster.server, address)
        # Paths in it are relative to where it lay.
        text = re.sub(r"((?:certificate-authority|client-certificate|client-key): *\"?)(?=[^/\s\"])",
                      lambda found: found.group(1) + os.path.dirname(cluster.kubeconfig) + "/", text)
        with open(self.kubeconfig, "w", encoding="utf-8") as file:
            file.write(text)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(client, server, "up"), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, "down"), daemon=True).start()

    def _pump(self, source, sink, direction):
        try:
            while octets := source.recv(1 << 18):
                setattr(self, direction, getattr(self, direction) + len(octets))
                sink.sendall(octets)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Operator:
    """One process of the operator."""

    def __init__(self, binary, kubeconfig, log):
        self.log = open(log, "ab")
        environment = dict(os.environ, KUBECONFIG=kubeconfig, RUST_LOG="warn,paquebot_operator=warn")
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [binary, "--leader-election", "disabled", "--admin-port", "0", "--log-format", "text"],
            env=environment, stdout=self.log, stderr=self.log)

    def _status(self, field):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(field + r":\s+(\d+) kB", file.read()).group(1)) / 1024

    def resident(self):
        """MiB now."""
        return self._status("VmRSS")

    def peak(self):
        """MiB at most, since the last call of `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")

    def processor(self):
        """Seconds of processor time so far."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.log.close()


class Measured:
    """What happens between two moments."""

    def __init__(self, cluster, relay, operator):
        self.cluster, self.relay, self.operator = cluster, relay, operator
        operator.forget_peak()
        self.calls = cluster.requests()
        self.octets = (relay.up, relay.down)
        self.processor, self.begun = operator.processor(), time.monotonic()

    def end(self, seconds=None):
        taken = time.monotonic() - self.begun
        after = self.cluster.requests()
        calls = {key: count - self.calls.get(key, 0) for key, count in after.items() if count != self.calls.get(key, 0)}
        return {
            "seconds": seconds if seconds is not None else taken,
            "processor": self.operator.processor() - self.processor,
            "peak": self.operator.peak(), "resident": self.operator.resident(),
            "sent": self.relay.up - self.octets[0], "received": self.relay.down - self.octets[1],
            "calls": calls,
        }

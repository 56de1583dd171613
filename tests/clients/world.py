"""A kina that serves from a home of its own, and a cluster that it simulates."""

import base64
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile

import checks

TOY = """\
apiVersion: kina.dev/v1alpha1
kind: Cluster
metadata:
  name: toy
spec:
  runtime: sim
  kubernetesVersion: v1.35.5
  workers:
  - name: pool
    replicas: 2
"""


class World:
    def __init__(self, binary):
        self.binary = os.path.abspath(binary)
        self.root = tempfile.TemporaryDirectory(prefix="kina-clients-")
        self.home, self.work = pathlib.Path(self.root.name, "home"), pathlib.Path(self.root.name, "work")
        self.home.mkdir(mode=0o700)
        self.work.mkdir()
        # Nothing of the machine's is found: no runtime, no configuration, no credentials.
        self.environment = {
            "HOME": str(self.home),
            "KINA_HOME": str(self.home / ".kina"),
            "KINA_RUNTIME": "sim",
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "KINA_SIM_LATENCY": "none",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.log = open(self.work / "serve.log", "w+")
        self.server = None

    def __enter__(self):
        self.server = subprocess.Popen(
            [self.binary, "serve"],
            # Where a container runtime is installed it must not be found.
            env={**self.environment, "PATH": "/nonexistent"},
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        checks.until("kina serves", lambda: self.alive() and "Ctrl-C ends it" in self.said())
        self.file("toy.yaml", TOY)
        self.kina("up", "-f", "toy.yaml", "--timeout", "60s").ok()
        return self

    def __exit__(self, *_):
        self.server.terminate()
        try:
            self.server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.server.kill()
            self.server.wait()
        self.log.close()
        self.root.cleanup()

    def alive(self):
        if self.server.poll() is not None:
            raise AssertionError(f"kina ended with {self.server.returncode}:\n{self.said()}")
        return True

    def said(self):
        """What kina printed."""
        return pathlib.Path(self.log.name).read_text()

    def file(self, name, text):
        (self.work / name).write_text(text)

    def kina(self, *arguments):
        return checks.program([self.binary, *arguments], self.environment, self.work)

    @property
    def own(self):
        """Kubeconfig of Kina's own API."""
        return str(self.home / ".kina" / "kubeconfig")

    @property
    def toy(self):
        """Kubeconfig of the simulated cluster."""
        return str(self.home / ".kube" / "config")

    def environment_of(self, kubeconfig):
        return {**self.environment, "KUBECONFIG": kubeconfig}

    def resident(self):
        """MiB of memory that kina has resident; None where this cannot be seen."""
        try:
            found = re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{self.server.pid}/status").read_text())
        except FileNotFoundError:
            return None
        return int(found.group(1)) // 1024

    def open_files(self):
        """How many file descriptors kina has open; None where this cannot be seen."""
        try:
            return len(os.listdir(f"/proc/{self.server.pid}/fd"))
        except FileNotFoundError:
            return None


class Endpoint:
    """Where a kubeconfig leads, for requests that no client would send."""

    def __init__(self, kubeconfig, directory):
        text = pathlib.Path(kubeconfig).read_text()
        field = lambda name: re.search(rf"{name}: \"?([^\s\"]+)", text).group(1)
        self.host, port = re.search(r"https://([^:\s\"]+):(\d+)", text).groups()
        self.port = int(port)
        parts = {}
        for name in ["certificate-authority-data", "client-certificate-data", "client-key-data"]:
            parts[name] = pathlib.Path(directory, f"{self.port}-{name}.pem")
            parts[name].write_bytes(base64.b64decode(field(name)))
            parts[name].chmod(0o600)
        self.context = ssl.create_default_context(cafile=str(parts["certificate-authority-data"]))
        self.context.load_cert_chain(parts["client-certificate-data"], parts["client-key-data"])

    def connect(self, seconds=20):
        """A TLS connection."""
        plain = socket.create_connection((self.host, self.port), timeout=seconds)
        try:
            return self.context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise

    def ask(self, method, path, body=None, headers=(), seconds=20):
        """One request on a connection of its own: the code and the answer."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=self.context)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, {"Content-Type": "application/json", **dict(headers)})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

"""schemathesis: requests that follow from the OpenAPI documents alone, with values that fit and values that do not. No answer
may blame the server, and none may be missing. KUBECONFIG is a simulated cluster's, KINA_OWN Kina's own."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from checks import Checks
from world import Endpoint

# Of each API one document with built-in kinds, or with Kina's.
DOCUMENTS = {"KINA_OWN": ["apis/kina.dev/v1alpha1"], "KUBECONFIG": ["apis/apps/v1", "apis/policy/v1"]}
# For each document; what has been asked by then has been answered.
SECONDS = int(os.environ.get("KINA_CLIENTS_SECONDS", "60"))
EXAMPLES = os.environ.get("KINA_CLIENTS_EXAMPLES", "2")
# Not its script, which knows where this Python was installed first.
PROGRAM = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]


def without_watches(document):
    """A watch has no end, which would count as an answer that is missing."""
    for path in document["paths"].values():
        for part in [path, *(part for part in path.values() if isinstance(part, dict))]:
            if "parameters" in part:
                part["parameters"] = [given for given in part["parameters"] if given.get("name") != "watch"]
    return document


def generated(name, path):
    with tempfile.TemporaryDirectory() as directory:
        api = Endpoint(os.environ[name], directory)
        code, document = api.ask("GET", f"/openapi/v3/{path}")
        assert code == 200, f"{path}: {code}"
        file = pathlib.Path(directory, "openapi.json")
        file.write_text(json.dumps(without_watches(json.loads(document))))
        part = lambda kind: f"{directory}/{api.port}-{kind}.pem"
        # The first failure ends it; without one, time does. Nothing is deleted: others work in the same clusters.
        command = (
            [*PROGRAM, "run", str(file), "--url", f"https://{api.host}:{api.port}"]
            + ["--request-cert", part("client-certificate-data"), "--request-cert-key", part("client-key-data")]
            + ["--tls-verify", part("certificate-authority-data"), "--checks", "not_a_server_error"]
            + ["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--request-timeout", "20"]
            + ["--generation-database", "none", "--no-color", "--exclude-method", "DELETE", "--max-failures", "1", "--max-time", str(SECONDS)]
        )
        try:
            ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=SECONDS + 15)
        except subprocess.TimeoutExpired:
            return
        assert ran.returncode == 0, (ran.stdout + ran.stderr)[-4000:]


checks = Checks("schemathesis")
for name, paths in DOCUMENTS.items():
    for path in paths:
        checks.check(f"schemathesis: {path}", lambda name=name, path=path: generated(name, path))
sys.exit(checks.end())

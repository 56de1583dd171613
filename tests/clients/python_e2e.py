"""The Python client's own tests: those in its package, and its end-to-end tests where a checkout of it is at hand.

What they ask for and Kina does not serve is left out by name; everything else has to pass.
"""

import os
import pathlib
import re
import subprocess
import sys

import kubernetes
from checks import Checks

# By what they need: kinds and subresources that are listed as not supported in docs/reference/api.md.
LEFT_OUT = {
    "no CustomResourceDefinitions": ["custom_resources"],
    "no ReplicationControllers": ["replication_controller", "multi_resource"],
    "no Jobs": ["test_job_apis"],
    "no roles": ["rbac_role"],
    "no APIServices": ["apiservice"],
    "no exec, port forwarding or logs": ["exec", "portforward", "exit_code", "test_pod_apis"],
    "needs a proxy": ["proxy_ssl_context"],
    "needs metrics": ["metrics_utilities"],
    # They compare resources of two clients by identity, and fail with every server.
    "fails with every server": ["test_cache_decoder"],
}

checks = Checks("python")
package = pathlib.Path(kubernetes.__path__[0])
checkout = os.environ.get("KUBERNETES_PYTHON")
tests = [str(package / "dynamic" / name) for name in ["client_test.py", "test_client.py", "test_discovery.py"]]
where = os.getcwd()
if checkout:
    # Their tests import each other from inside the package, and name their files from the checkout's root.
    link = package / "e2e_test"
    if link.is_symlink() or not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(pathlib.Path(checkout, "kubernetes", "e2e_test").resolve())
    tests.append(str(link))
    where = checkout
else:
    checks.skip("the Python client's end-to-end tests", "KUBERNETES_PYTHON names no checkout of it")
    tests = tests[:1]
for reason, names in LEFT_OUT.items():
    checks.skip(f"the Python client's {', '.join(names)}", reason)
wanted = " and ".join(f"not {name}" for names in LEFT_OUT.values() for name in names)
command = [sys.executable, "-m", "pytest", "--quiet", "--tb=short", "-rA", "-p", "no:cacheprovider", "-k", wanted, *tests]
done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=280)
for line in done.stdout.splitlines():
    if found := re.match(r"(PASSED|FAILED|ERROR) (\S+)(.*)", line):
        verdict, name, why = found.groups()
        name = f"its own {name.split('kubernetes/')[-1]}"
        checks.check(name, lambda: None) if verdict == "PASSED" else checks.fail(name, why.strip(" -"))
if not checks.passed:
    checks.fail("its own tests run", done.stdout + done.stderr)
sys.exit(checks.end())

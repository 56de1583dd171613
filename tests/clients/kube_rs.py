"""kube-rs's own integration tests, out of a checkout of it, with a simulated cluster."""

import os
import re
import subprocess

# By what they need: kinds and subresources that are listed as not supported in docs/reference/api.md.
LEFT_OUT = {
    "no exec, attach or logs": ["pod_can_exec", "can_get_pod_logs", "ephemeral_containers"],
    "no roles": ["client_ext_list_get", "client_ext_fetch_ref", "attaches_events_without_namespace"],
    "no CustomResourceDefinitions": ["derived_resource_queryable"],
    "no APIServices": ["group_discovery_oneshot"],
    "no CertificateSigningRequests": ["csr_can_be_approved"],
    "no tokens of ServiceAccounts": ["create_token_request"],
    "names the column of a field in an answer of Go's": ["fetch_fails"],
    "needs OpenSSL": ["openssl"],
    "needs another program": ["exec_auth", "exec_token"],
}
PACKAGES = [
    ["-p", "kube-client", "--features", "client,rustls-tls,ring,config,ws,unstable-client"],
    ["-p", "kube", "-p", "kube-runtime", "--all-features"],
]


def smoke(checks, world, checkout, cache, environment):
    for reason, names in LEFT_OUT.items():
        checks.skip(f"kube-rs's {', '.join(names)}", reason)
    skip = [word for names in LEFT_OUT.values() for name in names for word in ("--skip", name)]
    environment = {**environment, "KUBECONFIG": world.toy, "CARGO_TARGET_DIR": str(cache / "kube-rs-target")}
    for package in PACKAGES:
        command = ["cargo", "test", "--lib", *package, "--", "--ignored", "--test-threads=1", *skip]
        done = subprocess.run(
            command, cwd=checkout, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800
        )
        ran = re.findall(r"^test (\S+) \.\.\. (ok|FAILED)$", done.stdout, re.MULTILINE)
        for name, verdict in ran:
            checks.check(f"its own {name}", lambda: None) if verdict == "ok" else checks.fail(f"its own {name}", done.stdout)
        if not ran:
            checks.fail("its own tests run", done.stderr[-2000:])

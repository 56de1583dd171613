"""The suite: which parts there are, and how they ended."""

import os
import sys
import time

import checks
import fetch
from world import World

REQUIRED = bool(os.environ.get("KINA_CLIENTS_REQUIRED"))


def kubectl(world, found):
    import kubectl_own
    import kubectl_toy

    for version in fetch.KUBECTLS:
        with had(found, f"kubectl {version}", lambda: fetch.kubectl(version)) as path:
            if path:
                kubectl_own.smoke(found, kubectl_own.Kubectl(world, path, version, world.own))
                kubectl_toy.smoke(found, kubectl_own.Kubectl(world, path, version, world.toy))


def helm(world, found):
    import helm as part

    for version in fetch.HELMS:
        with had(found, f"helm {version}", lambda: fetch.helm(version)) as path:
            if path:
                part.smoke(found, part.Helm(world, path, version, world.toy), world.own)


def of_python(*scripts):
    """A part in processes of its own, in a Python that has its client."""

    def part(world, found):
        with had(found, "a Python with its clients", fetch.python) as python:
            if not python:
                return
            here = os.path.dirname(os.path.abspath(__file__))
            environment = {**world.environment_of(world.toy), "KINA_OWN": world.own, "PYTHONPATH": here}
            if checkout := os.environ.get("KUBERNETES_PYTHON"):
                environment["KUBERNETES_PYTHON"] = os.path.abspath(checkout)
            for script in scripts:
                ran = checks.program([str(python), f"{here}/{script}"], environment, world.work, seconds=300)
                failed = len(found.failed)
                found.read(ran.out)
                if ran.code != 0 and len(found.failed) == failed:
                    found.fail(f"{script} runs to its end", f"{ran.code}: {ran.err}")

    return part


def go(world, found):
    import client_go

    def program(name):
        try:
            return fetch.go_program(name)
        except fetch.Missing as reason:
            (found.fail if REQUIRED else found.skip)(f"client-go's {name}", str(reason))
            return None

    client_go.smoke(found, world, program)


def limits(world, found):
    import limits as part

    part.smoke(found, world)


def kube_rs(world, found):
    import kube_rs as part

    checkout = os.environ.get("KUBE_RS")
    if not checkout:
        return found.skip("kube-rs's integration tests", "KUBE_RS names no checkout of it")
    part.smoke(found, world, checkout, fetch.CACHE, dict(os.environ))


class had:
    """A client, or nothing: then its part is skipped by name."""

    def __init__(self, found, name, get):
        self.found, self.name, self.get = found, name, get

    def __enter__(self):
        try:
            return self.get()
        except fetch.Missing as reason:
            (self.found.fail if REQUIRED else self.found.skip)(self.name, str(reason))
            return None

    def __exit__(self, *_):
        return False


PARTS = {
    "kubectl": kubectl,
    "helm": helm,
    "python": of_python("python_kubernetes.py", "python_e2e.py"),
    "lightkube": of_python("python_lightkube.py"),
    "kr8s": of_python("python_kr8s.py"),
    "kopf": of_python("python_kopf.py"),
    "schemathesis": of_python("python_schemathesis.py"),
    "go": go,
    "limits": limits,
    "kube-rs": kube_rs,
}


def main(arguments):
    if arguments == ["--fetch"]:
        missing = fetch.everything()
        print("\n".join(f"cannot be had: {line}" for line in missing) or "every client is here")
        return 1 if missing and REQUIRED else 0
    unknown = [name for name in arguments if name not in PARTS]
    if unknown:
        print(f"no such part: {' '.join(unknown)} (there are {' '.join(PARTS)})", file=sys.stderr)
        return 2
    everything, began = [], time.monotonic()
    with World(os.environ["KINA_BIN"]) as world:
        for name in arguments or PARTS:
            found, start = checks.Checks(name), time.monotonic()
            PARTS[name](world, found)
            found.check("kina still serves", lambda: world.alive() and world.kina("get", "clusters").ok())
            print(f"---- {name}: {time.monotonic() - start:.0f} s", flush=True)
            everything.append(found)
    passed = sum(found.passed for found in everything)
    failed = [f"{found.part}: {name}" for found in everything for name, _ in found.failed]
    skipped = [f"{found.part}: {name}: {why}" for found in everything for name, why in found.skipped]
    for line in skipped:
        print(f"skipped: {line}")
    for line in failed:
        print(f"failed:  {line}")
    print(f"clients took {time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

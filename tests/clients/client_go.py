"""client-go's own examples with a simulated cluster, and with Kina's own API where its kinds are there."""

import subprocess

from checks import has, program, same, until
from world import Endpoint


def leader_election(world, path, kubeconfig):
    """Two that want to lead: one does; when it ends it lets go, and the other leads."""
    environment = world.environment_of(kubeconfig)
    command = [str(path), "-kubeconfig", kubeconfig, "-lease-lock-name", "suite", "-lease-lock-namespace", "default"]

    def candidate(name):
        log = open(world.work / f"leader-{name}.log", "w+")
        started = subprocess.Popen(
            [*command, "-id", name], env=environment, cwd=world.work, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        return started, lambda: open(log.name).read()

    first, first_said = candidate("one")
    second, second_said = None, None
    try:
        until("the first leads", lambda: "uccessfully acquired lease" in first_said(), 30, first_said)
        second, second_said = candidate("two")
        until("the second knows who leads", lambda: "new leader elected: one" in second_said())
        first.terminate()
        same(first.wait(timeout=30), 0)
        led = lambda: "uccessfully acquired lease" in second_said()
        until("the second leads", led, 45, lambda: f"{first_said()}{second_said()}")
    finally:
        for process in filter(None, [first, second]):
            process.kill()
            process.wait()


def deployments(world, path):
    """Creates, updates (through a conflict loop), lists and deletes a Deployment, asking for Enter between."""
    api = Endpoint(world.toy, world.work)
    path_of = "/apis/apps/v1/namespaces/default/deployments/demo-deployment"
    until("there is none of another", lambda: api.ask("GET", path_of)[0] == 404)
    said = program([str(path), "-kubeconfig", world.toy], world.environment_of(world.toy), world.work, "\n" * 8).ok()
    has(said, "Created deployment", "Updated deployment...", " * demo-deployment (1 replicas)", "Deleted deployment.")


def informer(world, path):
    """A shared informer with a work queue on the Pods of a namespace: it sees what comes, changes and goes."""
    api = Endpoint(world.toy, world.work)
    pods = "/api/v1/namespaces/default/pods"
    pod = {"metadata": {"name": "seen"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    with open(world.work / "informer.log", "w+") as log:
        process = subprocess.Popen(
            [str(path), "-kubeconfig", world.toy],
            env=world.environment_of(world.toy),
            cwd=world.work,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    said = lambda: open(log.name).read()
    try:
        until("it is synced", lambda: "Caches are synced" in said())
        same(api.ask("POST", pods, pod)[0], 201)
        until("the pod is seen", lambda: "Sync/Add/Update for Pod seen" in said())
        same(api.ask("DELETE", f"{pods}/seen?gracePeriodSeconds=0")[0], 200)
        until("its end is seen", lambda: "Pod default/seen does not exist anymore" in said())
        same(process.poll(), None)
    finally:
        process.kill()
        process.wait()


def smoke(checks, world, found):
    """`found` gives the path of an example, or nothing."""
    if path := found("leader-election"):
        checks.check("leader election, a simulated cluster", lambda: leader_election(world, path, world.toy))
        checks.check("leader election, Kina's own API", lambda: leader_election(world, path, world.own))
    for name in ["create-update-delete-deployment", "dynamic-create-update-delete-deployment"]:
        if path := found(name):
            checks.check(name.replace("-", " "), lambda path=path: deployments(world, path))
    if path := found("workqueue"):
        checks.check("an informer with a work queue", lambda: informer(world, path))

"""kubectl with Kina's own API: what people do to Clusters, Machines and Sources."""

import json
import signal
import subprocess

from checks import Skipped, has, program, same, until

CLUSTER = """\
apiVersion: kina.dev/v1alpha1
kind: Cluster
metadata:
  name: {name}
  labels: {{ team: a }}
spec:
  runtime: sim
  kubernetesVersion: v1.35.5
  workers:
  - name: pool
    replicas: {replicas}
"""


class Kubectl:
    """One kubectl with one API."""

    def __init__(self, world, path, version, kubeconfig):
        self.world, self.path, self.version, self.kubeconfig = world, str(path), version, kubeconfig
        self.minor = int(version.split(".")[1])
        self.tag = f"k{self.minor}"
        self.environment = world.environment_of(kubeconfig)

    def __call__(self, line, *more, stdin=None, seconds=60, **environment):
        command = [self.path, *line.split(), *more]
        return program(command, {**self.environment, **environment}, self.world.work, stdin, seconds)

    def since(self, minor, what):
        """Skips what came with a later kubectl."""
        if self.minor < minor:
            raise Skipped(f"{what} came with kubectl 1.{minor}")

    def get(self, what):
        return json.loads(self(f"get {what} -o json").ok())

    def watch(self, line):
        """A kubectl that goes on; its output is read as it comes."""
        command = [self.path, *line.split()]
        return subprocess.Popen(
            command, env=self.environment, cwd=self.world.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        )


def smoke(checks, kubectl):
    """The list, in order: some checks stand on others."""
    name = kubectl.tag
    file = f"{name}.yaml"
    write = lambda replicas=1: kubectl.world.file(file, CLUSTER.format(name=name, replicas=replicas))
    check = checks.check

    def discovery():
        has(kubectl("version").ok(), "v1.37.0+kina")
        has(kubectl("api-resources").ok(), "clusters", "cl ", "kina.dev/v1alpha1")
        has(kubectl("api-versions").ok(), "kina.dev/v1alpha1", "coordination.k8s.io/v1")
        has(kubectl("api-resources --api-group=kina.dev -o name").ok(), "machines.kina.dev")

    def creation():
        write()
        same(kubectl(f"create -f {file}").ok(), f"cluster.kina.dev/{name} created\n")
        kubectl(f"create -f {file}").refused(f'clusters.kina.dev "{name}" already exists')

    def reading():
        has(kubectl("get clusters").ok(), "NAME", "PHASE", "MACHINES", name, "toy")
        has(kubectl(f"get cl {name} -o wide").ok(), name)
        has(kubectl(f"get cluster {name} -o yaml").ok(), "kind: Cluster")
        same(kubectl.get(f"clusters.kina.dev {name}")["metadata"]["name"], name)
        has(kubectl("get clusters.v1alpha1.kina.dev -o name").ok(), f"cluster.kina.dev/{name}\n")
        has(kubectl("get cl --chunk-size=1 -o name").ok(), f"cluster.kina.dev/{name}\n", "cluster.kina.dev/toy\n")
        has(kubectl("get cl,machines --sort-by=.metadata.name -o name").ok(), "machine.kina.dev/toy-pool-0")
        has(kubectl(f"get cl -o custom-columns=N:.metadata.name,V:.spec.kubernetesVersion").ok(), "v1.35.5")
        same(kubectl("get cl toy -o jsonpath={.status.phase}").ok(), "Running")
        same(kubectl("get cl toy -o go-template={{.metadata.name}}").ok(), "toy")
        kubectl("get cl nothing").refused('clusters.kina.dev "nothing" not found')
        same(kubectl("get cl nothing --ignore-not-found").ok(), "")

    def selectors():
        same(kubectl(f"get cl -l team=a --field-selector metadata.name={name} -o name").ok(), f"cluster.kina.dev/{name}\n")
        same(kubectl("get cl -l team=none -o name").ok(), "")
        has(kubectl("get cl -l team -L team").ok(), "TEAM", name)
        same(kubectl("get cl -l team!=a,team -o name").ok(), "")
        has(kubectl("get machines --field-selector spec.cluster=toy -o name").ok(), "toy-control-plane-0")
        kubectl("get cl --field-selector spec.paused=true").refused("field label not supported")

    def generated_names():
        text = CLUSTER.format(name="x", replicas=0).replace("name: x", f"generateName: {name}-g-").replace("kina:", "")
        made = kubectl("create -o name -f -", stdin=text).ok().strip()
        same(len(made), len(f"cluster.kina.dev/{name}-g-") + 5)
        kubectl(f"delete {made} --wait=false").ok()

    def client_side_apply():
        write()
        kubectl(f"apply -f {file}").ok()
        same(kubectl(f"apply -f {file}").ok(), f"cluster.kina.dev/{name} unchanged\n")
        write(2)
        same(kubectl(f"apply -f {file}").ok(), f"cluster.kina.dev/{name} configured\n")
        same(kubectl.get(f"cl {name}")["spec"]["workers"][0]["replicas"], 2)
        has(kubectl(f"apply view-last-applied cl/{name}").ok(), "replicas: 2")
        write(1)
        kubectl(f"apply -f {file}").ok()

    def server_side_apply():
        write()
        same(kubectl(f"apply --server-side --force-conflicts -f {file}").ok(), f"cluster.kina.dev/{name} serverside-applied\n")
        before = kubectl.get(f"cl {name}")["metadata"]["resourceVersion"]
        kubectl(f"patch cl {name} --type=merge --field-manager=hand", "-p", '{"metadata":{"labels":{"team":"b"}}}').ok()
        conflict = kubectl(f"apply --server-side -f {file}").refused("conflict", '"hand"', ".metadata.labels.team")
        has(conflict, "--force-conflicts")
        kubectl(f"apply --server-side --force-conflicts -f {file}").ok()
        if kubectl.get(f"cl {name}")["metadata"]["resourceVersion"] == before:
            raise AssertionError("nothing was written")

    def typos():
        kubectl.world.file(file, CLUSTER.format(name=name, replicas=1).replace("replicas:", "replicaz:"))
        # Older ones find it themselves, by OpenAPI v2.
        kubectl(f"apply -f {file}").refused('unknown field "', 'replicaz"')
        warned = kubectl(f"apply --validate=false -f {file}")
        warned.ok()
        if kubectl.minor < 25:
            has(warned.err, 'Warning: unknown field "spec.workers[0].replicaz"')

    def dry_runs():
        write()
        kubectl(f"apply -f {file}").ok()
        before = kubectl.get(f"cl {name}")
        write(3)
        has(kubectl(f"apply --dry-run=server -f {file}").ok(), "configured (server dry run)")
        has(kubectl(f"apply --dry-run=client -f {file}").ok(), "configured (dry run)")
        different = kubectl(f"diff -f {file}")
        same((different.code, "+    replicas: 3" in different.out), (1, True))
        has(kubectl(f"delete cl {name} --dry-run=server").ok(), "deleted (server dry run)")
        same(kubectl("delete cl -l team=none").ok(), "No resources found\n")
        has(kubectl("delete cl --all --dry-run=server").ok(), f'"{name}" deleted (server dry run)')
        after = kubectl.get(f"cl {name}")
        same((after["spec"], after["metadata"]["uid"]), (before["spec"], before["metadata"]["uid"]))

    def explanations():
        # Before 1.27 by OpenAPI v2, since then by v3.
        has(kubectl("explain cluster.spec").ok(), "kubernetesVersion", "controlPlane")
        has(kubectl("explain cluster.spec.workers --recursive").ok(), "replicas")

    def labels():
        same(kubectl(f"label cl {name} season=autumn").ok(), f"cluster.kina.dev/{name} labeled\n")
        kubectl(f"label cl {name} season=winter").refused("already has a value (autumn)")
        kubectl(f"label cl {name} season=winter --overwrite").ok()
        same(kubectl(f"annotate cl {name} note=one").ok(), f"cluster.kina.dev/{name} annotated\n")
        same(kubectl("get cl -l season=winter -o name").ok(), f"cluster.kina.dev/{name}\n")
        kubectl(f"label cl {name} season-").ok()
        same(kubectl("get cl -l season -o name").ok(), "")

    def patches():
        kubectl(f"patch cl {name} --type=merge", "-p", '{"spec":{"drift":{"mode":"Audit"}}}').ok()
        kubectl(f"patch cl {name} --type=json", "-p", '[{"op":"replace","path":"/spec/drift/mode","value":"Monitor"}]').ok()
        same(kubectl(f"get cl {name} -o jsonpath={{.spec.drift.mode}}").ok(), "Monitor")
        kubectl(f"patch cl {name}", "-p", '{"spec":{"paused":true}}').refused("application/merge-patch+json")
        kubectl(f"patch cl {name} --type=merge", "-p", '{"spec":{"drift":{"mode":"Sometimes"}}}').refused("spec.drift.mode")

    def scales():
        kubectl(f"scale cl {name} --replicas=3").refused("could not find the requested resource")

    def replacement():
        uid = kubectl.get(f"cl {name}")["metadata"]["uid"]
        write()
        same(kubectl(f"replace -f {file}").ok(), f"cluster.kina.dev/{name} replaced\n")
        same(kubectl.get(f"cl {name}")["metadata"]["uid"], uid)

    def editing():
        editor = "sed -i s/mode:.[A-Z].*/mode:\\ Audit/"
        same(kubectl(f"edit cl {name}", KUBE_EDITOR=editor).ok(), f"cluster.kina.dev/{name} edited\n")
        same(kubectl.get(f"cl {name}")["spec"]["drift"]["mode"], "Audit")
        has(kubectl(f"edit cl {name}", KUBE_EDITOR="true").err, "cancelled, no changes made")

    def waiting():
        kubectl(f"wait --for=condition=Ready cl/{name} --timeout=60s", seconds=90).ok()
        kubectl(f"wait --for=condition=Never cl/{name} --timeout=1s").refused("timed out waiting")
        kubectl.since(23, "wait --for=jsonpath")
        kubectl(f"wait --for=jsonpath={{.status.phase}}=Running cl/{name} --timeout=60s").ok()

    def descriptions():
        described = kubectl(f"describe cl {name}").ok()
        has(described, f"Name:         {name}", "Kubernetes Version:  v1.35.5", "Events:")
        until("events are described", lambda: "kina" in kubectl(f"describe cl {name}").ok().split("Events:")[1])
        events = kubectl(f"get events --field-selector involvedObject.name={name},involvedObject.kind=Cluster").ok()
        has(events, "LAST SEEN", f"cluster/{name}")
        has(kubectl(f"describe machine toy-pool-0").ok(), "Name:         toy-pool-0")
        kubectl.since(26, "kubectl events")
        has(kubectl(f"events --for cluster/{name}").ok(), f"Cluster/{name}")

    def watches():
        watching = kubectl.watch(f"get cl {name} -w --no-headers")
        try:
            has(watching.stdout.readline(), name)
            kubectl(f"label cl {name} seen=yes --overwrite").ok()
            has(watching.stdout.readline(), name)
            watching.send_signal(signal.SIGINT)
        finally:
            watching.kill()
            watching.wait()
        ended = kubectl("get cl -w --request-timeout=2s -o name", seconds=20)
        has(ended.out, f"cluster.kina.dev/{name}\n")

    def questions():
        same(kubectl("auth can-i delete clusters.kina.dev").ok(), "yes\n")
        has(kubectl("auth can-i --list").ok(), "*.*")
        kubectl("get cl --as=bob").refused("impersonation is not supported")
        kubectl.since(28, "auth whoami")
        has(kubectl("auth whoami").ok(), "kina:admin")

    def raw():
        same(kubectl("get --raw /healthz").ok(), "ok")
        has(kubectl("get --raw /openapi/v3").ok(), "apis/kina.dev/v1alpha1")
        has(kubectl("get --raw /metrics").ok(), "# HELP")
        same(json.loads(kubectl("get --raw /version").ok())["major"], "1")
        has(kubectl("config view --minify").ok(), "kina", "https://127.0.0.1:")
        kubectl("cluster-info").refused("services")
        kubectl("get pods").refused("the server doesn't have a resource type")

    def rules():
        kubectl("delete machine toy-pool-0").refused("machine toy-pool-0 belongs to its cluster")
        kubectl("patch machine toy-pool-0 --type=merge", "-p", '{"spec":{"pool":"x"}}').refused("belongs to its cluster")
        kubectl(f"label machine toy-pool-0 {name}=yes").ok()

    def namespaces():
        same(kubectl(f"create ns {name}").ok(), f"namespace/{name} created\n")
        has(kubectl("get ns").ok(), f"{name} ", "Active")
        kubectl(f"delete ns {name}").ok()
        kubectl(f"create configmap {name} --from-literal=a=b").refused()

    def deletion():
        watching = kubectl.watch(f"wait --for=delete cl/{name} --timeout=60s")
        same(kubectl(f"delete cl {name} --timeout=60s", seconds=90).ok(), f'cluster.kina.dev "{name}" deleted\n')
        same(watching.wait(timeout=60), 0)
        kubectl(f"get cl {name}").refused("not found")
        same(kubectl(f"get machines --field-selector spec.cluster={name} -o name").ok(), "")

    for story in [
        discovery,
        creation,
        reading,
        selectors,
        generated_names,
        client_side_apply,
        server_side_apply,
        typos,
        dry_runs,
        explanations,
        labels,
        patches,
        scales,
        replacement,
        editing,
        waiting,
        descriptions,
        watches,
        questions,
        raw,
        rules,
        namespaces,
        deletion,
    ]:
        check(f"kubectl {kubectl.version}, Kina's own API: {story.__name__.replace('_', ' ')}", story)


"""kr8s, a third client for Python. KUBECONFIG is a simulated cluster's, KINA_OWN Kina's own."""

import os
import sys

import kr8s
from checks import Checks, same, until
from kr8s.objects import ConfigMap, Deployment, Node, Pod, new_class

toy, own = kr8s.api(kubeconfig=os.environ["KUBECONFIG"]), kr8s.api(kubeconfig=os.environ["KINA_OWN"])


def versions():
    same(toy.version()["gitVersion"], "v1.35.5")
    assert any(resource["kind"] == "Cluster" for resource in own.api_resources())


def objects():
    made = ConfigMap({"metadata": {"name": "kr8s", "namespace": "default"}, "data": {"a": "1"}}, api=toy)
    made.create()
    made.patch({"data": {"b": "2"}})
    made.label(suite="kr8s")
    made.refresh()
    same(dict(made.data), {"a": "1", "b": "2"})
    same([item.name for item in toy.get("configmaps", label_selector="suite=kr8s", namespace="default")], ["kr8s"])
    made.delete()
    until("it is gone", lambda: not made.exists())


def nodes():
    node = Node.get("toy-pool-0", api=toy)
    node.cordon()
    node.uncordon()
    same(len(list(toy.get("nodes"))), 3)


def pods():
    pod = Pod.gen(name="kr8s", image="x")
    pod.api = toy
    pod.namespace = "default"
    pod.create()
    pod.wait("condition=Ready", timeout=30)
    pod.delete()


def workloads():
    found = Deployment.get("coredns", namespace="kube-system", api=toy)
    assert found.ready()
    found.scale(3)
    found.scale(2)


def watches():
    ConfigMap({"metadata": {"name": "kr8s-seen", "namespace": "default"}}, api=toy).create()
    for kind, item in toy.watch("configmaps", namespace="default", field_selector="metadata.name=kr8s-seen"):
        same((kind, item.name), ("ADDED", "kr8s-seen"))
        item.delete()
        break


def clusters():
    Cluster = new_class(kind="Cluster", version="kina.dev/v1alpha1", namespaced=False)
    made = Cluster({"metadata": {"name": "kr8s"}, "spec": {"runtime": "sim", "paused": True}}, api=own)
    made.create()
    made.label(suite="kr8s")
    same([item.name for item in own.get("clusters.kina.dev", label_selector="suite=kr8s")], ["kr8s"])
    made.delete()
    until("it is gone", lambda: not made.exists())


checks = Checks("kr8s")
for story in [versions, objects, nodes, pods, workloads, watches, clusters]:
    checks.check(f"kr8s: {story.__name__.replace('_', ' ')}", story)
sys.exit(checks.end())

"""lightkube, another client for Python. KUBECONFIG is a simulated cluster's, KINA_OWN Kina's own."""

import os
import sys

import lightkube
from checks import Checks, same, until
from lightkube.core.exceptions import ApiError, LoadResourceError
from lightkube.generic_resource import create_global_resource, load_in_cluster_generic_resources
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Node, Pod
from lightkube.types import CascadeType, PatchType

to = lambda path, **more: lightkube.Client(config=lightkube.KubeConfig.from_file(path), **more)
toy = to(os.environ["KUBECONFIG"], namespace="default", field_manager="lightkube")
own = to(os.environ["KINA_OWN"], field_manager="lightkube")
Cluster = create_global_resource("kina.dev", "v1alpha1", "Cluster", "clusters")


def objects():
    toy.create(ConfigMap(metadata=ObjectMeta(name="light"), data={"a": "1"}))
    toy.patch(ConfigMap, "light", {"data": {"b": "2"}})
    toy.patch(ConfigMap, "light", {"data": {"c": "3"}}, patch_type=PatchType.MERGE)
    same(toy.get(ConfigMap, "light").data, {"a": "1", "b": "2", "c": "3"})
    toy.apply(ConfigMap(apiVersion="v1", kind="ConfigMap", metadata=ObjectMeta(name="light"), data={"d": "4"}))
    same(toy.get(ConfigMap, "light").data["d"], "4")
    toy.delete(ConfigMap, "light")
    try:
        toy.get(ConfigMap, "light")
    except ApiError as refusal:
        same((refusal.status.code, refusal.status.reason), (404, "NotFound"))


def lists():
    same(sorted(node.metadata.name for node in toy.list(Node))[0], "toy-control-plane-0")
    for number in range(5):
        toy.create(ConfigMap(metadata=ObjectMeta(name=f"light-{number}", labels={"light": "y"})))
    same(len(list(toy.list(ConfigMap, labels={"light": "y"}, chunk_size=2))), 5)
    for number in range(5):
        toy.delete(ConfigMap, f"light-{number}")


def pods():
    toy.create(Pod(metadata=ObjectMeta(name="light"), spec=PodSpec(containers=[Container(name="c", image="x")])))
    toy.wait(Pod, "light", for_conditions=["Ready"])
    toy.delete(Pod, "light", grace_period=0)


def workloads():
    made = next(iter(toy.list(Deployment, namespace="kube-system")))
    assert made.status.readyReplicas, made.status


def watches():
    toy.create(ConfigMap(metadata=ObjectMeta(name="watched")))
    for kind, item in toy.watch(ConfigMap, fields={"metadata.name": "watched"}, server_timeout=5):
        same((kind, item.metadata.name), ("ADDED", "watched"))
        break
    toy.delete(ConfigMap, "watched", cascade=CascadeType.FOREGROUND)


def clusters():
    body = Cluster(apiVersion="kina.dev/v1alpha1", kind="Cluster", metadata=ObjectMeta(name="light"), spec={"runtime": "sim", "paused": True})
    own.apply(body)
    same(own.get(Cluster, "light").spec["paused"], True)
    assert "light" in {item.metadata.name for item in own.list(Cluster)}
    own.delete(Cluster, "light")
    gone = lambda: "light" not in {item.metadata.name for item in own.list(Cluster)}
    until("it is gone", gone)


def definitions():
    # Loads the kinds of CustomResourceDefinitions, which Kina does not serve.
    try:
        load_in_cluster_generic_resources(own)
    except (ApiError, LoadResourceError) as refusal:
        same(getattr(getattr(refusal, "status", None), "code", 404), 404)


checks = Checks("lightkube")
for story in [objects, lists, pods, workloads, watches, clusters, definitions]:
    checks.check(f"lightkube: {story.__name__.replace('_', ' ')}", story)
sys.exit(checks.end())

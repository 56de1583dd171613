"""The official client for Python. Runs in a Python that has it: KUBECONFIG is a simulated cluster's, KINA_OWN Kina's own.
"""

import os
import sys
import threading

from checks import Checks, same, until
from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

toy = config.new_client_from_config(os.environ["KUBECONFIG"])
own = config.new_client_from_config(os.environ["KINA_OWN"])
core, apps = client.CoreV1Api(toy), client.AppsV1Api(toy)
clusters = lambda verb, *arguments, **more: getattr(client.CustomObjectsApi(own), f"{verb}_cluster_custom_object")(
    "kina.dev", "v1alpha1", "clusters", *arguments, **more
)


def refused(code, call):
    try:
        call()
    except ApiException as refusal:
        return same(refusal.status, code)
    raise AssertionError(f"{code} was expected")


def versions():
    same(client.VersionApi(toy).get_code().git_version, "v1.35.5")
    names = {group.name for group in client.ApisApi(toy).get_api_versions().groups}
    assert {"apps", "policy", "coordination.k8s.io"} <= names, names


def configmaps():
    made = core.create_namespaced_config_map("default", {"metadata": {"name": "py"}, "data": {"a": "1"}})
    refused(409, lambda: core.create_namespaced_config_map("default", {"metadata": {"name": "py"}}))
    # A patch with a dict is a strategic merge patch, with a list a JSON patch.
    core.patch_namespaced_config_map("py", "default", {"data": {"b": "2"}})
    core.patch_namespaced_config_map("py", "default", [{"op": "add", "path": "/data/c", "value": "3"}])
    found = core.read_namespaced_config_map("py", "default")
    same(found.data, {"a": "1", "b": "2", "c": "3"})
    made.data = {"late": "1"}
    refused(409, lambda: core.replace_namespaced_config_map("py", "default", made))
    found.data = {"new": "1"}
    same(core.replace_namespaced_config_map("py", "default", found).data, {"new": "1"})
    core.delete_namespaced_config_map("py", "default")
    refused(404, lambda: core.read_namespaced_config_map("py", "default"))


def deployments():
    body = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="py"),
        spec=client.V1DeploymentSpec(
            replicas=2,
            selector=client.V1LabelSelector(match_labels={"app": "py"}),
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels={"app": "py"}),
                spec=client.V1PodSpec(containers=[client.V1Container(name="c", image="nginx")]),
            ),
        ),
    )
    apps.create_namespaced_deployment("default", body)
    ready = lambda count: lambda: apps.read_namespaced_deployment_status("py", "default").status.ready_replicas == count
    until("two are ready", ready(2))
    apps.patch_namespaced_deployment_scale("py", "default", {"spec": {"replicas": 3}})
    until("three are ready", ready(3))
    pods = core.list_namespaced_pod("default", label_selector="app=py").items
    same(len(pods), 3)
    # Evicting is what a drain does.
    core.create_namespaced_pod_eviction(
        pods[0].metadata.name, "default", client.V1Eviction(metadata=client.V1ObjectMeta(name=pods[0].metadata.name))
    )
    until("it is replaced", lambda: pods[0].metadata.name not in {
        pod.metadata.name for pod in core.list_namespaced_pod("default", label_selector="app=py").items
    })
    apps.delete_namespaced_deployment("py", "default", propagation_policy="Foreground")
    until("it is gone", lambda: not core.list_namespaced_pod("default", label_selector="app=py").items)


def pages():
    for number in range(7):
        core.create_namespaced_config_map("default", {"metadata": {"name": f"page-{number}", "labels": {"page": "y"}}})
    seen, token = [], None
    while True:
        page = core.list_namespaced_config_map("default", label_selector="page=y", limit=3, _continue=token)
        seen += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    same(seen, [f"page-{number}" for number in range(7)])
    core.delete_collection_namespaced_config_map("default", label_selector="page=y")
    same(core.list_namespaced_config_map("default", label_selector="page=y").items, [])


def watches():
    since = core.list_namespaced_config_map("default").metadata.resource_version
    core.create_namespaced_config_map("default", {"metadata": {"name": "seen"}})
    core.patch_namespaced_config_map("seen", "default", {"data": {"a": "1"}})
    core.delete_namespaced_config_map("seen", "default")
    events = []
    stream = watch.Watch()
    for event in stream.stream(
        core.list_namespaced_config_map, "default", resource_version=since, timeout_seconds=5, field_selector="metadata.name=seen"
    ):
        events.append(event["type"])
        if len(events) == 3:
            stream.stop()
    same(events, ["ADDED", "MODIFIED", "DELETED"])


def expired_watches():
    # A revision that the server does not know: 410, from which clients recover by listing.
    stream = watch.Watch().stream(core.list_node, resource_version="999999999999", timeout_seconds=2)
    refused(410, lambda: list(stream))


def nodes():
    items = core.list_node().items
    same(sorted(node.metadata.name for node in items), ["toy-control-plane-0", "toy-pool-0", "toy-pool-1"])
    core.patch_node("toy-pool-0", {"metadata": {"labels": {"py": "yes"}}})
    same(core.read_node("toy-pool-0").metadata.labels["py"], "yes")
    core.patch_node("toy-pool-0", {"metadata": {"labels": {"py": None}}})
    core.read_node_status("toy-pool-0")


def leases():
    api = client.CoordinationV1Api(toy)
    api.create_namespaced_lease("default", {"metadata": {"name": "py"}, "spec": {"holderIdentity": "a"}})
    same(api.read_namespaced_lease("py", "default").spec.holder_identity, "a")
    api.delete_namespaced_lease("py", "default")


def elections():
    led = threading.Event()
    config.load_kube_config(os.environ["KUBECONFIG"])
    settings = electionconfig.Config(
        ConfigMapLock("py-leader", "default", "me"),
        lease_duration=4,
        renew_deadline=3,
        retry_period=1,
        onstarted_leading=led.set,
        onstopped_leading=None,
    )
    threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()
    assert led.wait(20), "nobody leads"


def reviews():
    review = client.AuthorizationV1Api(toy).create_self_subject_access_review(
        {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    )
    same(review.status.allowed, True)


def custom_objects():
    body = {
        "apiVersion": "kina.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "py"},
        "spec": {"runtime": "sim", "paused": True},
    }
    clusters("create", body)
    same({item["metadata"]["name"] for item in clusters("list")["items"]} >= {"py", "toy"}, True)
    clusters("patch", "py", {"metadata": {"labels": {"py": "yes"}}})
    same(clusters("get", "py")["metadata"]["labels"]["py"], "yes")

    def replaced():
        found = clusters("get", "py")
        found["spec"]["drift"] = {"mode": "Audit"}
        try:
            return clusters("replace", "py", found)
        except ApiException as refusal:
            # Somebody wrote meanwhile, as Kina itself does.
            same(refusal.status, 409)

    until("it is replaced", replaced)
    same(clusters("list", label_selector="py=none")["items"], [])
    refused(409, lambda: clusters("create", body))
    refused(422, lambda: clusters("patch", "py", {"spec": {"drift": {"mode": "Sometimes"}}}))
    seen = []
    stream = watch.Watch()
    for event in stream.stream(
        client.CustomObjectsApi(own).list_cluster_custom_object, "kina.dev", "v1alpha1", "clusters", timeout_seconds=5
    ):
        seen.append((event["type"], event["object"]["metadata"]["name"]))
        if ("ADDED", "py") in seen:
            stream.stop()
    assert ("ADDED", "py") in seen, seen
    clusters("delete", "py")


def dynamically():
    api = dynamic.DynamicClient(own).resources.get(api_version="kina.dev/v1alpha1", kind="Cluster")
    body = {"apiVersion": api.group_version, "kind": "Cluster", "metadata": {"name": "dyn"}, "spec": {"runtime": "sim", "paused": True}}
    same(api.server_side_apply(body=body, field_manager="suite").metadata.name, "dyn")
    same(api.get(name="dyn").spec.paused, True)
    api.patch(name="dyn", body={"metadata": {"labels": {"x": "y"}}}, content_type="application/merge-patch+json")
    same([item.metadata.name for item in api.get(label_selector="x=y").items], ["dyn"])
    for event in api.watch(timeout=5, field_selector="metadata.name=dyn"):
        same(event["object"].metadata.name, "dyn")
        break
    api.delete(name="dyn")


def informers():
    from kubernetes.informer import ADDED, DELETED, SharedInformer

    seen = []
    informer = SharedInformer(list_func=core.list_namespaced_config_map, namespace="default")
    informer.add_event_handler(ADDED, lambda item: seen.append(("added", item.metadata.name)))
    informer.add_event_handler(DELETED, lambda item: seen.append(("deleted", item.metadata.name)))
    informer.start()
    try:
        core.create_namespaced_config_map("default", {"metadata": {"name": "informed"}})
        until("it comes", lambda: ("added", "informed") in seen)
        core.delete_namespaced_config_map("informed", "default")
        until("it goes", lambda: ("deleted", "informed") in seen)
    finally:
        informer.stop()


checks = Checks("python")
for story in [
    versions,
    configmaps,
    deployments,
    pages,
    watches,
    expired_watches,
    nodes,
    leases,
    elections,
    reviews,
    custom_objects,
    dynamically,
    informers,
]:
    checks.check(f"kubernetes for Python: {story.__name__.replace('_', ' ')}", story)
# Threads of informers and elections may wait for long.
sys.stdout.flush()
os._exit(checks.end())

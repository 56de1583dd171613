"""kopf, a framework for operators in Python: it watches Clusters in Kina's own API, keeps a finalizer and its progress on them
and writes what it did. KINA_OWN is Kina's own API."""

import os
import sys
import threading

# Read once, when the client is imported.
os.environ["KUBECONFIG"] = os.environ["KINA_OWN"]

import kopf
import kubernetes
from checks import Checks, same, until

kubernetes.config.load_kube_config(os.environ["KINA_OWN"])
clusters = kubernetes.client.CustomObjectsApi()
KIND = ("kina.dev", "v1alpha1", "clusters")
seen = []


@kopf.on.startup()
def configure(settings, **_):
    settings.posting.enabled = False
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="kopf.example.com")


@kopf.on.create(*KIND, labels={"suite": "kopf"})
def created(name, patch, **_):
    seen.append(("created", name))
    patch.metadata.annotations["example.com/seen"] = "yes"


@kopf.on.update(*KIND, labels={"suite": "kopf"}, field="metadata.labels.step")
def updated(name, new, **_):
    seen.append(("updated", new))


@kopf.on.delete(*KIND, labels={"suite": "kopf"})
def deleted(name, **_):
    seen.append(("deleted", name))


def an_operator_follows_a_cluster():
    ready, stop = threading.Event(), threading.Event()
    running = threading.Thread(target=lambda: kopf.run(clusterwide=True, ready_flag=ready, stop_flag=stop), daemon=True)
    running.start()
    try:
        assert ready.wait(30), "the operator does not start"
        metadata = {"name": "kopf", "labels": {"suite": "kopf", "step": "one"}}
        spec = {"runtime": "sim", "paused": True}
        body = {"apiVersion": "kina.dev/v1alpha1", "kind": "Cluster", "metadata": metadata, "spec": spec}
        clusters.create_cluster_custom_object(*KIND, body)
        until("it is seen", lambda: ("created", "kopf") in seen)
        found = lambda: clusters.get_cluster_custom_object(*KIND, "kopf")["metadata"]
        until("it is marked", lambda: found().get("annotations", {}).get("example.com/seen") == "yes")
        assert any("kopf" in finalizer for finalizer in found()["finalizers"]), found()["finalizers"]
        clusters.patch_cluster_custom_object(*KIND, "kopf", {"metadata": {"labels": {"step": "two"}}})
        until("its change is seen", lambda: ("updated", "two") in seen)
        clusters.delete_cluster_custom_object(*KIND, "kopf")
        until("its end is seen", lambda: ("deleted", "kopf") in seen)
        names = lambda: [item["metadata"]["name"] for item in clusters.list_cluster_custom_object(*KIND)["items"]]
        until("it is gone", lambda: "kopf" not in names())
        same(sorted(set(seen)), [("created", "kopf"), ("deleted", "kopf"), ("updated", "two")])
    finally:
        stop.set()
        running.join(20)


checks = Checks("kopf")
checks.check("kopf: an operator follows a cluster", an_operator_follows_a_cluster)
sys.exit(checks.end())

"""kubectl with a simulated cluster: what people do to any cluster."""

import json

from checks import has, same, until

WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}-web, labels: {{ suite: {name} }} }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: {name}-web }} }}
  template:
    metadata: {{ labels: {{ app: {name}-web }} }}
    spec:
      containers:
      - {{ name: web, image: "nginx:{image}" }}
---
apiVersion: v1
kind: ConfigMap
metadata: {{ name: {name}-config, labels: {{ suite: {name} }} }}
data: {{ image: "{image}" }}
"""


def smoke(checks, kubectl):
    name = kubectl.tag
    file = f"{name}-web.yaml"
    write = lambda image: kubectl.world.file(file, WEB.format(name=name, image=image))
    web = f"deployment/{name}-web"
    image = f"get deploy {name}-web -o jsonpath={{.spec.template.spec.containers[0].image}}"
    rolled = lambda: kubectl(f"rollout status {web} --timeout=30s").ok()

    def discovery():
        has(kubectl("version").ok(), "v1.35.5")
        has(kubectl("api-resources --namespaced=true").ok(), "deployments", "configmaps")
        has(kubectl("cluster-info").ok(), "is running at")
        for probe in ["healthz", "livez", "readyz"]:
            same(kubectl(f"get --raw /{probe}").ok(), "ok")
        has(kubectl("get nodes -o wide").ok(), "toy-control-plane-0", "control-plane", "v1.35.5")
        has(kubectl("get all -A").ok(), "pod/coredns", "deployment.apps/coredns", "daemonset.apps/kube-proxy")
        has(kubectl("get po -n kube-system --show-labels").ok(), "etcd-toy-control-plane-0", "k8s-app=kube-dns")

    def apply():
        write(1)
        has(kubectl(f"apply -f {file}").ok(), f"deployment.apps/{name}-web created", f"configmap/{name}-config created")
        has(kubectl(f"apply -f {file}").ok(), f"deployment.apps/{name}-web unchanged", f"configmap/{name}-config unchanged")
        rolled()
        write(2)
        different = kubectl(f"diff -f {file}")
        same((different.code, "+        image: nginx:2" in different.out or "+      - image: nginx:2" in different.out), (1, True))
        has(kubectl(f"apply --dry-run=server -f {file}").ok(), "configured (server dry run)")
        same(kubectl(image).ok(), "nginx:1")
        has(kubectl(f"apply -f {file}").ok(), f"deployment.apps/{name}-web configured", f"configmap/{name}-config configured")
        rolled()
        same(kubectl(image).ok(), "nginx:2")
        same(len(kubectl.get(f"pods -l app={name}-web")["items"]), 2)

    def server_side_apply():
        applied = kubectl(f"apply --server-side --force-conflicts -f {file}").ok()
        has(applied, f"deployment.apps/{name}-web serverside-applied", f"configmap/{name}-config serverside-applied")
        text = WEB.format(name=name, image=2).replace('image: "2"', "extra: yes-please")
        has(kubectl("apply --server-side --field-manager=other -f -", stdin=text.split("---")[1]).ok(), "serverside-applied")
        same(kubectl.get(f"cm {name}-config")["data"], {"image": "2", "extra": "yes-please"})

    def rollouts():
        kubectl(f"set image {web} web=nginx:3").ok()
        rolled()
        history = kubectl(f"rollout history {web}").ok()
        has(history, "REVISION", "1 ", "2 ", "3 ")
        has(kubectl(f"rollout history {web} --revision=1").ok(), "nginx:1")
        has(kubectl(f"rollout undo {web}").ok(), "rolled back")
        rolled()
        same(kubectl(image).ok(), "nginx:2")
        has(kubectl(f"rollout undo {web} --to-revision=1").ok(), "rolled back")
        rolled()
        same(kubectl(image).ok(), "nginx:1")
        # The revision that is gone back to becomes the newest.
        lines = kubectl(f"rollout history {web}").ok().split("\n")
        same([line.split()[0] for line in lines if line[:1].isdigit()], ["3", "4", "5"])
        kubectl(f"rollout undo {web} --to-revision=1").refused("unable to find specified revision 1 in history")
        kubectl(f"rollout pause {web}").ok()
        kubectl(f"rollout pause {web}").refused("is already paused")
        kubectl(f"rollout resume {web}").ok()
        before = sorted(pod["metadata"]["name"] for pod in kubectl.get(f"pods -l app={name}-web")["items"])
        has(kubectl(f"rollout restart {web}").ok(), "restarted")
        rolled()
        after = sorted(pod["metadata"]["name"] for pod in kubectl.get(f"pods -l app={name}-web")["items"])
        same(set(before) & set(after), set())

    def daemons():
        has(kubectl("rollout status -n kube-system ds/kube-proxy --timeout=30s").ok(), "successfully rolled out")
        has(kubectl("get ds -n kube-system").ok(), "DESIRED", "kube-proxy")

    def scales():
        has(kubectl(f"scale {web} --replicas=3").ok(), "scaled")
        rolled()
        same(len(kubectl.get(f"pods -l app={name}-web")["items"]), 3)
        kubectl(f"scale {web} --current-replicas=1 --replicas=3").refused("Expected replicas to be 1, was 3")
        kubectl(f"scale {web} --replicas=1").ok()
        until("one pod is left", lambda: len(kubectl.get(f"pods -l app={name}-web")["items"]) == 1)

    def things_made_by_command():
        kubectl(f"create ns {name}").ok()
        in_space = f"-n {name}"
        same(kubectl(f"create configmap c {in_space} --from-literal=a=b").ok(), "configmap/c created\n")
        same(kubectl(f"create secret generic s {in_space} --from-literal=a=b").ok(), "secret/s created\n")
        same(kubectl(f"get secret s {in_space} -o jsonpath={{.data.a}}").ok(), "Yg==")
        same(kubectl(f"create sa robot {in_space}").ok(), "serviceaccount/robot created\n")
        same(kubectl(f"create deployment d {in_space} --image=nginx").ok(), "deployment.apps/d created\n")
        has(kubectl(f"expose deployment d {in_space} --port=80").ok(), "service/d exposed")
        has(kubectl(f"create service nodeport np {in_space} --tcp=80:8080").ok(), "service/np created")
        has(kubectl(f"get svc {in_space}").ok(), "ClusterIP", "NodePort")
        same(kubectl(f"run once {in_space} --image=busybox --restart=Never").ok(), "pod/once created\n")
        kubectl(f"wait {in_space} --for=condition=Ready pod/once --timeout=30s").ok()
        budget = kubectl(f"create pdb b {in_space} --selector=app=d --min-available=1")
        if kubectl.minor < 21:
            # As on any Kubernetes since 1.25.
            budget.refused('no matches for kind "PodDisruptionBudget" in version "policy/v1beta1"')
        else:
            has(budget.ok(), "poddisruptionbudget.policy/b created")
        kubectl(f"label pods --all {in_space} all=yes").ok()
        same(len(kubectl.get(f"pods -l all=yes {in_space}")["items"]), 2)
        has(kubectl(f"delete cm --all {in_space}").ok(), '"c" deleted')
        kubectl(f"delete ns {name} --timeout=30s").ok()
        kubectl(f"get ns {name}").refused("not found")
        same(kubectl.get(f"deploy {in_space}")["items"], [])

    def patches():
        config = f"cm {name}-config"
        kubectl(f"patch {config}", "-p", '{"data":{"strategic":"1"}}').ok()
        kubectl(f"patch {config} --type=merge", "-p", '{"data":{"merge":"1"}}').ok()
        kubectl(f"patch {config} --type=json", "-p", '[{"op":"add","path":"/data/json","value":"1"}]').ok()
        has(kubectl(f"get {config} -o jsonpath={{.data}}").ok(), "strategic", "merge", "json")
        kubectl(f"set env {web} GREETING=hello").ok()
        kubectl(f"set resources {web} --limits=cpu=100m").ok()
        has(kubectl(f"get {web} -o yaml").ok(), "GREETING", "100m")
        uid = kubectl.get(config)["metadata"]["uid"]
        text = json.dumps({**kubectl.get(config), "data": {"new": "1"}})
        kubectl("replace -f -", stdin=text).ok()
        same((kubectl.get(config)["data"], kubectl.get(config)["metadata"]["uid"]), ({"new": "1"}, uid))
        kubectl(f"edit {config}", KUBE_EDITOR="sed -i s/new:/newer:/").ok()
        same(list(kubectl.get(config)["data"]), ["newer"])

    def nodes():
        kubectl("cordon toy-pool-0").ok()
        has(kubectl("get node toy-pool-0").ok(), "SchedulingDisabled")
        kubectl("taint node toy-pool-1 suite=here:NoSchedule").ok()
        kubectl("taint node toy-pool-1 suite-").ok()
        has(kubectl("drain toy-pool-0 --ignore-daemonsets --force --timeout=30s").ok(), "node/toy-pool-0 ")
        left = kubectl.get("pods -A --field-selector spec.nodeName=toy-pool-0")["items"]
        same({pod["metadata"]["ownerReferences"][0]["kind"] for pod in left}, {"DaemonSet"})
        kubectl("uncordon toy-pool-0").ok()
        has(kubectl("describe node toy-pool-0").ok(), "Conditions:", "Ready", "Allocated resources")
        kubectl(f"label node toy-pool-0 {name}=yes").ok()
        kubectl(f"label node toy-pool-0 {name}-").ok()

    def descriptions():
        has(kubectl(f"describe {web}").ok(), "RollingUpdateStrategy", "NewReplicaSet")
        rolled()
        pod = kubectl(f"get pods -l app={name}-web -o name").ok().split()[0]
        has(kubectl(f"describe {pod}").ok(), "Controlled By:", "nginx")
        kubectl("get events -A").ok()
        kubectl("describe svc kubernetes").ok()

    def pruning():
        text = WEB.format(name=name, image=1)
        arguments = f"apply --prune -l suite={name} --prune-allowlist=core/v1/ConfigMap -f -"
        if kubectl.minor < 26:
            arguments = arguments.replace("--prune-allowlist", "--prune-whitelist")
        has(kubectl(arguments, stdin=text.split("---")[0]).ok(), f"configmap/{name}-config pruned")
        kubectl(f"get cm {name}-config").refused("not found")

    def kustomize():
        directory = kubectl.world.work / f"{name}-kustomize"
        directory.mkdir(exist_ok=True)
        (directory / "kustomization.yaml").write_text(
            f"namePrefix: {name}-\nconfigMapGenerator:\n- name: made\n  literals: [a=b]\n"
        )
        made = kubectl(f"apply -k {directory}").ok()
        has(made, f"configmap/{name}-made-", "created")
        kubectl(f"delete -k {directory}").ok()

    def questions():
        same(kubectl("auth can-i create pods").ok(), "yes\n")
        has(kubectl("auth can-i --list").ok(), "*.*")
        kubectl.since(28, "auth whoami")
        has(kubectl("auth whoami").ok(), "Username")

    def explanations():
        has(kubectl("explain pod.spec.containers.image").ok(), "Container image name")

    def what_there_is_not():
        kubectl("get jobs").refused("the server doesn't have a resource type")
        kubectl("create job j --image=x").refused("the server could not find the requested resource")
        kubectl("create role r --verb=get --resource=pods").refused("the server could not find the requested resource")
        kubectl(f"autoscale {web} --max=3").refused()
        kubectl("logs -n kube-system etcd-toy-control-plane-0").refused("the server could not find the requested resource")
        kubectl("exec -n kube-system etcd-toy-control-plane-0 -- true").refused()
        kubectl("port-forward -n kube-system pod/etcd-toy-control-plane-0 :1").refused()
        kubectl("top nodes").refused("Metrics API not available")
        kubectl("create token default").refused() if kubectl.minor >= 24 else None

    def deletion():
        has(kubectl(f"delete -f {file} --ignore-not-found").ok(), f'"{name}-web" deleted')
        until("its pods are gone", lambda: kubectl.get(f"pods -l app={name}-web")["items"] == [])
        until("its sets are gone", lambda: kubectl.get(f"rs -l app={name}-web")["items"] == [])

    for story in [
        discovery,
        apply,
        server_side_apply,
        rollouts,
        daemons,
        scales,
        things_made_by_command,
        patches,
        nodes,
        descriptions,
        pruning,
        kustomize,
        questions,
        explanations,
        what_there_is_not,
        deletion,
    ]:
        checks.check(f"kubectl {kubectl.version}, a simulated cluster: {story.__name__.replace('_', ' ')}", story)

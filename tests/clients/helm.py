"""helm with a simulated cluster: the chart that `helm create` makes, through all its life."""

from checks import has, program, same


class Helm:
    def __init__(self, world, path, version, kubeconfig):
        self.world, self.path, self.version = world, str(path), version
        self.tag = f"h{version.split('.')[0]}"
        home = world.work / f"helm-{version}"
        self.environment = {**world.environment_of(kubeconfig), "HOME": str(home)}
        home.mkdir(exist_ok=True)

    def __call__(self, line, *more, **environment):
        return program([self.path, *line.split(), *more], {**self.environment, **environment}, self.world.work, None, 90)


def smoke(checks, helm, own):
    release = f"{helm.tag}-demo"
    chart = helm.world.work / f"{helm.tag}-chart"

    def creation():
        helm(f"create {chart}").ok()
        has(helm(f"lint {chart}").ok(), "1 chart(s) linted, 0 chart(s) failed")
        has(helm(f"template {release} {chart} --validate").ok(), "kind: Deployment")

    def installation():
        has(helm(f"install {release} {chart} --wait --timeout 60s").ok(), "STATUS: deployed")
        has(helm("list").ok(), release, "deployed")
        has(helm(f"status {release}").ok(), "STATUS: deployed", "REVISION: 1")
        has(helm(f"get manifest {release}").ok(), "kind: Deployment")
        helm(f"install {release} {chart}").refused("still in use")

    def upgrade():
        has(helm(f"upgrade {release} {chart} --dry-run=server --set replicaCount=3").ok(), "replicas: 3")
        has(helm(f"upgrade {release} {chart} --set replicaCount=3 --wait --timeout 60s").ok(), "STATUS: deployed")
        has(helm(f"get values {release}").ok(), "replicaCount: 3")
        has(helm(f"upgrade --install {release} {chart} --reuse-values --wait --timeout 60s").ok(), "REVISION: 3")

    def rollback():
        has(helm(f"rollback {release} 1 --wait --timeout 60s").ok(), "Rollback was a success")
        has(helm(f"history {release}").ok(), "superseded", "Rollback to 1")

    def failure():
        helm(f"upgrade {release} {chart} --set replicaCount=many").refused("replicas")
        has(helm(f"history {release}").ok(), "failed")

    def removal():
        has(helm(f"uninstall {release} --wait --timeout 60s").ok(), "uninstalled")
        same(helm("list -q").ok(), "")
        same(helm("history " + release).code, 1)

    def own_api():
        # Releases are kept in Secrets, which Kina's own API does not have.
        elsewhere = {"KUBECONFIG": own}
        helm(f"install c {chart}", **elsewhere).refused("could not find the requested resource")
        clusters = helm.world.work / f"{helm.tag}-clusters"
        (clusters / "templates").mkdir(parents=True, exist_ok=True)
        (clusters / "Chart.yaml").write_text("apiVersion: v2\nname: clusters\nversion: 0.1.0\n")
        (clusters / "templates" / "cluster.yaml").write_text(
            "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: { name: {{ .Release.Name }} }\n"
            "spec: { runtime: sim, paused: true }\n"
        )
        # What it renders can be applied.
        rendered = helm(f"template {helm.tag}-own {clusters}", **elsewhere).ok()
        helm.world.file("rendered.yaml", rendered)
        has(helm.world.kina("apply", "-f", "rendered.yaml", "--no-wait").ok(), f"{helm.tag}-own")
        helm.world.kina("delete", "cluster", f"{helm.tag}-own", "--timeout", "30s").ok()

    for story in [creation, installation, upgrade, rollback, failure, removal, own_api]:
        checks.check(f"helm {helm.version}: {story.__name__.replace('_', ' ')}", story)

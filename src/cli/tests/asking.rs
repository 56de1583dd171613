//! Verbs that ask: `get`, `diff`, `wait`, `export`.

use std::time::Duration;

use super::*;
use crate::kubeadm::pki;

#[tokio::test(start_paused = true)]
async fn objects_are_printed_by_templates_and_columns_of_the_callers_choice() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/a.yaml", &manifest("a", "docker"));
    house.write("/proj/b.yaml", &manifest("b", "docker"));
    house.kina("apply -f /proj").await.ok();
    house.set_status("a", ready(&Cluster::new("a", crate::api::ClusterSpec::default()))).await;
    let names = "jsonpath={range .items[*]}{.metadata.name}{\";\"}{end}";
    assert_eq!(house.words(&["get", "clusters", "-o", names]).await.ok(), "a;b;");
    assert_eq!(house.kina("get cluster a -o jsonpath={.status.phase}").await.ok(), "Running");
    insta::assert_snapshot!(
        house.kina("get clusters -o custom-columns=NAME:.metadata.name,READY:.status.conditions[?(@.type==\"Ready\")].status").await.ok(),
        @r"
    NAME   READY
    a      True
    b      <none>
    "
    );
    assert_eq!(house.kina("get clusters --field-selector metadata.name=b -o name").await.ok(), "cluster.kina.dev/b\n");
    assert!(Cli::try_parse_from(["kina", "get", "cl", "-o", "jsonpath={.a"]).is_err());
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_printed_until_ctrl_c() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/a.yaml", &manifest("a", "docker"));
    house.kina("apply -f /proj").await.ok();
    let (clusters, signals) = (house.clusters(), house.signals.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let status = Patch::Merge(json!({"status": {"phase": "Provisioning"}}));
        clusters.patch_status("a", &PatchParams::default(), &status).await.unwrap();
        clusters.delete("a", &kube::api::DeleteParams::default()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        signals.send_modify(|count| *count += 1);
    });
    let done = house.kina("get clusters -w").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 0
    --- stdout
    NAME   PHASE   READY   MACHINES   VERSION   RUNTIME   AGE
    a                                           docker    0s
    a      Provisioning                                docker    2s
    a      Provisioning                                docker    2s
    --- stderr
    ");
    let house = House::new(Serving::Nobody);
    let done = house.kina("get clusters -w").await;
    assert_eq!(done.exit, Exit::Failure);
    assert!(done.err.contains("no kina runs, so nothing would ever change"), "{}", done.err);
    assert_eq!(house.kina("get cl,ma -w").await.exit, Exit::Usage);
}

#[tokio::test(start_paused = true)]
async fn a_difference_is_told_with_what_it_takes_and_changes_nothing() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    let done = house.kina("diff -f /proj/dev.yaml").await;
    assert_eq!((done.exit.code(), done.out.as_str()), (1, "cluster/dev: would be created\n"));
    assert!(house.clusters().get_opt("dev").await.unwrap().is_none());
    house.kina("apply -f /proj/dev.yaml").await.ok();
    assert_eq!(house.kina("diff -f /proj/dev.yaml").await.ok(), "");
    house.write(
        "/proj/dev.yaml",
        &(manifest("dev", "docker") + "  workers: [{name: default, replicas: 2}]\n  protect: true\n"),
    );
    insta::assert_snapshot!(house.kina("diff -f /proj/dev.yaml").await.shown(), @r"
    exit 1
    --- stdout
    cluster/dev: live
      spec.workers[default].replicas: (not set) -> 2  (live)
      spec.protect: false -> true  (live)
      changed in place: nothing is interrupted
    --- stderr
    ");
    let trial = house.kina("apply -f /proj/dev.yaml --dry-run=server").await;
    assert_eq!(trial.ok(), "cluster/dev configured (server dry run)\n");
    assert_eq!(house.kina("apply -f /proj/dev.yaml --dry-run").await.ok(), "cluster/dev valid (dry run)\n");
    assert!(!house.clusters().get("dev").await.unwrap().spec.protect);
    house.write("/proj/dev.yaml", "{");
    assert_eq!(house.kina("diff -f /proj/dev.yaml").await.exit, Exit::Invalid);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_it_is_so_or_the_time_is_over() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/dev.yaml", &manifest("dev", "docker"));
    house.kina("apply -f /proj/dev.yaml").await.ok();
    let late = house.kina("wait --for=condition=Ready cluster/dev --timeout 5s").await;
    insta::assert_snapshot!(late.shown(), @r"
    exit 6
    --- stdout
    --- stderr
    error: cluster/dev was not as wished within 5 s

    hint: `kina describe cluster dev` says what it waits for
    ");
    let clusters = house.clusters();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let status = Patch::Merge(json!({"status": ready(&clusters.get("dev").await.unwrap())}));
        clusters.patch_status("dev", &PatchParams::default(), &status).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        clusters.delete("dev", &kube::api::DeleteParams::default()).await.unwrap();
    });
    let met = house.kina("wait --for=condition=Ready clusters --all").await;
    assert_eq!(met.ok(), "cluster.kina.dev/dev condition met\n");
    let phase = house.kina("wait --for=jsonpath={.status.phase}=Running cluster dev --timeout 0").await;
    assert_eq!(phase.ok(), "cluster.kina.dev/dev condition met\n");
    assert_eq!(house.kina("wait --for=delete cluster/dev").await.ok(), "cluster.kina.dev/dev deleted\n");
    assert_eq!(house.kina("wait --for=condition=Ready cluster/dev").await.exit, Exit::NotFound);
    assert_eq!(house.kina("wait --for=condition=Ready clusters").await.exit, Exit::Usage);
}

#[tokio::test(start_paused = true)]
async fn the_kubeconfig_of_a_cluster_is_printed_and_written() {
    let house = House::new(Serving::Daemon);
    house.write(
        "/proj/dev.yaml",
        &(manifest("dev", "sim")
            + "  kubernetesVersion: v1.35.5\n  image: kindest/node:v1.35.5\n  networking:\n    apiServer: {address: 127.0.0.1, port: 40001}\n    podSubnet: 10.244.0.0/16\n    serviceSubnet: 10.96.0.0/16\n    nodeSubnet: 10.89.0.0/24\n    cni: auto\n"),
    );
    house.kina("apply -f /proj/dev.yaml").await.ok();
    let early = house.kina("get kubeconfig dev").await;
    assert_eq!(early.exit, Exit::Failure);
    assert!(early.err.contains("has no kubeconfig yet"), "{}", early.err);

    let uid = house.clusters().get("dev").await.unwrap().uid().unwrap();
    let files = &*house.world.files;
    pki::ensure(files, &Home::at("/home/me/.kina").pki(), &uid, NOW.parse().unwrap()).unwrap();
    let printed: Value = serde_saphyr::from_str(&house.kina("get kubeconfig --name dev").await.ok()).unwrap();
    assert_eq!(printed["current-context"], "kina-dev");
    assert_eq!(printed["clusters"][0]["cluster"]["server"], "https://127.0.0.1:40001");
    let inner: Value = serde_saphyr::from_str(&house.kina("get kubeconfig dev --internal").await.ok()).unwrap();
    assert_eq!(inner["clusters"][0]["cluster"]["server"], "https://dev-lb:6443");

    let exported = house.kina("export kubeconfig dev --kubeconfig /proj/config").await;
    assert_eq!(exported.err, "context `kina-dev`: /proj/config; it is the current one\n");
    let written: Value =
        serde_saphyr::from_str(&String::from_utf8(files.read(Path::new("/proj/config"), 1 << 20).unwrap()).unwrap())
            .unwrap();
    assert_eq!(written["current-context"], "kina-dev");
    assert_eq!(house.kina("export kubeconfig dve").await.exit, Exit::NotFound);
    assert_eq!(house.kina("get kubeconfig").await.exit, Exit::Usage);
    assert_eq!(house.kina("get clusters --internal").await.exit, Exit::Usage);
}

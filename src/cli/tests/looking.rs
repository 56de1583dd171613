//! Verbs that tell beforehand and afterwards: `plan`, `explain`, `diff NAME`, `drift`, `history`.

use super::*;
use crate::api::conditions::{BOOTSTRAPPED, READY};
use crate::api::defaults::Resolved;
use crate::controllers::identity;

const POOL: &str = "  kubernetesVersion: v1.35.5\n  image: kindest/node:v1.35.5\n  networking:\n    apiServer: {address: 127.0.0.1, port: 40001}\n    podSubnet: 10.244.0.0/16\n    serviceSubnet: 10.96.0.0/16\n    nodeSubnet: 10.89.0.0/24\n    cni: auto\n  workers: [{name: default, replicas: 2}]\n";

/// A cluster with its machines, all of them Ready.
async fn running(house: &House, name: &str) {
    house.write("/proj/dev.yaml", &(manifest(name, "sim") + POOL));
    let _ = house.kina("apply -f /proj/dev.yaml").await.ok();
    let cluster = house.clusters().get(name).await.unwrap();
    let fingerprint = identity::of_machines(&Resolved::of(&cluster.spec).unwrap());
    let machines: Api<Machine> = Api::all(house.client.clone());
    for (index, (pool, ordinal)) in [("control-plane", 0), ("default", 0), ("default", 1)].into_iter().enumerate() {
        let plane = pool == "control-plane";
        let taints = json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]);
        let machine: Machine = serde_json::from_value(json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Machine",
            "metadata": {"name": format!("{name}-{pool}-{ordinal}"), "annotations": {identity::FINGERPRINT: fingerprint}},
            "spec": {"cluster": name, "pool": pool, "role": if plane { "control-plane" } else { "worker" },
                "ordinal": ordinal, "runtime": "sim", "image": "kindest/node:v1.35.5", "kubernetesVersion": "v1.35.5",
                "address": format!("10.89.0.{}", 10 + index), "taints": if plane { taints } else { json!([]) },
                "bootstrap": if plane {
                    json!({"method": "Init", "members": {"dev-control-plane-0": "10.89.0.10"}})
                } else {
                    json!({"method": "Join"})
                },
                "turn": "Bootstrap"}}))
        .unwrap();
        machines.create(&Default::default(), &machine).await.unwrap();
        let status = json!({"phase": "Running", "conditions": [condition(READY, "True", "Ready", ""), condition(BOOTSTRAPPED, "True", "Done", "")]});
        let patch = Patch::Merge(json!({"status": status}));
        machines.patch_status(&machine.name_any(), &PatchParams::default(), &patch).await.unwrap();
    }
    house.set_status(name, ready(&cluster)).await;
}

fn drift(object: &str, severity: &str, action: &str) -> Value {
    json!({"layer": "container", "object": object, "field": "state", "severity": severity, "desired": "running",
        "observed": "stopped with exit code 137", "since": NOW, "action": action})
}

async fn drifted(house: &House, name: &str) {
    let found =
        [drift("container dev-default-0", "Critical", "restarting"), drift("network kina-dev", "Info", "reported")];
    house.set_status(name, json!({"drift": found})).await;
}

async fn event(house: &House, kind: &str, name: &str, reason: &str, message: &str, at: &str) {
    let uid = match kind {
        "Cluster" => house.clusters().get(name).await.unwrap().uid(),
        _ => None,
    };
    let event: k8s_openapi::api::core::v1::Event = serde_json::from_value(json!({
        "metadata": {"name": format!("{name}.{}", reason.to_lowercase()), "namespace": "default"}, "type": "Warning",
        "involvedObject": {"apiVersion": "kina.dev/v1alpha1", "kind": kind, "name": name, "uid": uid},
        "reason": reason, "message": message, "eventTime": null, "firstTimestamp": at, "lastTimestamp": at}))
    .unwrap();
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(house.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
    let _ = namespaces.create(&Default::default(), &namespace).await;
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(house.client.clone(), "default");
    events.create(&Default::default(), &event).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_what_the_planner_will_do_and_what_that_disturbs() {
    let house = House::new(Serving::Daemon);
    house.write("/proj/new.yaml", &manifest("new", "sim"));
    insta::assert_snapshot!(house.kina("plan -f /proj/new.yaml").await.ok(), @r"
    cluster/new: would be created
       1. make certificates
       2. make the network
       3. make machine/new-control-plane-0
       4. make the load balancer
       5. apply the pod network and the storage class
       6. write the context into the kubeconfig
    ");
    assert!(house.clusters().get_opt("new").await.unwrap().is_none(), "nothing is carried out");
    running(&house, "dev").await;
    assert_eq!(house.kina("plan dev").await.ok(), "cluster/dev: nothing to do\n");
    let rolled = POOL
        .replace("replicas: 2", "replicas: 3, resources: {memory: 2Gi}")
        .replace("node:v1.35.5", "node:v1.35.5@sha256:06");
    house.write("/proj/dev.yaml", &(manifest("dev", "sim") + &rolled));
    insta::assert_snapshot!(house.kina("plan -f /proj/dev.yaml").await.ok(), @r"
    cluster/dev: would change, roll
       1. make machine/dev-default-2
       2. roll machine/dev-control-plane-0  (the cluster's API is away for seconds)
       3. roll machine/dev-default-0  (drained; name, address and data stay)
       4. roll machine/dev-default-1  (drained; name, address and data stay)
    ");
    house.write("/proj/dev.yaml", &(manifest("dev", "sim") + &POOL.replace("10.244", "10.8")));
    insta::assert_snapshot!(house.kina("plan -f /proj/dev.yaml").await.ok(), @r"
    cluster/dev: would change, recreate
          then it waits: RecreateNotAllowed: the spec asks for what only a new cluster can give: set `allowRecreate: true`, or go back
    ");
    house.write(
        "/proj/dev.yaml",
        &(manifest("dev", "sim") + &POOL.replace("10.244", "10.8") + "  allowRecreate: true\n"),
    );
    let recreated = house.kina("plan -f /proj/dev.yaml").await.ok();
    assert!(recreated.contains("discard machine/dev-default-1  (ITS DATA IS LOST)"), "{recreated}");
    let value: Value = serde_json::from_str(&house.kina("plan -o json").await.ok()).unwrap();
    assert_eq!(value["clusters"][0]["cluster"], "dev");
    assert_eq!(value["clusters"][0]["steps"], json!([]));
    assert_eq!(house.kina("plan dve").await.exit, Exit::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_nothing_new_tells_what_is_not_ready_yet() {
    let house = House::new(Serving::Daemon);
    running(&house, "dev").await;
    let machines: Api<Machine> = Api::all(house.client.clone());
    let failure = json!({"class": "Foreign", "reason": "AddressOrPortTaken", "attempts": 5, "since": NOW,
        "message": "create container dev-default-1: port 127.0.0.1:8080 is already allocated"});
    let status = json!({"status": {"failure": failure, "conditions": [condition(READY, "False", "Pending", "")]}});
    machines.patch_status("dev-default-1", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    insta::assert_snapshot!(house.kina("plan dev").await.ok(), @r"
    cluster/dev: nothing new to do; under way
          machine/dev-default-1 is not Ready: AddressOrPortTaken: create container dev-default-1: port 127.0.0.1:8080 is already allocated
    ");
}

#[tokio::test(start_paused = true)]
async fn fields_are_explained_with_what_it_takes_to_change_them() {
    let house = House::new(Serving::Daemon);
    insta::assert_snapshot!(house.kina("explain cluster.spec.networking.apiServer").await.ok(), @r"
    GROUP:      kina.dev
    KIND:       Cluster
    VERSION:    v1alpha1

    FIELD: apiServer <Object>

    DESCRIPTION:
        Where the API server is reached from the host.

    FIELDS:
      address	<string> (recreate)
        Address of the host to listen on. Default `127.0.0.1`, resolved at creation.

      port	<integer> (recreate)
        Port of the host. Default: a free one, resolved at creation; 0 means the
        same.
    ");
    insta::assert_snapshot!(house.kina("explain cl.spec.drift.mode").await.ok(), @r"
    GROUP:      kina.dev
    KIND:       Cluster
    VERSION:    v1alpha1

    FIELD: mode <string>
    CLASS: live, changed in place
    ENUM: Enforce, Audit, Monitor

    DESCRIPTION:
        Repair, report or count. Default `Enforce`.
    ");
    let whole = house.kina("explain cluster --recursive").await.ok();
    assert!(whole.contains("      podSubnet\t<string> (recreate)\n"), "{whole}");
    insta::assert_snapshot!(house.kina("explain cluster.spec.netwroking").await.shown(), @r"
    exit 5
    --- stdout
    --- stderr
    error: `cluster.spec` has no field `netwroking`

    hint: did you mean `cluster.spec.networking`?
    ");
    assert_eq!(house.kina("explain nope").await.exit, Exit::Usage);
    for line in whole.lines().chain(house.kina("explain machine.status").await.ok().lines()) {
        assert!(line.len() <= 100 && line.trim_end() == line, "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_differs_about_a_cluster_is_told_with_an_exit_code() {
    let house = House::new(Serving::Daemon);
    running(&house, "dev").await;
    assert_eq!(house.kina("diff dev").await.ok(), "");
    assert_eq!(house.kina("drift").await.ok(), "");
    drifted(&house, "dev").await;
    insta::assert_snapshot!(house.kina("diff dev").await.shown(), @r"
    exit 1
    --- stdout
    cluster/dev: 2 differences (1 critical, 1 info)
      container dev-default-0 state: wanted running, is stopped with exit code 137  (container, Critical, for 0s; restarting)
      network kina-dev state: wanted running, is stopped with exit code 137  (container, Info, for 0s; reported)
    --- stderr
    ");
    insta::assert_snapshot!(house.kina("drift dev").await.shown(), @r"
    exit 1
    --- stdout
    Now: 2 differences (1 critical, 1 info)
      dev  Critical  container  container dev-default-0
          state: wanted running, is stopped with exit code 137 (for 0s; restarting)
      dev  Info  container  network kina-dev
          state: wanted running, is stopped with exit code 137 (for 0s; reported)
    --- stderr
    ");
    house.set_status("dev", json!({"drift": null})).await;
    event(&house, "Cluster", "dev", "Drifted", "container dev-lb state: gone (replacing)", "2025-12-31T23:30:00Z")
        .await;
    insta::assert_snapshot!(house.kina("drift --since 1h").await.shown(), @r"
    exit 1
    --- stdout
    Lately:
    30m   dev   container dev-lb state: gone (replacing)
    --- stderr
    ");
    assert_eq!(house.kina("drift --since 10m").await.ok(), "");
    let value: Value = serde_json::from_str(&house.kina("drift --since 1h -o json").await.out).unwrap();
    assert_eq!(value["lately"][0]["cluster"], "dev");
    // Nobody looks while no kina runs: that nothing is recorded does not say that nothing differs.
    house.set_status("dev", json!({"conditions": [condition("Drifted", "Unknown", "KinaNotRunning", "")]})).await;
    insta::assert_snapshot!(house.kina("drift").await.shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: cannot tell what differs about cluster/dev: KinaNotRunning

    hint: `kina serve` looks, and goes on looking
    ");
    assert_eq!(house.kina("diff dev").await.exit, Exit::Usage);
    assert_eq!(house.kina("drift dve").await.exit, Exit::NotFound);
    assert_eq!(house.kina("diff dve").await.exit, Exit::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_a_file_says_that_is_not_taken_over_is_a_difference() {
    let house = House::new(Serving::Daemon);
    running(&house, "dev").await;
    let sources: Api<Source> = Api::all(house.client.clone());
    let source: Source = serde_json::from_value(json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Source",
        "metadata": {"name": "clusters"}, "spec": {"path": "/proj"}}))
    .unwrap();
    sources.create(&Default::default(), &source).await.unwrap();
    let annotations =
        json!({"kina.dev/source": "clusters", "kina.dev/source-path": "dev.yaml", "kina.dev/source-line": "1"});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    house.clusters().patch("dev", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(house.kina("diff dev").await.ok(), "");
    house.write("/proj/dev.yaml", &(manifest("dev", "sim") + &POOL.replace("replicas: 2", "replicas: 3")));
    insta::assert_snapshot!(house.kina("diff dev").await.shown(), @r"
    exit 1
    --- stdout
    /proj/dev.yaml:1 is not taken over yet
    cluster/dev: live
      spec.workers[default].replicas: 2 -> 3  (live)
      changed in place: nothing is interrupted
    --- stderr
    ");
    house.write("/proj/dev.yaml", "apiVersion: kina.dev/v1alpha1\nkind: Cluster\n");
    let broken = house.kina("diff dev").await;
    assert_eq!(broken.exit, Exit::Failure);
    assert!(broken.out.contains("its file is not valid"), "{}", broken.shown());
    insta::assert_snapshot!(house.kina("edit dev").await.shown(), @r"
    exit 4
    --- stdout
    --- stderr
    error: cluster dev is declared in /proj/dev.yaml:1, and edited there

    hint: `$EDITOR /proj/dev.yaml`
    hint: `kina detach dev` lets go of the file
    ");
}

#[tokio::test(start_paused = true)]
async fn what_happened_to_a_cluster_is_told_in_order() {
    let house = House::new(Serving::Daemon);
    running(&house, "dev").await;
    house.write("/proj/other.yaml", &manifest("dev-b", "sim"));
    let _ = house.kina("apply -f /proj/other.yaml").await.ok();
    event(&house, "Cluster", "dev", "Drifted", "container dev-lb state: gone (replacing)", "2026-01-01T00:00:05Z")
        .await;
    event(&house, "Machine", "dev-default-7", "Removed", "its container is gone", "2026-01-01T00:00:03Z").await;
    event(&house, "Machine", "dev-b-default-0", "Removed", "of another cluster", "2026-01-01T00:00:04Z").await;
    event(&house, "Machine", "dev-default-8", "Removed", "of an earlier cluster", "2025-12-31T00:00:00Z").await;
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    insta::assert_snapshot!(house.kina("history dev").await.ok(), @r"
    AGO   OBJECT                        WHAT                MESSAGE
    60s   cluster/dev                   Created
    60s   machine/dev-control-plane-0   Created
    60s   machine/dev-default-0         Created
    60s   machine/dev-default-1         Created
    60s   cluster/dev                   Written by kina     apply, generation 1
    60s   cluster/dev                   Ready=True          AllReady
    60s   machine/dev-control-plane-0   Bootstrapped=True   Done
    60s   machine/dev-control-plane-0   Ready=True          Ready
    60s   machine/dev-default-0         Bootstrapped=True   Done
    60s   machine/dev-default-0         Ready=True          Ready
    60s   machine/dev-default-1         Bootstrapped=True   Done
    60s   machine/dev-default-1         Ready=True          Ready
    57s   machine/dev-default-7         ! Removed           its container is gone
    55s   cluster/dev                   ! Drifted           container dev-lb state: gone (replacing)
    ");
    let newest = house.kina("history dev --limit 1").await;
    assert!(newest.err.contains("older entries are not shown"), "{}", newest.err);
    assert_eq!(newest.ok().lines().count(), 2);
    let value: Value = serde_json::from_str(&house.kina("history dev -o json").await.ok()).unwrap();
    assert_eq!(value["entries"].as_array().unwrap().last().unwrap()["what"], "Drifted");
    assert_eq!(house.kina("history dve").await.exit, Exit::NotFound);
}

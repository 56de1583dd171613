//! kind's verbs: `create cluster`, `delete clusters`, `get nodes`.

use std::time::Duration;

use kube::api::DeleteParams;

use super::*;

fn stalled(_: &Cluster) -> Value {
    json!({"phase": "Failed", "conditions": [condition("Stalled", "True", "NameTaken", "a container named x is not Kina's")]})
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_created_from_nothing_but_a_name() {
    let house = House::new(Serving::Nobody);
    let _controllers = house.play(ready);
    let done = house.kina("create cluster").await;
    insta::assert_snapshot!(done.shown(), @r"
    exit 0
    --- stdout
    cluster/kina created
    --- stderr
    kina: Ready after 0s, 1 machine
    cluster/kina is Ready: `kubectl --context kina-kina get nodes`
    note: what drifts is not repaired while no kina runs (`kina serve`)
    ");
    assert_eq!(house.engine(), ["start", "stop"]);
    let house = House { serving: Serving::Daemon, ..house };
    assert!(house.kina("create cluster --name dev").await.ok().contains("cluster/dev created"));
    assert!(house.kina("create cluster two --image kindest/node:v1.34.1").await.ok().contains("cluster/two created"));
    let two = house.clusters().get("two").await.unwrap();
    assert_eq!(two.spec.image.as_deref(), Some("kindest/node:v1.34.1"));
    assert_eq!(two.spec.kubernetes_version.as_deref(), Some("v1.34.1"));
    // It is what `apply` makes: the same manager owns its fields.
    house.write("/proj/two.yaml", &manifest("two", "docker"));
    assert_eq!(house.kina("apply -f /proj/two.yaml").await.ok(), "cluster/two configured\n");
}

#[tokio::test(start_paused = true)]
async fn a_configuration_is_taken_under_the_name_that_is_given_and_an_existing_name_is_refused() {
    let house = House::new(Serving::Daemon);
    let _controllers = house.play(ready);
    house.write("/proj/dev.yaml", &(manifest("dev", "docker") + "  protect: true\n"));
    assert_eq!(house.kina("create cluster --config /proj/dev.yaml").await.ok(), "cluster/dev created\n");
    assert_eq!(house.kina("create cluster --config /proj/dev.yaml --name b").await.ok(), "cluster/b created\n");
    assert!(house.clusters().get("b").await.unwrap().spec.protect);
    insta::assert_snapshot!(house.kina("create cluster --config /proj/dev.yaml").await.shown(), @r"
    exit 1
    --- stdout
    --- stderr
    error: cannot create cluster/dev: there is a cluster of this name already

    hint: another name (`--name`), `kina delete cluster dev` before, or `kina apply -f FILE` to change it
    ");
    insta::assert_snapshot!(house.kina("create cluster Dev").await.shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: a cluster cannot be called so: `Dev` must consist of lower case letters, digits and `-`, and start and end with a letter or digit (such as `dev` or `team-a`)
    ");
    house.write("/proj/two.yaml", &[manifest("p", "docker"), manifest("q", "docker")].join("---\n"));
    let two = house.kina("create cluster --config /proj/two.yaml").await;
    assert_eq!(two.exit, Exit::Usage);
    assert!(two.err.contains("declares 2 clusters"), "{}", two.err);
    assert_eq!(house.kina("create cluster --config /proj/none.yaml").await.exit, Exit::NotFound);
    assert!(Cli::try_parse_from(["kina", "create", "cluster", "a", "--name", "b"]).is_err());
}

#[tokio::test(start_paused = true)]
async fn what_failed_to_come_up_is_deleted_again_unless_it_is_retained() {
    let house = House::new(Serving::Daemon);
    let _controllers = house.play(stalled);
    insta::assert_snapshot!(house.kina("create cluster dev").await.shown(), @r"
    exit 1
    --- stdout
    cluster/dev created
    --- stderr
    dev: stalled, NameTaken: a container named x is not Kina's
    error: it does not get any further by itself
      cluster/dev: NameTaken: a container named x is not Kina's

    hint: `kina describe cluster NAME` tells everything about one
    cluster/dev failed to come up and is deleted again (`--retain` keeps it)
    ");
    assert!(house.clusters().get_opt("dev").await.unwrap().is_none());
    let kept = house.kina("create cluster dev --retain").await;
    assert_eq!(kept.exit, Exit::Failure);
    assert!(kept.err.contains("the cluster is kept (`--retain`)"), "{}", kept.err);
    assert!(house.clusters().get_opt("dev").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_only_takes_longer_is_kept_and_without_waiting_nothing_is_judged() {
    let house = House::new(Serving::Daemon);
    let late = house.kina("create cluster dev --wait 5s").await;
    insta::assert_snapshot!(late.shown(), @r"
    exit 6
    --- stdout
    cluster/dev created
    --- stderr
    dev: Pending
    error: gave up after 5s
      cluster/dev is not taken up yet

    hint: the cluster is kept: `kina wait --for=condition=Ready cluster/dev`
    ");
    assert!(house.clusters().get_opt("dev").await.unwrap().is_some());
    let house = House { serving: Serving::Nobody, ..house };
    insta::assert_snapshot!(house.kina("create cluster two --wait 0").await.shown(), @r"
    exit 0
    --- stdout
    cluster/two created
    --- stderr
    note: no kina runs: wishes are recorded, and nothing happens until `kina serve`
    ");
    assert_eq!(house.engine(), ["open", "stop"]);
}

#[tokio::test(start_paused = true)]
async fn clusters_are_deleted_by_name_by_flag_and_all_at_once() {
    let house = House::new(Serving::Daemon);
    for name in ["a", "b", "c", "d"] {
        let _ = house.kina(&format!("create cluster {name} --wait 0")).await.ok();
    }
    assert_eq!(house.kina("delete cluster --name a").await.ok(), "cluster/a deleted\n");
    assert_eq!(house.kina("delete clusters b").await.ok(), "cluster/b deleted\n");
    assert_eq!(
        house.kina("delete clusters --all").await.shown(),
        "exit 0\n--- stdout\ncluster/c deleted\ncluster/d deleted\n--- stderr\n2 clusters are to go: c, d\n"
    );
    assert_eq!(house.kina("delete clusters --all").await.shown(), "exit 0\n--- stdout\n--- stderr\nNo clusters.\n");
    assert_eq!(house.kina("delete cluster --name a").await.exit, Exit::NotFound);
    for wrong in ["delete clusters", "delete machines --all", "delete cluster a --name b", "delete clusters a --all"] {
        assert_eq!(house.kina(wrong).await.exit, Exit::Usage, "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_are_those_of_the_machines() {
    let house = House::new(Serving::Daemon);
    for name in ["dev", "toy"] {
        let _ = house.kina(&format!("create cluster {name} --wait 0")).await.ok();
    }
    assert_eq!(house.kina("get nodes").await.shown(), "exit 0\n--- stdout\n--- stderr\nNo nodes.\n");
    let machines: Api<Machine> = Api::all(house.client.clone());
    for (cluster, pool, status) in [
        ("dev", "control-plane", json!({"phase": "Running", "conditions": [condition("Ready", "True", "Ready", "")]})),
        (
            "dev",
            "default",
            json!({"phase": "Running", "conditions": [condition("Ready", "False", "NodeNotReady", "")]}),
        ),
        ("toy", "control-plane", json!({"phase": "Bootstrapping"})),
    ] {
        let role = if pool == "default" { "worker" } else { "control-plane" };
        let name = format!("{cluster}-{pool}-0");
        let machine: Machine = serde_json::from_value(json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Machine",
            "metadata": {"name": name}, "spec": {"cluster": cluster, "pool": pool, "role": role, "ordinal": 0,
                "runtime": "sim", "image": "node", "kubernetesVersion": "v1.35.5", "address": "10.160.0.2",
                "bootstrap": {"method": "Init"}}}))
        .unwrap();
        machines.create(&Default::default(), &machine).await.unwrap();
        machines.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await.unwrap();
    }
    insta::assert_snapshot!(house.kina("get nodes -A").await.ok(), @r"
    NAME                  CLUSTER   ROLE            STATUS          VERSION   AGE
    dev-control-plane-0   dev       control-plane   Ready           v1.35.5   0s
    dev-default-0         dev       worker          NotReady        v1.35.5   0s
    toy-control-plane-0   toy       control-plane   Bootstrapping   v1.35.5   0s
    ");
    assert_eq!(house.kina("get nodes --name dev -o name").await.ok(), "dev-control-plane-0\ndev-default-0\n");
    insta::assert_snapshot!(house.kina("get node toy-control-plane-0 -o wide --no-headers").await.ok(),
        @"toy-control-plane-0   toy   control-plane   Bootstrapping   v1.35.5   0s   10.160.0.2   sim   node");
    assert_eq!(house.kina("get nodes -o jsonpath={.items[0].spec.address}").await.ok(), "10.160.0.2");
    insta::assert_snapshot!(house.kina("get nodes --name tyo").await.shown(), @r"
    exit 5
    --- stdout
    --- stderr
    error: there is no cluster `tyo`

    hint: did you mean `toy`?
    ");
    assert_eq!(house.kina("get nodes nope").await.exit, Exit::NotFound);
    assert_eq!(house.kina("get nodes -w").await.exit, Exit::Usage);
    assert_eq!(house.kina("get clusters --name dev").await.exit, Exit::Usage);
    assert_eq!(house.kina("get clusters -A").await.exit, Exit::Usage);
    house.clusters().delete("toy", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(house.kina("get nodes --name dev -o name").await.ok().lines().count(), 2);
}

#[tokio::test(start_paused = true)]
async fn without_kubernetes_a_cluster_is_waited_for_until_its_machines_are_up() {
    let house = House::new(Serving::Daemon);
    let _controllers = house.play(|_| {
        json!({"phase": "Provisioning", "machines": {"desired": 1, "ready": 0, "summary": "0/1"},
            "conditions": [condition("Ready", "False", "MachinesNotReady", "not Ready: dev-control-plane-0")]})
    });
    let late = house.kina("create cluster dev --stop-before-kubernetes --wait 5s").await;
    assert_eq!(late.exit, Exit::Timeout);
    assert!(late.err.contains("cluster/dev is not up: 0 of 1 machines are"), "{}", late.err);
    assert!(house.clusters().get("dev").await.unwrap().spec.stop_before_kubernetes);
    let machines: Api<Machine> = Api::all(house.client.clone());
    let machine: Machine = serde_json::from_value(json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Machine",
        "metadata": {"name": "dev-control-plane-0"}, "spec": {"cluster": "dev", "pool": "control-plane",
            "role": "control-plane", "ordinal": 0, "runtime": "sim", "image": "node", "kubernetesVersion": "v1.35.5",
            "address": "10.160.0.2", "bootstrap": {"method": "Init"}}}))
    .unwrap();
    machines.create(&Default::default(), &machine).await.unwrap();
    let status =
        json!({"phase": "Pending", "waiting": {"reason": "StoppedBeforeKubernetes", "message": "", "since": NOW}});
    let patch = Patch::Merge(json!({"status": status}));
    machines.patch_status("dev-control-plane-0", &PatchParams::default(), &patch).await.unwrap();
    house.write("/proj/dev.yaml", &(manifest("dev", "sim") + "  stopBeforeKubernetes: true\n"));
    let done = house.kina("up -f /proj/dev.yaml").await;
    assert!(done.err.contains("without Kubernetes: `kina exec dev-control-plane-0 -- …`"), "{}", done.err);
    let _ = done.ok();
}

/// The lines of stdout as objects, without their times.
fn events(done: &Done) -> Vec<Value> {
    let read = |line: &str| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let time = event.as_object_mut().unwrap().remove("time").unwrap();
        time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        event
    };
    done.out.lines().map(read).collect()
}

#[tokio::test(start_paused = true)]
async fn what_happens_is_told_to_programs_as_events() {
    let house = House::new(Serving::Daemon);
    let controllers = house.play(ready);
    let done = house.kina("create cluster dev --progress json").await;
    assert_eq!(done.err, "");
    assert_eq!(
        events(&done),
        [
            json!({"type": "applied", "object": "cluster/dev", "outcome": "created", "generation": 1}),
            json!({"type": "step", "object": "cluster/dev", "state": "ready", "reason": null, "message": "Ready after 0s, 1 machine"}),
            json!({"type": "ready", "object": "cluster/dev", "context": "kina-dev", "simulated": false, "kubernetes": true}),
            json!({"type": "end", "exitCode": 0}),
        ]
    );
    let gone = house.kina("delete cluster dev --progress json").await;
    assert_eq!(
        events(&gone).last_chunk(),
        Some(&[
            json!({"type": "deleted", "object": "cluster/dev", "outcome": "gone"}),
            json!({"type": "end", "exitCode": 0})
        ])
    );
    controllers.abort();
    let _controllers = house.play(stalled);
    house.write("/proj/two.yaml", &manifest("two", "docker"));
    let failed = house.kina("up -f /proj/two.yaml --progress json").await;
    let told = events(&failed);
    assert_eq!(told[1]["reason"], "NameTaken");
    assert_eq!(told[1]["state"], "failed");
    let [error, end] = told.last_chunk().unwrap();
    assert_eq!((&error["type"], &error["exitCode"], &end["exitCode"]), (&json!("error"), &json!(1), &json!(1)));
    assert_eq!(error["details"], json!(["cluster/two: NameTaken: a container named x is not Kina's"]));
    assert!(failed.err.contains("error: it does not get any further by itself"), "people are told, too");
    house.write("/proj/bad.yaml", "kind: Cluster\n");
    let bad = events(&house.kina("apply -f /proj/bad.yaml --progress json").await);
    assert_eq!((bad[0]["type"].clone(), bad[0]["exitCode"].clone()), (json!("error"), json!(3)));
    assert!(bad[0]["faults"][0].as_str().unwrap().contains("/proj/bad.yaml"), "{bad:?}");
    assert!(Cli::try_parse_from(["kina", "apply", "-f", "x", "--progress", "json", "-o", "yaml"]).is_err());
}

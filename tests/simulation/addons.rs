//! What users want in their clusters besides: applied, kept, changed and taken back.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use kina::api::{Cluster, conditions};

use crate::stories::{SOON, manifest};
use crate::world::{self, Simulation};

/// A namespace with a ConfigMap in it, in the wrong order.
fn team(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: team}}\ndata: {{a: {value}}}\n---\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {{name: team}}\n"
    )
}

const FILE: &str = "/home/me/project/team.yaml";
const INLINE: &str = "  addons:\n    - name: team\n      path: /home/me/project/team.yaml\n    - name: flags\n      manifest: |\n        apiVersion: v1\n        kind: ConfigMap\n        metadata: {name: flags}\n        data: {on: 'yes'}\n";

async fn settings(simulation: &Simulation) -> Api<ConfigMap> {
    Api::namespaced(simulation.cluster_client("dev").await, "team")
}

fn says(value: &'static str) -> impl Fn(&Option<ConfigMap>) -> bool {
    move |found| found.as_ref().is_some_and(|map| map.data.iter().flatten().any(|(_, found)| found == value))
}

fn addons(cluster: &Cluster) -> Option<(String, String)> {
    let conditions = &cluster.status.as_ref()?.conditions;
    conditions::get(conditions, "AddonsReady").map(|found| (found.reason.clone(), found.message.clone()))
}

#[test]
fn addons_are_applied_kept_changed_and_taken_back() {
    world::run(81, |mut simulation: Simulation| async move {
        simulation.make_directory(Path::new("/home/me/project"));
        simulation.replace(Path::new(FILE), &team("one"));
        simulation.write("dev.yaml", &manifest("dev", 1, INLINE));
        simulation.until_ready("dev", 2, SOON).await;
        let team_settings = settings(&simulation).await;
        let flags: Api<ConfigMap> = Api::default_namespaced(simulation.cluster_client("dev").await);
        simulation.until_object(&team_settings, "settings", SOON, says("one")).await;
        simulation.until_object(&flags, "flags", SOON, says("yes")).await;

        // What is changed or removed in the cluster comes back; what others add stays.
        let patch = Patch::Merge(json!({"data": {"a": "mine", "b": "more"}}));
        team_settings.patch("settings", &PatchParams::default(), &patch).await.unwrap();
        flags.delete("flags", &DeleteParams::default()).await.unwrap();
        simulation.until_object(&team_settings, "settings", SOON, says("one")).await;
        simulation.until_object(&team_settings, "settings", SOON, says("more")).await;
        simulation.until_object(&flags, "flags", SOON, says("yes")).await;

        // A changed file is a changed wish, without a change of the Cluster.
        let generation = simulation.cluster("dev").await.metadata.generation;
        simulation.replace(Path::new(FILE), &team("two"));
        simulation.until_object(&team_settings, "settings", SOON, says("two")).await;
        assert_eq!(simulation.cluster("dev").await.metadata.generation, generation);

        // What goes out of the manifest goes out of the cluster, also where Kina was away meanwhile.
        let simulation = simulation.crash_and(|meanwhile| meanwhile.write("dev.yaml", &manifest("dev", 1, ""))).await;
        let mut simulation = simulation;
        simulation.until_object(&flags, "flags", SOON, Option::is_none).await;
        let namespaces: Api<Namespace> = Api::all(simulation.cluster_client("dev").await);
        simulation.until_object(&namespaces, "team", SOON, Option::is_none).await;
        simulation.until_ready("dev", 2, SOON).await;
        let marks = simulation.quiet_marks().await;
        simulation.advance(Duration::from_secs(300)).await;
        assert_eq!(simulation.quiet_marks().await, marks);
        simulation
    });
}

#[test]
fn an_addon_that_cannot_be_read_is_told_and_takes_nothing_away() {
    world::run(82, |mut simulation: Simulation| async move {
        simulation.make_directory(Path::new("/home/me/project"));
        simulation.write("dev.yaml", &manifest("dev", 1, INLINE));
        let fails = |cluster: &Cluster| {
            addons(cluster).is_some_and(|(reason, message)| {
                reason == "AddonsFailed" && message.contains("read the addon team (/home/me/project/team.yaml)")
            })
        };
        simulation.until_cluster("dev", "with an addon that is missing", SOON, fails).await;
        // Nodes do not wait for it.
        let is_ready = |machine: &kina::api::Machine| {
            machine.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, "Ready"))
        };
        simulation.until_machine("dev-pool-0", SOON, is_ready).await;
        simulation.replace(Path::new(FILE), &team("one"));
        simulation.until_ready("dev", 2, SOON).await;
        let team_settings = settings(&simulation).await;
        simulation.until_object(&team_settings, "settings", SOON, says("one")).await;
        simulation.replace(Path::new(FILE), "kind: [\n");
        let broken =
            |cluster: &Cluster| addons(cluster).is_some_and(|(_, message)| message.contains("is not valid YAML"));
        simulation.until_cluster("dev", "with an addon that is broken", SOON, broken).await;
        simulation.advance(Duration::from_secs(60)).await;
        simulation.until_object(&team_settings, "settings", SOON, says("one")).await;
        simulation
    });
}

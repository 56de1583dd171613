//! The whole source against the real API server, in paused time and in memory; and its watching against a real disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, CustomResourceExt};
use serde_json::json;

use super::*;
use crate::api::{Cluster, ClusterSpec, conditions, users};
use crate::apiserver::kind::Kind;
use crate::apiserver::store::RedbStore;
use crate::apiserver::user::User;
use crate::apiserver::{ApiServer, Tenant};
use crate::sources::admission::SourceOwnership;
use crate::system::admission::{ClusterRules, SourceRules, validate_cluster};
use crate::world::{Disk, FileSystem, MemoryFiles};

const ROOT: &str = "/home/clusters";

/// A server, a file system and a source at work on them.
struct Stage {
    tenant: Tenant,
    world: World,
    files: Arc<dyn FileSystem>,
    memory: Option<Arc<MemoryFiles>>,
    roots: Vec<Root>,
    running: Option<(tokio::task::JoinHandle<()>, tokio::sync::oneshot::Sender<()>)>,
}

impl Stage {
    async fn new() -> Self {
        let mut world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
        let memory = Arc::new(MemoryFiles::new(Arc::clone(&world.clock)));
        world.files = memory.clone();
        memory.create_directories(Path::new(ROOT), 0o700).unwrap();
        let mut stage = Self::over(world, vec![Root::home(ROOT)]).await;
        stage.memory = Some(memory);
        stage
    }

    async fn over(world: World, roots: Vec<Root>) -> Self {
        let store = RedbStore::in_memory("test").unwrap();
        let clusters = Kind::from_crd(&Cluster::crd())
            .unwrap()
            .with_admission(Arc::new(SourceOwnership))
            .with_admission(Arc::new(ClusterRules::default()))
            .with_validation(Arc::new(validate_cluster));
        let sources = Kind::from_crd(&Source::crd()).unwrap().with_admission(Arc::new(SourceRules));
        let server = ApiServer::builder(store, world.clock.clone(), world.random.clone())
            .kind(clusters)
            .kind(sources)
            .kinds(crate::apiserver::core::control())
            .build()
            .unwrap();
        let tenant = server.tenant("kina");
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(tenant.client(User::named(users::ADMIN)));
        let namespace = serde_json::from_value(json!({"metadata": {"name": "default"}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let mut stage = Self { tenant, files: world.files.clone(), world, memory: None, roots, running: None };
        stage.start();
        stage
    }

    fn start(&mut self) {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let client = self.tenant.client(User::named(users::SOURCES));
        let mounts = crate::home::Home::at("/home/me/.kina").mount_policy();
        let running = run(client, self.world.clone(), self.roots.clone(), mounts, async move { drop(stopped.await) });
        self.running = Some((tokio::spawn(running), stop));
    }

    async fn stop(&mut self) {
        let (running, stop) = self.running.take().unwrap();
        stop.send(()).unwrap();
        running.await.unwrap();
    }

    /// As `kill -9` does.
    async fn kill(&mut self) {
        let (running, _stop) = self.running.take().unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }

    fn clusters(&self) -> Api<Cluster> {
        Api::all(self.tenant.client(User::named(users::ADMIN)))
    }

    fn sources(&self) -> Api<Source> {
        Api::all(self.tenant.client(User::named(users::ADMIN)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.roots[0].path.join(name)
    }

    fn put(&self, name: &str, content: &str) {
        let path = self.path(name);
        self.files.create_directories(path.parent().unwrap(), 0o700).unwrap();
        self.files.write(&path, content.as_bytes(), 0o600).unwrap();
    }

    fn declare(&self, name: &str, spec: &str) {
        self.put(&format!("{name}.yaml"), &document(name, spec));
    }

    fn remove(&self, name: &str) {
        self.files.remove_file(&self.path(&format!("{name}.yaml"))).unwrap();
    }

    async fn names(&self) -> Vec<String> {
        let clusters = self.clusters().list(&ListParams::default()).await.unwrap();
        clusters.items.into_iter().filter_map(|cluster| cluster.metadata.name).collect()
    }

    async fn source(&self) -> Source {
        self.sources().get(&self.roots[0].name).await.unwrap()
    }

    async fn status(&self) -> SourceStatus {
        self.source().await.status.unwrap()
    }

    async fn events(&self) -> Vec<String> {
        let events: Api<Event> = Api::all(self.tenant.client(User::named(users::ADMIN)));
        let listed = events.list(&ListParams::default()).await.unwrap().items;
        let mut texts: Vec<String> = listed
            .into_iter()
            .map(|event| {
                format!("{} {}", event.involved_object.name.unwrap_or_default(), event.reason.unwrap_or_default())
            })
            .collect();
        texts.sort();
        texts
    }

    /// Waits for something to become true; in paused time this takes none.
    async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !condition().await {
            assert!(
                Instant::now() < deadline,
                "never: {what}; {:?}",
                self.sources().list(&ListParams::default()).await
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_names(&self, names: &[&str]) {
        self.until(&format!("clusters {names:?}"), || async { self.names().await == names }).await;
    }

    async fn until_condition(&self, type_: &str, status: &str, reason: &str) {
        self.until(&format!("{type_} {status} {reason}"), || async {
            let Ok(source) = self.sources().get(&self.roots[0].name).await else { return false };
            let status_of = source.status.unwrap_or_default();
            let condition = conditions::get(&status_of.conditions, type_);
            condition.is_some_and(|condition| condition.status == status && condition.reason == reason)
        })
        .await;
    }

    async fn annotate(&self, name: &str, key: &str) {
        let patch = json!({"metadata": {"annotations": {key: ""}}});
        self.clusters().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Shows that nothing is written any more.
    async fn quiet(&self) {
        sleep(Duration::from_secs(5)).await;
        let version = |source: &Source| source.metadata.resource_version.clone();
        let before = self.source().await;
        let clusters = self.clusters().list(&ListParams::default()).await.unwrap().items;
        sleep(Duration::from_secs(600)).await;
        assert_eq!(version(&self.source().await), version(&before));
        assert_eq!(self.clusters().list(&ListParams::default()).await.unwrap().items, clusters);
    }
}

fn document(name: &str, spec: &str) -> String {
    format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

#[tokio::test(start_paused = true)]
async fn a_file_becomes_a_cluster_changes_it_and_its_removal_deletes_it() {
    let mut stage = Stage::new().await;
    stage.declare("dev", "workers: [{name: a}]");
    stage.until_names(&["dev"]).await;
    stage.until_condition("Settled", "True", "Applied").await;
    let made = stage.clusters().get("dev").await.unwrap();
    let annotations = made.metadata.annotations.unwrap();
    assert_eq!(annotations["kina.dev/source"], "clusters");
    assert_eq!(
        (annotations["kina.dev/source-path"].as_str(), annotations["kina.dev/source-line"].as_str()),
        ("dev.yaml", "1")
    );
    stage.quiet().await;

    stage.declare("dev", "workers: [{name: a, replicas: 3}, {name: b}]");
    stage.until("three", || async { stage.clusters().get("dev").await.unwrap().spec.workers.len() == 2 }).await;
    stage.declare("dev", "workers: [{name: b}]");
    stage.until("one pool", || async { stage.clusters().get("dev").await.unwrap().spec.workers.len() == 1 }).await;
    assert_eq!(stage.clusters().get("dev").await.unwrap().metadata.uid, made.metadata.uid);
    stage.quiet().await;

    stage.remove("dev");
    stage.until_names(&[]).await;
    stage.quiet().await;
    assert_eq!(stage.events().await, ["dev Undeclared"]);
    stage.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_the_api_within_a_quarter_of_a_second() {
    let stage = Stage::new().await;
    stage.declare("dev", "");
    stage.until_names(&["dev"]).await;
    stage.quiet().await;
    let start = Instant::now();
    stage.declare("dev", "paused: true");
    stage.until("paused", || async { stage.clusters().get("dev").await.unwrap().spec.paused }).await;
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_files_at_once_are_applied_once_each() {
    let stage = Stage::new().await;
    for index in 0..1000 {
        stage.declare(&format!("c{index}"), "");
    }
    stage.until("all", || async { stage.names().await.len() == 1000 }).await;
    stage.until_condition("Settled", "True", "Applied").await;
    let clusters = stage.clusters().list(&ListParams::default()).await.unwrap();
    assert!(clusters.items.iter().all(|cluster| cluster.metadata.generation == Some(1)));
    let versions: std::collections::BTreeSet<_> =
        clusters.items.iter().map(|cluster| cluster.metadata.resource_version.clone()).collect();
    assert_eq!(versions.len(), 1000);
    assert_eq!(stage.status().await.clusters, 1000);
}

#[tokio::test(start_paused = true)]
async fn a_broken_file_keeps_its_last_good_state_and_says_what_is_wrong() {
    let stage = Stage::new().await;
    stage.declare("a", "");
    stage.declare("b", "");
    stage.until_names(&["a", "b"]).await;
    stage.declare("a", "workerz: []");
    stage.until_condition("Settled", "False", "FileErrors").await;
    stage.remove("b");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.names().await, ["a", "b"]);
    let status = stage.status().await;
    let error = &status.files[0].errors[0];
    assert_eq!((error.line, error.column, status.errors), (4, 8, 1));
    assert!(error.snippet.contains("^^^^^^^ unknown field"), "{}", error.snippet);
    assert_eq!(stage.events().await, ["clusters SourceInvalid"]);
    stage.declare("a", "");
    stage.until_names(&["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_root_that_vanishes_deletes_nothing_and_is_followed_when_it_is_back() {
    let stage = Stage::new().await;
    stage.declare("a", "");
    stage.until_names(&["a"]).await;
    stage.until_condition("Settled", "True", "Applied").await;
    let memory = stage.memory.as_ref().unwrap();
    memory.rename(Path::new(ROOT), Path::new("/home/away")).unwrap();
    stage.until_condition("Available", "False", "RootUnavailable").await;
    // An empty directory in its place, as a mount point without its volume is.
    memory.create_directories(Path::new(ROOT), 0o700).unwrap();
    stage.until_condition("Available", "False", "RootReplaced").await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(stage.names().await, ["a"]);
    memory.rename(Path::new("/home/away"), Path::new(ROOT)).unwrap();
    stage.until_condition("Available", "True", "Readable").await;
    stage.declare("b", "");
    stage.until_names(&["a", "b"]).await;
    stage.quiet().await;
    assert_eq!(stage.status().await.held, []);
}

#[tokio::test(start_paused = true)]
async fn what_a_checkout_mounts_has_to_be_allowed_and_links_do_not_get_past_that() {
    let mounting =
        |path: &str| format!("workers: [{{name: a, extraMounts: [{{hostPath: {path}, containerPath: /x}}]}}]");
    let errors = |status: &SourceStatus| -> Vec<String> {
        let all = status.files.iter().flat_map(|file| file.errors.iter().map(move |error| (file, error)));
        all.map(|(file, error)| format!("{}:{}:{} {}", file.path, error.line, error.column, error.message)).collect()
    };
    let mut stage = Stage::new().await;
    stage.files.create_directories(Path::new("/srv/data"), 0o700).unwrap();
    let memory = stage.memory.clone().unwrap();
    memory.link(Path::new("/"), Path::new("/srv/link")).unwrap();
    stage.declare("good", &mounting("/srv/data"));
    stage.until_names(&["good"]).await;
    stage.declare("link", &mounting("/srv/link"));
    stage.until("the link is refused", || async { stage.status().await.errors == 1 }).await;
    let refused = errors(&stage.status().await);
    stage.remove("link");
    stage.until("no error", || async { stage.status().await.errors == 0 }).await;
    stage.stop().await;
    // The same directory as a checkout: whoever can push to it would mount what this host has.
    stage.put(".git/HEAD", "ref: refs/heads/main\n");
    stage.declare("good", &mounting("/srv/data"));
    stage.start();
    stage.until("the mount is refused", || async { stage.status().await.errors == 1 }).await;
    insta::assert_snapshot!([refused, errors(&stage.status().await)].concat().join("\n"), @r"
    link.yaml:4:53 `/srv/link` leads to `/`, which is this whole host (if that is meant, run Kina with `--allow-host-mount /`)
    good.yaml:4:53 `/srv/data` is not for a manifest from a git checkout unless it is allowed (if that is meant, run Kina with `--allow-host-mount /srv/data`)
    ");
    assert_eq!(stage.names().await, ["good"], "its last good state stays");
}

#[tokio::test(start_paused = true)]
async fn a_git_operation_is_waited_out_and_the_commit_is_recorded() {
    let stage = Stage::new().await;
    let commit = "3f2c9d1e3f2c9d1e3f2c9d1e3f2c9d1e3f2c9d1e";
    stage.put(".git/HEAD", "ref: refs/heads/main\n");
    stage.put(".git/refs/heads/main", commit);
    stage.declare("a", "");
    stage.until_names(&["a"]).await;
    stage.put(".git/index.lock", "");
    stage.until_condition("Settled", "False", "GitOperation").await;
    stage.remove("a");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.names().await, ["a"]);
    stage.declare("b", "");
    stage.declare("a", "");
    stage.files.remove_file(&stage.path(".git/index.lock")).unwrap();
    stage.until_names(&["a", "b"]).await;
    assert_eq!(stage.status().await.commit.as_deref(), Some(commit));
    let made = stage.clusters().get("b").await.unwrap();
    assert_eq!(made.metadata.annotations.unwrap()["kina.dev/source-commit"], commit);
}

#[tokio::test(start_paused = true)]
async fn deletions_beyond_the_budget_wait_for_an_approval_also_when_nobody_was_watching() {
    let mut stage = Stage::new().await;
    for name in ["a", "b", "c"] {
        stage.declare(name, "");
    }
    stage.until_names(&["a", "b", "c"]).await;
    stage.until_condition("Settled", "True", "Applied").await;
    stage.stop().await;
    stage.remove("a");
    stage.remove("b");
    stage.start();
    stage.until_condition("Held", "True", "Held").await;
    let held = stage.status().await.held;
    assert_eq!(held[0].clusters, ["a", "b"]);
    stage.quiet().await;
    let patch = json!({"metadata": {"annotations": {annotations::APPROVE: held[0].id}}});
    stage.sources().patch("clusters", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    stage.until_names(&["c"]).await;
    stage
        .until("the approval is used up", || async {
            !stage.source().await.metadata.annotations.unwrap_or_default().contains_key(annotations::APPROVE)
        })
        .await;
    assert_eq!(stage.status().await.held, []);
    stage.quiet().await;
    assert_eq!(stage.events().await, ["a Undeclared", "b Undeclared", "clusters Approved", "clusters DeletionHeld"]);
}

#[tokio::test(start_paused = true)]
async fn other_clients_may_not_change_or_delete_what_a_file_declares_until_it_is_detached() {
    let stage = Stage::new().await;
    stage.declare("dev", "");
    stage.until_names(&["dev"]).await;
    let clusters = stage.clusters();
    let refused = clusters.delete("dev", &DeleteParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("/home/clusters/dev.yaml:1"), "{refused}");
    let paused = Patch::Merge(json!({"spec": {"paused": true}}));
    assert!(clusters.patch("dev", &PatchParams::default(), &paused).await.is_err());
    stage.annotate("dev", annotations::DETACH).await;
    stage
        .until("detached", || async {
            clusters.get("dev").await.unwrap().metadata.annotations.unwrap()["kina.dev/source"] == "cli"
        })
        .await;
    clusters.patch("dev", &PatchParams::default(), &paused).await.unwrap();
    stage.quiet().await;
    assert!(clusters.get("dev").await.unwrap().spec.paused);
    let detached = clusters.get("dev").await.unwrap().metadata.annotations.unwrap();
    assert_eq!(detached.keys().filter(|key| key.starts_with("kina.dev/")).count(), 1, "{detached:?}");
    stage.declare("dev", "paused: false");
    stage.until("adopted", || async { !clusters.get("dev").await.unwrap().spec.paused }).await;
    stage.quiet().await;
    assert_eq!(stage.events().await, ["dev Adopted", "dev Detached"]);
}

#[tokio::test(start_paused = true)]
async fn a_detached_cluster_is_changed_by_hand_as_if_it_had_been_made_by_hand() {
    let stage = Stage::new().await;
    stage.declare("dev", "workers: [{name: a}, {name: b}]");
    stage.until_names(&["dev"]).await;
    stage.annotate("dev", annotations::DETACH).await;
    stage.quiet().await;
    let object = json!({
        "apiVersion": "kina.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "dev"},
        "spec": {"workers": [{"name": "a", "replicas": 2}]},
    });
    let by_hand = PatchParams::apply(crate::sources::HAND_FIELD_MANAGER);
    let applied = stage.clusters().patch("dev", &by_hand, &Patch::Apply(object)).await.unwrap();
    assert_eq!(
        applied.spec.workers.iter().map(|pool| (pool.name.as_str(), pool.replicas)).collect::<Vec<_>>(),
        [("a", 2)]
    );
    assert_eq!(applied.metadata.annotations.unwrap()["kina.dev/source"], "cli");
}

#[tokio::test(start_paused = true)]
async fn every_beginning_of_a_file_that_is_written_slowly_leaves_its_cluster_alone() {
    let stage = Stage::new().await;
    let old = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n  workers:\n  - name: a\n    replicas: 12\n";
    stage.put("dev.yaml", old);
    stage.until_names(&["dev"]).await;
    stage.until_condition("Settled", "True", "Applied").await;
    let made = stage.clusters().get("dev").await.unwrap();
    let new = old.replace("12", "24");
    for end in 0..new.len() {
        stage.put("dev.yaml", &new[..end]);
        sleep(Duration::from_millis(500)).await;
        let now = stage.clusters().list(&ListParams::default()).await.unwrap().items;
        assert_eq!(now.len(), 1, "{}", &new[..end]);
        assert_eq!(now[0].metadata.uid, made.metadata.uid);
    }
    stage.put("dev.yaml", &new);
    stage
        .until("written", || async { stage.clusters().get("dev").await.unwrap().spec.workers[0].replicas == 24 })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_file_adopts_what_was_made_by_hand_and_leaves_what_it_does_not_name() {
    let stage = Stage::new().await;
    let mut spec = ClusterSpec { paused: true, ..ClusterSpec::default() };
    spec.drift.interval = "60s".into();
    let made = stage.clusters().create(&PostParams::default(), &Cluster::new("dev", spec)).await.unwrap();
    assert_eq!(made.metadata.annotations.as_ref().unwrap()["kina.dev/source"], "cli");
    sleep(Duration::from_secs(60)).await;
    stage.declare("dev", "paused: false");
    stage.until("adopted", || async { !stage.clusters().get("dev").await.unwrap().spec.paused }).await;
    let adopted = stage.clusters().get("dev").await.unwrap();
    assert_eq!((adopted.metadata.uid, adopted.spec.drift.interval.as_str()), (made.metadata.uid, "60s"));
    stage.quiet().await;
    assert_eq!(stage.events().await, ["dev Adopted"]);
}

#[tokio::test(start_paused = true)]
async fn a_label_that_somebody_changed_is_changed_back_with_an_event() {
    let stage = Stage::new().await;
    stage.put("dev.yaml", "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {name: dev, labels: {team: a}}\n");
    stage.until_names(&["dev"]).await;
    let patch = Patch::Merge(json!({"metadata": {"labels": {"team": "b", "theirs": "x"}}}));
    stage.clusters().patch("dev", &PatchParams::default(), &patch).await.unwrap();
    stage
        .until("changed back", || async {
            stage.clusters().get("dev").await.unwrap().metadata.labels.unwrap()
                == [("team".into(), "a".into()), ("theirs".into(), "x".into())].into()
        })
        .await;
    stage.quiet().await;
    assert_eq!(stage.events().await, ["dev SourceReverted"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_api_refuses_is_an_error_at_its_document_and_is_tried_again() {
    let stage = Stage::new().await;
    let spec = "workers: [{name: c}]";
    stage
        .clusters()
        .create(
            &PostParams::default(),
            &Cluster::new("a-b", serde_json::from_value(json!({"workers": [{"name": "c"}]})).unwrap()),
        )
        .await
        .unwrap();
    stage.declare("a", "workers: [{name: b-c}]");
    stage.declare("x", spec);
    stage.until_condition("Settled", "False", "FileErrors").await;
    stage.until_names(&["a-b", "x"]).await;
    stage.quiet().await;
    let status = stage.status().await;
    assert!(status.files[0].errors[0].message.contains("`a-b-c-N`"), "{:?}", status.files[0]);
    assert_eq!(stage.events().await, ["clusters SourceInvalid"]);
    stage.clusters().delete("a-b", &DeleteParams::default()).await.unwrap();
    stage.until_names(&["a", "x"]).await;
    stage.until_condition("Settled", "True", "Applied").await;
}

#[tokio::test(start_paused = true)]
async fn a_protected_cluster_outlives_its_file() {
    let stage = Stage::new().await;
    stage.declare("dev", "protect: true");
    stage.until_names(&["dev"]).await;
    stage.remove("dev");
    stage.until("protected", || async { !stage.status().await.protected.is_empty() }).await;
    stage.quiet().await;
    assert_eq!(stage.names().await, ["dev"]);
    assert!(stage.clusters().get("dev").await.unwrap().metadata.deletion_timestamp.is_none());
    stage.declare("dev", "protect: false");
    stage.until("let go", || async { stage.status().await.protected.is_empty() }).await;
    stage.until_condition("Settled", "True", "Applied").await;
    stage.remove("dev");
    stage.until_names(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cluster_moves_between_roots_without_being_deleted() {
    let mut stage = Stage::new().await;
    stage.stop().await;
    stage.files.create_directories(Path::new("/team"), 0o700).unwrap();
    stage.roots.push(Root::watched("/team"));
    stage.start();
    stage.declare("dev", "");
    stage.until_names(&["dev"]).await;
    stage.quiet().await;
    let uid = stage.clusters().get("dev").await.unwrap().metadata.uid;
    stage.remove("dev");
    sleep(Duration::from_millis(1500)).await;
    stage.files.write(Path::new("/team/moved.yaml"), document("dev", "").as_bytes(), 0o600).unwrap();
    stage
        .until("moved", || async {
            stage.clusters().get("dev").await.unwrap().metadata.annotations.unwrap()["kina.dev/source-path"]
                == "moved.yaml"
        })
        .await;
    stage.quiet().await;
    assert_eq!(stage.clusters().get("dev").await.unwrap().metadata.uid, uid);
    // Declared in both: an error on both, and the Cluster stays.
    stage.declare("dev", "paused: true");
    stage.until_condition("Settled", "False", "FileErrors").await;
    let other = stage.roots[1].name.clone();
    stage
        .until("an error there", || async { stage.sources().get(&other).await.unwrap().status.unwrap().errors == 1 })
        .await;
    stage.remove("dev");
    stage.until_condition("Settled", "True", "Applied").await;
    stage.files.remove_file(Path::new("/team/moved.yaml")).unwrap();
    stage.until_names(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_not_watched_any_more_orphans_its_clusters() {
    let mut stage = Stage::new().await;
    stage.declare("dev", "");
    stage.until_names(&["dev"]).await;
    stage.stop().await;
    stage.roots = vec![];
    stage.start();
    stage.until("the source is gone", || async { stage.sources().get_opt("clusters").await.unwrap().is_none() }).await;
    let orphan = stage.clusters().get("dev").await.unwrap();
    assert_eq!(orphan.metadata.annotations.unwrap()["kina.dev/source"], "cli");
    stage.clusters().delete("dev", &DeleteParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_time_is_over_is_deleted_and_not_made_again() {
    let stage = Stage::new().await;
    stage.declare("dev", "ttl: 10m");
    stage.until_names(&["dev"]).await;
    sleep(Duration::from_secs(599)).await;
    assert_eq!(stage.names().await, ["dev"]);
    stage.until_names(&[]).await;
    stage.quiet().await;
    assert_eq!(stage.names().await, [""; 0]);
    stage.declare("dev", "ttl: 20m");
    stage.until_names(&["dev"]).await;
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_moment_the_next_start_goes_on() {
    for moment in (0..260).step_by(13) {
        let mut stage = Stage::new().await;
        for name in ["a", "b", "c"] {
            stage.declare(name, "");
        }
        sleep(Duration::from_millis(moment)).await;
        stage.kill().await;
        stage.start();
        stage.until_names(&["a", "b", "c"]).await;
        stage.remove("a");
        sleep(Duration::from_millis(1900 + moment)).await;
        stage.kill().await;
        stage.start();
        stage.until_names(&["b", "c"]).await;
        assert!(stage.status().await.spent.len() <= 1);
        stage.quiet().await;
        stage.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_world_gives_the_same_history_twice() {
    async fn history() -> (String, Vec<String>) {
        let stage = Stage::new().await;
        for index in 0..20 {
            stage.declare(&format!("c{index}"), "");
        }
        stage.until("all", || async { stage.names().await.len() == 20 }).await;
        stage.declare("c3", "workerz: 1");
        stage.quiet().await;
        let clusters = stage.clusters().list(&ListParams::default()).await.unwrap().items;
        (serde_json::to_string(&(clusters, stage.status().await)).unwrap(), stage.events().await)
    }
    assert_eq!(history().await, history().await);
}

/// A source on a real disk, in real time.
async fn on_disk() -> (Stage, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let mut world = World::real();
    world.files = Arc::new(Disk);
    let root = home.path().join("clusters");
    std::fs::create_dir(&root).unwrap();
    (Stage::over(world, vec![Root::home(root)]).await, home)
}

#[tokio::test]
async fn editors_ways_to_save_are_each_one_update_on_a_real_disk() {
    let (stage, _home) = on_disk().await;
    let path = stage.path("dev.yaml");
    std::fs::write(&path, document("dev", "")).unwrap();
    stage.until_names(&["dev"]).await;
    let uid = stage.clusters().get("dev").await.unwrap().metadata.uid;
    let replicas = |count: u32| document("dev", &format!("workers: [{{name: a, replicas: {count}}}]"));
    let saves: [&dyn Fn(&str); 4] = [
        &|content| {
            std::fs::write(stage.path(".dev.yaml.new"), content).unwrap();
            std::fs::rename(stage.path(".dev.yaml.new"), &path).unwrap();
        },
        &|content| {
            std::fs::rename(&path, stage.path("dev.yaml~")).unwrap();
            std::fs::write(&path, content).unwrap();
        },
        &|content| {
            std::fs::write(&path, "").unwrap();
            std::fs::write(&path, content).unwrap();
        },
        &|content| {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, content).unwrap();
        },
    ];
    for (count, save) in (2..).zip(saves) {
        save(&replicas(count));
        stage
            .until("saved", || async {
                stage.clusters().get("dev").await.unwrap().spec.workers.first().map(|pool| pool.replicas) == Some(count)
            })
            .await;
    }
    let saved = stage.clusters().get("dev").await.unwrap();
    assert_eq!((saved.metadata.uid, saved.metadata.generation), (uid, Some(5)));
}

#[tokio::test]
async fn every_beginning_of_a_file_that_is_being_written_leaves_its_cluster_alone_on_a_real_disk() {
    use std::io::Write;
    let (stage, _home) = on_disk().await;
    let path = stage.path("dev.yaml");
    std::fs::write(&path, document("dev", "paused: true")).unwrap();
    stage.until_names(&["dev"]).await;
    let uid = stage.clusters().get("dev").await.unwrap().metadata.uid;
    let content = document("dev", "paused: false");
    let mut file = std::fs::File::create(&path).unwrap();
    for byte in content.as_bytes() {
        file.write_all(&[*byte]).unwrap();
        file.sync_data().unwrap();
        tokio::task::yield_now().await;
    }
    stage.until("written", || async { !stage.clusters().get("dev").await.unwrap().spec.paused }).await;
    let written = stage.clusters().get("dev").await.unwrap();
    assert_eq!(written.metadata.uid, uid);
}

#[tokio::test]
async fn links_that_are_swapped_as_in_a_configmap_mount_delete_nothing_on_a_real_disk() {
    use std::os::unix::fs::symlink;
    let (stage, _home) = on_disk().await;
    let swap = |version: u32, paused: bool| {
        let directory = stage.path(&format!("..v{version}"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(directory.join("dev.yaml"), document("dev", &format!("paused: {paused}"))).unwrap();
        symlink(format!("..v{version}"), stage.path("..data_tmp")).unwrap();
        std::fs::rename(stage.path("..data_tmp"), stage.path("..data")).unwrap();
        if version > 0 {
            std::fs::remove_dir_all(stage.path(&format!("..v{}", version - 1))).unwrap();
        }
    };
    swap(0, false);
    symlink("..data/dev.yaml", stage.path("dev.yaml")).unwrap();
    stage.until_names(&["dev"]).await;
    let uid = stage.clusters().get("dev").await.unwrap().metadata.uid;
    for version in 1..200 {
        swap(version, version % 2 == 1);
        tokio::task::yield_now().await;
    }
    stage.until("the last version", || async { stage.clusters().get("dev").await.unwrap().spec.paused }).await;
    assert_eq!(stage.clusters().get("dev").await.unwrap().metadata.uid, uid);
}

#[tokio::test]
async fn switching_branches_back_and_forth_ends_as_the_last_one_says_on_a_real_disk() {
    let (stage, _home) = on_disk().await;
    let root = stage.roots[0].path.clone();
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]);
        let output = command.args(arguments).current_dir(&root).env_remove("GIT_DIR").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q"]);
    for name in ["a", "b", "c"] {
        std::fs::write(stage.path(&format!("{name}.yaml")), document(name, "")).unwrap();
    }
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "main"]);
    git(&["checkout", "-q", "-b", "other"]);
    git(&["rm", "-q", "b.yaml", "c.yaml"]);
    std::fs::write(stage.path("a.yaml"), document("a", "paused: true")).unwrap();
    git(&["commit", "-q", "-a", "-m", "other"]);
    git(&["checkout", "-q", "main"]);
    stage.until_names(&["a", "b", "c"]).await;
    stage.until_condition("Settled", "True", "Applied").await;
    let uids = || async {
        let clusters = stage.clusters().list(&ListParams::default()).await.unwrap().items;
        clusters.into_iter().filter_map(|cluster| cluster.metadata.uid).collect::<Vec<_>>()
    };
    let before = uids().await;
    for _ in 0..20 {
        git(&["checkout", "-q", "other"]);
        git(&["checkout", "-q", "main"]);
        tokio::task::yield_now().await;
    }
    git(&["checkout", "-q", "other"]);
    stage.until("the last branch", || async { stage.clusters().get("a").await.unwrap().spec.paused }).await;
    // Two of three are more than an hour may have.
    stage.until_condition("Held", "True", "Held").await;
    assert_eq!(uids().await, before);
}

#[tokio::test]
async fn a_directory_that_comes_later_is_noticed_on_a_real_disk() {
    let home = tempfile::tempdir().unwrap();
    let root = home.path().join("later");
    let stage = Stage::over(World::real(), vec![Root::home(&root)]).await;
    stage.until_condition("Available", "False", "RootUnavailable").await;
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("dev.yaml"), document("dev", "")).unwrap();
    stage.until_names(&["dev"]).await;
}

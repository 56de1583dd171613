use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::api::conditions;
use crate::api::source::{HeldAction, HeldSet, IgnoredReason};
use crate::world::FileIdentity;

/// A source with its files and the API beside it, in a world of its own. What a plan says is carried out at once.
struct Story {
    files: BTreeMap<String, String>,
    clusters: BTreeMap<String, Arc<Live>>,
    status: SourceStatus,
    root: Root,
    problems: Vec<Problem>,
    moving: Vec<String>,
    elsewhere: BTreeMap<String, Place>,
    others: BTreeSet<String>,
    others_looked: Option<Duration>,
    refusals: BTreeMap<String, Refusal>,
    approve: Option<String>,
    absent: BTreeMap<String, Duration>,
    compared: Compared,
    start: Timestamp,
    uptime: Duration,
    made: u32,
    deleted: Vec<String>,
    notices: Vec<String>,
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn root(inode: u64) -> Root {
    Root::Present(FileIdentity { device: 1, inode })
}

fn document(name: &str, spec: &str) -> String {
    format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

impl Story {
    fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            clusters: BTreeMap::new(),
            status: SourceStatus::default(),
            root: root(1),
            problems: Vec::new(),
            moving: Vec::new(),
            elsewhere: BTreeMap::new(),
            others: BTreeSet::new(),
            others_looked: None,
            refusals: BTreeMap::new(),
            approve: None,
            absent: BTreeMap::new(),
            compared: Compared::default(),
            start: "2026-01-01T00:00:00Z".parse().unwrap(),
            uptime: Duration::ZERO,
            made: 0,
            deleted: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// So many clusters, each in a file of its own, made long ago.
    fn with_clusters(count: usize) -> Self {
        let mut story = Self::new();
        for index in 0..count {
            story.declare(&format!("c{index}"), "");
        }
        story.rest();
        story.pass_time(DAY);
        story.notices.clear();
        story
    }

    fn declare(&mut self, name: &str, spec: &str) {
        self.files.insert(format!("{name}.yaml"), document(name, spec));
    }

    fn forget(&mut self, names: &[&str]) {
        for name in names {
            self.files.remove(&format!("{name}.yaml")).unwrap();
        }
    }

    fn pass_time(&mut self, time: Duration) {
        self.uptime += time;
    }

    fn now(&self) -> Timestamp {
        self.start + self.uptime
    }

    fn plan(&self) -> Plan {
        let files = self.files.iter();
        let files =
            files.map(|(path, text)| (path.clone(), Arc::new(Manifest::parse(path, text.as_bytes())))).collect();
        let hashes = self.files.iter().map(|(path, text)| (path.clone(), text.clone())).collect();
        let input = Input {
            source: "clusters",
            status: &self.status,
            generation: Some(1),
            approve: self.approve.as_deref(),
            root: &self.root,
            problems: &self.problems,
            settled: &Settled { moving: self.moving.clone(), ..Settled::default() },
            files: &files,
            hashes: &hashes,
            commit: None,
            clusters: &self.clusters,
            elsewhere: &self.elsewhere,
            others: &self.others,
            others_looked: self.others_looked,
            refusals: &self.refusals,
            absent: &self.absent,
            compared: &self.compared,
            now: self.now(),
            uptime: self.uptime,
        };
        let planned = plan(&input);
        let anew = plan(&Input { compared: &Compared::default(), ..input });
        assert_eq!(planned, anew, "what was compared before made a difference");
        planned
    }

    /// Plans, stores the status, and carries out the first `steps` actions.
    fn pass(&mut self, steps: usize) -> Plan {
        let plan = self.plan();
        self.status = plan.status.clone();
        self.absent = plan.absent.clone();
        self.notices.extend(plan.notices.iter().map(|notice| {
            format!("{} {}: {}", notice.cluster.as_deref().unwrap_or("-"), notice.reason, notice.message)
        }));
        for action in plan.actions.iter().take(steps) {
            self.act(action);
        }
        plan
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Apply { path, document, .. } => {
                let before = self.clusters.get(&document.name);
                self.made += u32::from(before.is_none());
                let mut live = before.map(|live| live.as_ref().clone()).unwrap_or_else(|| Live {
                    uid: format!("uid-{}", self.made),
                    created: Some(conditions::whole_seconds(self.now())),
                    ..Live::default()
                });
                live.spec = crate::api::class::keep_resolved(&live.spec, document.typed.clone());
                live.labels.extend(document.labels.clone());
                live.annotations.extend(document.annotations.clone());
                live.annotations.extend([
                    (annotations::SOURCE.to_owned(), "clusters".to_owned()),
                    (annotations::SOURCE_PATH.to_owned(), path.clone()),
                    (annotations::SOURCE_LINE.to_owned(), document.line.to_string()),
                    (annotations::SOURCE_HASH.to_owned(), document.hash.clone()),
                ]);
                self.clusters.insert(document.name.clone(), Arc::new(live));
            }
            Action::Release { cluster, .. } => {
                let live = Arc::make_mut(self.clusters.get_mut(cluster).unwrap());
                live.annotations = BTreeMap::from([(annotations::SOURCE.to_owned(), "cli".to_owned())]);
            }
            Action::Delete { cluster, uid, .. } => {
                let live = self.clusters.remove(cluster).unwrap();
                assert_eq!(&live.uid, uid);
                assert!(!live.is_protected());
                self.deleted.push(cluster.clone());
            }
            Action::ClearApproval => self.approve = None,
        }
    }

    /// Goes on until there is nothing to do, and shows that planning again changes nothing.
    fn rest(&mut self) {
        for _ in 0..40 {
            let status = self.status.clone();
            let plan = self.pass(usize::MAX);
            if plan.actions.is_empty() && plan.status == status {
                match plan.wake {
                    Some(wake) if wake <= self.uptime + 10 * SECOND => self.uptime = wake.max(self.uptime),
                    _ => return,
                }
            }
        }
        panic!("never quiet: {:?}", self.plan());
    }

    fn edit(&mut self, name: &str, change: impl FnOnce(&mut Live)) {
        change(Arc::make_mut(self.clusters.get_mut(name).unwrap()));
    }

    fn annotate(&mut self, name: &str, key: &str, value: &str) {
        self.edit(name, |live| drop(live.annotations.insert(key.into(), value.into())));
    }

    fn names(&self) -> Vec<&str> {
        self.clusters.keys().map(String::as_str).collect()
    }

    fn held(&self) -> Vec<(HeldAction, Vec<&str>)> {
        let names = |set: &HeldSet| (set.action, ());
        let sets = self.status.held.iter();
        sets.map(|set| (names(set).0, set.clusters.iter().map(String::as_str).collect())).collect()
    }

    fn condition(&self, type_: &str) -> String {
        let condition = conditions::get(&self.status.conditions, type_).unwrap();
        format!("{} {}", condition.status, condition.reason)
    }

    fn errors(&self) -> Vec<String> {
        let of_file = |file: &crate::api::source::SourceFile| -> Vec<String> {
            file.errors.iter().map(|error| format!("{}:{}: {}", file.path, error.line, error.message)).collect()
        };
        self.status.files.iter().flat_map(of_file).collect()
    }
}

#[test]
fn a_file_becomes_a_cluster_and_its_change_is_applied() {
    let mut story = Story::new();
    story.declare("dev", "");
    story.rest();
    assert_eq!(story.names(), ["dev"]);
    assert_eq!(story.condition("Settled"), "True Applied");
    assert_eq!((story.status.clusters, story.status.root.as_deref()), (1, Some("1:1")));
    story.declare("dev", "paused: true");
    let plan = story.pass(usize::MAX);
    assert!(matches!(&plan.actions[..], [Action::Apply { effect: Effect::Update, .. }]));
    assert!(story.clusters["dev"].spec.paused);
}

#[test]
fn the_only_file_removed_deletes_its_cluster_after_a_moment() {
    let mut story = Story::with_clusters(1);
    story.forget(&["c0"]);
    assert_eq!(story.pass(usize::MAX).actions, []);
    assert_eq!(story.condition("Settled"), "False Confirming");
    story.pass_time(SECOND);
    assert_eq!(story.pass(usize::MAX).actions, []);
    story.rest();
    assert_eq!(story.deleted, ["c0"]);
    assert_eq!(story.notices, ["c0 Undeclared: no file declares it any more: it is deleted"]);
}

#[test]
fn a_file_that_comes_back_in_time_was_never_gone() {
    let mut story = Story::with_clusters(1);
    story.forget(&["c0"]);
    story.pass(usize::MAX);
    story.pass_time(SECOND);
    story.declare("c0", "");
    story.pass(usize::MAX);
    story.pass_time(DAY);
    story.rest();
    assert_eq!((story.names(), story.deleted.len(), story.made), (vec!["c0"], 0, 1));
}

#[test]
fn the_last_good_state_stays_while_a_file_is_bad_and_nothing_of_the_source_is_deleted() {
    let mut story = Story::with_clusters(3);
    story.files.insert("c0.yaml".into(), document("c0", "workerz: []"));
    story.forget(&["c1"]);
    story.rest();
    story.pass_time(DAY);
    story.rest();
    assert_eq!(story.names(), ["c0", "c1", "c2"]);
    assert_eq!(story.errors(), ["c0.yaml:4: `spec.workerz` is not a field (did you mean `workers`?)"]);
    assert_eq!(story.status.files[0].clusters, ["c0"]);
    assert_eq!(story.condition("Settled"), "False FileErrors");
    assert_eq!(story.notices.iter().filter(|notice| notice.contains("SourceInvalid")).count(), 1);
    story.declare("c0", "paused: true");
    story.rest();
    assert_eq!(story.deleted, ["c1"]);
    assert!(story.clusters["c0"].spec.paused);
}

#[test]
fn one_bad_document_holds_its_whole_file_back() {
    let mut story = Story::new();
    story.files.insert("two.yaml".into(), format!("{}---\n{}", document("a", ""), document("b", "ttl: soon")));
    story.declare("other", "");
    story.rest();
    assert_eq!(story.names(), ["other"]);
}

#[test]
fn a_file_that_was_emptied_is_an_error_and_not_a_deletion() {
    for content in ["", "# soon\n", "apiVersion: kin", "{{ broken"] {
        let mut story = Story::with_clusters(2);
        story.files.insert("c0.yaml".into(), content.into());
        story.rest();
        assert_eq!((story.names(), story.errors().len()), (vec!["c0", "c1"], 1), "{content}");
    }
    let mut story = Story::with_clusters(2);
    story.files.insert("c0.yaml".into(), String::new());
    story.files.insert("c1.yaml".into(), format!("{}---\n{}", document("c0", ""), document("c1", "")));
    story.rest();
    assert_eq!((story.names(), story.errors().len()), (vec!["c0", "c1"], 0));
}

#[test]
fn a_file_that_was_cut_off_amid_a_name_is_an_error_and_not_another_cluster() {
    let mut story = Story::with_clusters(2);
    let cut_off = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: c";
    story.files.insert("c0.yaml".into(), cut_off.into());
    story.rest();
    assert_eq!((story.names(), story.errors().len()), (vec!["c0", "c1"], 1));
    assert!(story.errors()[0].contains("the file declared `c0`, does not any more, and ends amid a line"));
    // Whoever means it ends the line.
    story.files.insert("c0.yaml".into(), format!("{cut_off}\n"));
    story.rest();
    assert_eq!((story.names(), story.errors().len()), (vec!["c", "c1"], 0));
}

#[test]
fn two_files_with_one_cluster_are_an_error_on_both_and_the_cluster_stays() {
    let mut story = Story::with_clusters(1);
    story.files.insert("b.yaml".into(), document("c0", "paused: true"));
    story.rest();
    assert_eq!(
        story.errors(),
        [
            "b.yaml:1: cluster `c0` is declared in c0.yaml:1 too (remove it from one of the two)",
            "c0.yaml:1: cluster `c0` is declared in b.yaml:1 too (remove it from one of the two)",
        ]
    );
    assert!(!story.clusters["c0"].spec.paused);
    story.forget(&["c0"]);
    story.rest();
    assert!(story.clusters["c0"].spec.paused);
    assert_eq!((story.deleted.len(), story.made), (0, 1));
}

#[test]
fn moving_a_cluster_to_another_file_is_not_a_deletion() {
    let mut story = Story::with_clusters(2);
    let content = story.files.remove("c0.yaml").unwrap();
    story.files.insert("team/renamed.yaml".into(), content);
    story.rest();
    assert_eq!((story.deleted.len(), story.made), (0, 2));
    assert_eq!(story.clusters["c0"].annotations[annotations::SOURCE_PATH], "team/renamed.yaml");
}

#[test]
fn moving_a_cluster_to_another_source_is_not_a_deletion() {
    let mut story = Story::with_clusters(1);
    story.others.insert("other".into());
    story.forget(&["c0"]);
    // The other source has not looked since: it may declare it by now.
    story.others_looked = Some(story.uptime - SECOND);
    story.pass(usize::MAX);
    story.pass_time(10 * SECOND);
    assert_eq!(story.pass(usize::MAX).actions, []);
    story.elsewhere.insert("c0".into(), Place { path: "/other/x.yaml".into(), line: 1 });
    story.others_looked = Some(story.uptime);
    story.pass_time(10 * SECOND);
    story.rest();
    assert_eq!(story.deleted, [""; 0]);

    // And the other way round: what the other declared before and declares no more is taken over.
    let mut story = Story::new();
    story.others.insert("other".into());
    story.others_looked = Some(Duration::ZERO);
    story.declare("dev", "");
    let live = Live { annotations: BTreeMap::from([(annotations::SOURCE.into(), "other".into())]), ..Live::default() };
    story.clusters.insert("dev".into(), Arc::new(live));
    story.elsewhere.insert("dev".into(), Place { path: "/other/x.yaml".into(), line: 1 });
    story.rest();
    assert_eq!(story.clusters["dev"].source(), Some("other"));
    assert_eq!(story.errors().len(), 1);
    story.elsewhere.clear();
    story.rest();
    assert_eq!(story.clusters["dev"].source(), Some("clusters"));
}

#[test]
fn a_root_that_vanished_deletes_nothing() {
    let mut story = Story::with_clusters(1);
    story.files.clear();
    story.root = Root::Unavailable("/x does not exist".into());
    story.rest();
    story.pass_time(DAY);
    story.rest();
    assert_eq!(story.names(), ["c0"]);
    assert_eq!(story.condition("Available"), "False RootUnavailable");
    assert_eq!(
        story.notices,
        ["- SourceUnavailable: /x does not exist: nothing that it declared is changed or deleted"]
    );
    assert_eq!(story.status.clusters, 1);
}

#[test]
fn a_root_that_is_another_directory_deletes_nothing_without_an_approval() {
    let mut story = Story::with_clusters(1);
    let content = std::mem::take(&mut story.files);
    story.root = root(2);
    story.rest();
    assert_eq!(story.names(), ["c0"]);
    assert_eq!(story.condition("Available"), "False RootReplaced");
    assert_eq!(story.held(), [(HeldAction::Delete, vec!["c0"])]);
    // The volume is mounted again.
    story.root = root(1);
    story.files = content.clone();
    story.rest();
    assert_eq!((story.held(), story.condition("Available")), (vec![], "True Readable".into()));
    // A new checkout with the same content is the source from now on.
    story.root = root(3);
    story.rest();
    assert_eq!((story.status.root.as_deref(), story.condition("Available")), (Some("1:3"), "True Readable".into()));
    // And an approval tells that it was meant.
    story.root = root(4);
    story.files.clear();
    story.rest();
    story.approve = Some(story.status.held[0].id.clone());
    story.rest();
    assert_eq!((story.deleted.as_slice(), story.status.root.as_deref()), (&["c0".to_owned()][..], Some("1:4")));
}

#[test]
fn a_git_operation_is_waited_out() {
    let mut story = Story::with_clusters(1);
    story.files.clear();
    story.root = Root::GitOperation("a rebase");
    for _ in 0..20 {
        let plan = story.pass(usize::MAX);
        assert_eq!(plan.actions, []);
        story.pass_time(SECOND);
    }
    assert_eq!(story.condition("Settled"), "False GitOperation");
}

#[test]
fn what_cannot_be_seen_is_not_deleted() {
    let mut story = Story::with_clusters(1);
    story.forget(&["c0"]);
    story.problems = vec![Problem { path: "team".into(), message: "permission denied".into() }];
    story.rest();
    story.pass_time(DAY);
    story.rest();
    assert_eq!(story.names(), ["c0"]);
    assert_eq!(story.condition("Settled"), "False Incomplete");
    story.problems.clear();
    story.moving = vec!["x.yaml".into()];
    story.pass(usize::MAX);
    story.pass_time(DAY);
    assert_eq!(story.pass(usize::MAX).actions, []);
}

#[test]
fn deletions_beyond_the_budget_are_held_until_exactly_that_set_is_approved() {
    let mut story = Story::with_clusters(10);
    story.forget(&["c1", "c2"]);
    story.rest();
    assert_eq!(story.deleted, ["c1", "c2"]);
    story.forget(&["c3"]);
    story.rest();
    assert_eq!(story.held(), [(HeldAction::Delete, vec!["c3"])]);
    let old = story.status.held[0].id.clone();
    story.forget(&["c4"]);
    story.rest();
    assert_eq!(story.held(), [(HeldAction::Delete, vec!["c3", "c4"])]);
    assert_eq!(story.condition("Held"), "True Held");
    story.approve = Some(old);
    story.rest();
    assert_eq!((story.deleted.len(), story.approve.as_ref()), (2, None));
    assert!(story.notices.last().unwrap().contains("ApprovalRefused"), "{:?}", story.notices);
    story.approve = Some(story.status.held[0].id.clone());
    story.rest();
    assert_eq!(story.deleted, ["c1", "c2", "c3", "c4"]);
    assert_eq!((story.held(), story.approve.as_ref()), (vec![], None));
}

#[test]
fn what_is_held_stays_held_when_time_passes() {
    let mut story = Story::with_clusters(4);
    story.forget(&["c0", "c1"]);
    story.rest();
    assert_eq!((story.held().len(), story.deleted.len()), (1, 0));
    story.pass_time(DAY);
    story.rest();
    assert_eq!((story.held().len(), story.deleted.len()), (1, 0));
    // One more alone fits the budget, and leaves the others held.
    story.forget(&["c2"]);
    story.rest();
    assert_eq!(
        (story.held(), story.deleted.as_slice()),
        (vec![(HeldAction::Delete, vec!["c0", "c1"])], &["c2".to_owned()][..])
    );
}

#[test]
fn a_held_deletion_is_dropped_when_the_file_comes_back() {
    let mut story = Story::with_clusters(4);
    story.forget(&["c0", "c1"]);
    story.rest();
    let id = story.status.held[0].id.clone();
    story.declare("c0", "");
    story.rest();
    assert_eq!(story.held(), [(HeldAction::Delete, vec!["c1"])]);
    assert_ne!(story.status.held[0].id, id);
    story.declare("c1", "");
    story.rest();
    assert_eq!((story.held(), story.deleted.len()), (vec![], 0));
}

#[test]
fn files_removed_while_nobody_looked_count_against_the_budget_too() {
    let mut story = Story::with_clusters(5);
    story.files.clear();
    story.absent.clear();
    story.uptime += DAY;
    story.rest();
    assert_eq!((story.deleted.len(), story.held()[0].1.len()), (0, 5));
}

#[test]
fn the_budget_counts_what_was_declared_at_the_start_of_the_hour() {
    let mut story = Story::new();
    for index in 0..100 {
        story.declare(&format!("c{index}"), "");
    }
    story.rest();
    story.forget(&["c1", "c2"]);
    story.rest();
    assert_eq!((story.deleted.len(), story.held().len()), (0, 1));
}

#[test]
fn a_deletion_that_a_crash_interrupted_goes_on_and_counts_once() {
    let mut story = Story::with_clusters(1);
    story.forget(&["c0"]);
    story.pass(0);
    story.pass_time(3 * SECOND);
    // The status is stored, the deletion is not sent.
    story.pass(0);
    assert_eq!((story.status.spent.len(), story.names()), (1, vec!["c0"]));
    story.rest();
    assert_eq!((story.deleted.len(), story.status.spent.len()), (1, 1));
    // Another Cluster of that name is not granted along.
    story.declare("c0", "");
    story.rest();
    story.forget(&["c0"]);
    story.rest();
    assert_eq!((story.deleted.len(), story.held().len()), (1, 1));
}

#[test]
fn a_protected_cluster_is_shown_as_blocked_and_no_approval_helps() {
    let mut story = Story::with_clusters(2);
    story.annotate("c0", annotations::PROTECT, "true");
    story.forget(&["c0"]);
    story.rest();
    assert_eq!((story.held(), story.status.held_count, story.deleted.len()), (vec![], 0, 0));
    assert_eq!(story.condition("Held"), "False NothingHeld");
    let protected = story.status.protected.clone();
    assert_eq!(protected.iter().map(|protected| protected.cluster.as_str()).collect::<Vec<_>>(), ["c0"]);
    assert_eq!(story.notices.iter().filter(|notice| notice.contains("DeletionRefused")).count(), 1);
    story.pass_time(DAY);
    story.rest();
    assert_eq!(story.status.protected, protected);
    story.approve = Some("c0".to_owned());
    story.rest();
    assert_eq!((story.deleted.len(), story.approve.as_ref()), (0, None));
    story.edit("c0", |live| drop(live.annotations.remove(annotations::PROTECT)));
    story.rest();
    assert_eq!((story.deleted.as_slice(), story.status.protected.len()), (&["c0".to_owned()][..], 0));
}

#[test]
fn what_is_held_says_in_plain_words_how_much_may_go() {
    let mut story = Story::with_clusters(5);
    story.forget(&["c0"]);
    story.rest();
    story.forget(&["c1", "c2"]);
    story.rest();
    insta::assert_snapshot!(story.status.held[0].message, @"2 clusters would be deleted; at most 1 may be deleted or made anew within an hour, and 1 was already");
}

#[test]
fn a_detached_cluster_is_left_alone_until_its_document_changes() {
    let mut story = Story::with_clusters(1);
    story.annotate("c0", annotations::DETACH, "");
    story.rest();
    assert_eq!(story.clusters["c0"].source(), Some("cli"));
    assert_eq!(story.status.ignored[0].reason, IgnoredReason::Detached);
    story.edit("c0", |live| live.spec.paused = true);
    story.rest();
    assert!(story.clusters["c0"].spec.paused);
    // Moving the file is no change of the document.
    let content = story.files.remove("c0.yaml").unwrap();
    story.files.insert("renamed.yaml".into(), content);
    story.rest();
    assert_eq!(story.clusters["c0"].source(), Some("cli"));
    story.files.insert("renamed.yaml".into(), document("c0", "paused: false"));
    story.notices.clear();
    let plan = story.pass(usize::MAX);
    assert!(matches!(&plan.actions[..], [Action::Apply { effect: Effect::Adopt, .. }]));
    story.rest();
    assert_eq!((story.clusters["c0"].source(), story.status.ignored.len()), (Some("clusters"), 0));
}

#[test]
fn a_detachment_works_without_the_file_and_without_the_root() {
    let mut story = Story::with_clusters(3);
    story.forget(&["c0", "c1"]);
    story.rest();
    story.annotate("c0", annotations::DETACH, "");
    story.rest();
    assert_eq!((story.clusters["c0"].source(), story.status.ignored.len()), (Some("cli"), 0));
    story.root = Root::Unavailable("gone".into());
    story.annotate("c2", annotations::DETACH, "");
    story.rest();
    assert_eq!((story.clusters["c2"].source(), story.status.ignored.len()), (Some("cli"), 1));
}

#[test]
fn a_file_adopts_what_was_made_by_hand() {
    let mut story = Story::new();
    for (name, source) in [("a", Some("cli")), ("b", None), ("c", Some("a-source-that-is-gone"))] {
        let annotations =
            source.map(|source| (annotations::SOURCE.to_owned(), source.to_owned())).into_iter().collect();
        story.clusters.insert(name.into(), Arc::new(Live { annotations, ..Live::default() }));
        story.declare(name, "");
    }
    let plan = story.pass(usize::MAX);
    assert!(plan.actions.iter().all(|action| matches!(action, Action::Apply { effect: Effect::Adopt, .. })));
    story.rest();
    assert_eq!((story.made, story.clusters["c"].source()), (0, Some("clusters")));
}

#[test]
fn what_was_made_by_hand_is_never_pruned() {
    let mut story = Story::with_clusters(1);
    let live = Live { annotations: BTreeMap::from([(annotations::SOURCE.into(), "cli".into())]), ..Live::default() };
    story.clusters.insert("mine".into(), Arc::new(live));
    story.pass_time(DAY);
    story.rest();
    assert_eq!(story.names(), ["c0", "mine"]);
}

#[test]
fn what_somebody_changed_is_changed_back() {
    let mut story = Story::new();
    story.files.insert(
        "a.yaml".into(),
        "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata: {name: a, labels: {team: x}}\n".into(),
    );
    story.rest();
    story.edit("a", |live| drop(live.labels.insert("team".into(), "y".into())));
    let plan = story.pass(usize::MAX);
    assert!(
        matches!(&plan.actions[..], [Action::Apply { effect: Effect::Revert(fields), .. }] if fields == &["metadata.labels[team]"])
    );
    story.edit("a", |live| drop(live.labels.insert("theirs".into(), "z".into())));
    assert_eq!(story.pass(usize::MAX).actions, []);
}

#[test]
fn a_cluster_whose_time_is_over_is_made_again_only_when_its_document_changes() {
    let mut story = Story::new();
    story.declare("dev", "ttl: 1h");
    story.rest();
    story.pass_time(Duration::from_secs(3590));
    let plan = story.pass(usize::MAX);
    assert_eq!((plan.actions.len(), plan.wake), (0, Some(Duration::from_secs(3600))));
    story.uptime = plan.wake.unwrap();
    // A crash after remembering, before deleting.
    story.pass(0);
    assert_eq!((story.status.ignored[0].reason, story.names()), (IgnoredReason::Expired, vec!["dev"]));
    story.rest();
    assert_eq!(story.deleted, ["dev"]);
    story.pass_time(DAY);
    story.rest();
    assert_eq!(story.names(), [""; 0]);
    story.files.insert("dev.yaml".into(), format!("{}# again\n", document("dev", "ttl: 1h")));
    story.rest();
    assert_eq!(story.names(), ["dev"]);
}

#[test]
fn more_time_in_the_document_is_applied_before_the_time_is_over() {
    let mut story = Story::new();
    story.declare("dev", "ttl: 1h");
    story.rest();
    story.pass_time(2 * Duration::from_secs(3600));
    story.declare("dev", "ttl: 8h");
    story.rest();
    assert_eq!((story.names(), story.deleted.len()), (vec!["dev"], 0));
}

#[test]
fn recreations_count_against_the_budget_and_are_approved_one_document_at_a_time() {
    let mut story = Story::new();
    let spec = |subnet: u8| format!("allowRecreate: true, networking: {{podSubnet: 10.{subnet}.0.0/16}}");
    for name in ["a", "b"] {
        story.declare(name, &spec(1));
    }
    story.rest();
    story.pass_time(DAY);
    story.declare("a", &spec(2));
    story.declare("b", &spec(2));
    story.rest();
    assert_eq!(story.held(), [(HeldAction::Recreate, vec!["a", "b"])]);
    assert_eq!(story.clusters["a"].spec.networking.pod_subnet.as_deref(), Some("10.1.0.0/16"));
    story.approve = Some(story.status.held[0].id.clone());
    story.rest();
    assert_eq!(story.clusters["a"].spec.networking.pod_subnet.as_deref(), Some("10.2.0.0/16"));
    assert_eq!((story.status.spent.len(), story.held()), (2, vec![]));
    // Another change of the same cluster is another recreation.
    story.declare("a", &spec(3));
    story.rest();
    assert_eq!(story.held(), [(HeldAction::Recreate, vec!["a"])]);
    // Taking it back drops it.
    story.declare("a", &spec(2));
    story.rest();
    assert_eq!(story.held(), []);
}

#[test]
fn a_document_that_the_api_refused_is_an_error_and_is_tried_again_when_it_changes() {
    let mut story = Story::with_clusters(1);
    story.declare("c0", "runtime: docker");
    let plan = story.pass(0);
    let Action::Apply { document, .. } = &plan.actions[0] else { panic!("{plan:?}") };
    story.refusals.insert(
        "c0".into(),
        Refusal {
            hash: document.hash.clone(),
            message: "spec.runtime cannot change".into(),
            place: (6, 3),
            is_due: false,
        },
    );
    story.rest();
    assert_eq!(story.errors(), ["c0.yaml:6: spec.runtime cannot change"]);
    story.declare("c0", "paused: true");
    story.rest();
    assert_eq!((story.errors().len(), story.clusters["c0"].spec.paused), (0, true));
}

#[test]
fn a_cluster_that_is_being_deleted_is_made_again_once_it_is_gone() {
    let mut story = Story::with_clusters(1);
    story.edit("c0", |live| live.is_deleting = true);
    story.rest();
    assert_eq!(story.condition("Settled"), "False Deleting");
    story.clusters.clear();
    story.rest();
    assert_eq!((story.names(), story.made), (vec!["c0"], 2));
}

#[test]
fn a_source_that_is_not_watched_any_more_lets_its_clusters_go() {
    let story = Story::with_clusters(2);
    let actions = release_all("clusters", &story.clusters);
    assert_eq!(actions.len(), 2);
    assert!(actions.iter().all(|action| matches!(action, Action::Release { why: Release::SourceRemoved, .. })));
    assert_eq!(release_all("other", &story.clusters), []);
}

#[derive(Clone, Debug)]
enum Step {
    Write(u8, u8),
    Break(u8),
    Empty(u8),
    Remove(u8),
    Rename(u8, u8),
    Wait(u16),
    Root(u8),
    Problem(bool),
    Protect(u8),
    Detach(u8),
    Approve,
    Pass(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_u8, 0..4_u8).prop_map(|(name, spec)| Step::Write(name, spec)),
        1 => (0..8_u8).prop_map(Step::Break),
        1 => (0..8_u8).prop_map(Step::Empty),
        4 => (0..8_u8).prop_map(Step::Remove),
        1 => (0..8_u8, 0..8_u8).prop_map(|(from, to)| Step::Rename(from, to)),
        4 => (0..3000_u16).prop_map(Step::Wait),
        1 => (0..4_u8).prop_map(Step::Root),
        1 => any::<bool>().prop_map(Step::Problem),
        1 => (0..8_u8).prop_map(Step::Protect),
        1 => (0..8_u8).prop_map(Step::Detach),
        1 => Just(Step::Approve),
        8 => (0..4_u8).prop_map(Step::Pass),
    ]
}

fn take(story: &mut Story, step: &Step) {
    let file = |name: &u8| format!("f{name}.yaml");
    match step {
        Step::Write(name, spec) => {
            let spec = ["", "paused: true", "ttl: 2h", "allowRecreate: true, image: x"][usize::from(*spec)];
            story.files.insert(file(name), document(&format!("c{name}"), spec));
        }
        Step::Break(name) => drop(story.files.insert(file(name), "kina.dev: [".into())),
        Step::Empty(name) => drop(story.files.insert(file(name), String::new())),
        Step::Remove(name) => drop(story.files.remove(&file(name))),
        Step::Rename(from, to) => {
            if let Some(content) = story.files.remove(&file(from)) {
                story.files.insert(file(to), content);
            }
        }
        Step::Wait(seconds) => story.pass_time(Duration::from_secs((*seconds).into())),
        Step::Root(0) => story.root = Root::Unavailable("gone".into()),
        Step::Root(1) => story.root = Root::GitOperation("a merge"),
        Step::Root(inode) => story.root = root((*inode).into()),
        Step::Problem(is_there) => {
            story.problems = is_there.then(|| Problem { path: "x".into(), message: "y".into() }).into_iter().collect();
        }
        Step::Protect(name) => {
            if story.clusters.contains_key(&format!("c{name}")) {
                story.annotate(&format!("c{name}"), annotations::PROTECT, "true");
            }
        }
        Step::Detach(name) => {
            if story.clusters.contains_key(&format!("c{name}")) {
                story.annotate(&format!("c{name}"), annotations::DETACH, "");
            }
        }
        Step::Approve => story.approve = story.status.held.first().map(|set| set.id.clone()),
        Step::Pass(steps) => drop(story.pass(usize::from(*steps))),
    }
}

proptest! {
    #[test]
    fn deletions_stay_within_the_budget_and_never_come_from_a_source_that_is_not_healthy(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut story = Story::new();
        let mut granted: Vec<(Duration, usize)> = Vec::new();
        for step in steps {
            let approved = story.approve.is_some();
            let before = story.plan();
            let deletes = |plan: &Plan| plan.actions.iter().filter(|action| matches!(action, Action::Delete { why: Removal::Undeclared, .. })).count();
            let is_healthy = matches!(story.root, Root::Present(_)) && story.problems.is_empty()
                && story.files.values().all(|text| !text.starts_with("kina.dev: ["));
            prop_assert!(is_healthy || deletes(&before) == 0, "{before:?}");
            if let Step::Pass(_) = step {
                let fresh = before.status.spent.iter().filter(|spent| !story.status.spent.contains(spent)).count();
                if !approved {
                    granted.push((story.uptime, fresh));
                    let hour = story.uptime.saturating_sub(Duration::from_secs(3600));
                    let spent: usize = granted.iter().filter(|(at, _)| *at > hour).map(|(_, count)| count).sum();
                    // With at most eight Clusters the budget is one an hour.
                    prop_assert!(spent <= 1, "{granted:?}");
                }
            }
            take(&mut story, &step);
        }
    }

    #[test]
    fn from_anywhere_a_healthy_source_comes_to_rest_as_its_files_say(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut story = Story::new();
        for step in steps {
            take(&mut story, &step);
        }
        story.root = root(9);
        story.problems.clear();
        story.approve = None;
        story.files.retain(|_, text| Manifest::parse("x", text.as_bytes()).faults.is_empty() && !text.is_empty());
        story.rest();
        prop_assert_eq!(story.plan().actions, vec![]);
        for text in story.files.values() {
            let declared = Manifest::parse("x", text.as_bytes());
            let name = &declared.documents[0].name;
            let is_ignored = story.status.ignored.iter().any(|entry| &entry.cluster == name);
            let is_held = story.status.held.iter().any(|set| set.clusters.contains(name));
            let is_double = !story.errors().is_empty();
            prop_assert!(story.clusters.contains_key(name) || is_ignored || is_held || is_double, "{}", name);
        }
    }
}

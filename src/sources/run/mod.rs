//! The running source: one loop a root, each pass of which looks, plans and acts; the next pass is the retry.
//!
//! Everything that is needed after a crash is in the files or in the API. What is kept here between passes only spares
//! work, or makes Kina wait longer before it deletes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::act::{self, ActError};
use super::board::Board;
use super::events::Events;
use super::mirror::{self, Mirror};
use super::plan::{self, Action, Compared, Effect, Input, Notice, Plan, Refusal, Removal};
use super::roots::Root;
use super::watched::{RESCAN, Watched};
use crate::api::{Source, SourceStatus, annotations};
use crate::host_mounts::MountPolicy;
use crate::world::World;

/// Least time between two passes that only news from the API asked for: a thousand Clusters that become Ready are not a
/// thousand plans.
const API_PAUSE: Duration = Duration::from_millis(100);
/// Applications under way at a time. The API writes one after the other; a few keep it busy while others are read.
const APPLICATIONS: usize = 8;
/// Longest pass: ten thousand files, each applied in a few milliseconds.
const PASS_MAX: Duration = Duration::from_secs(120);
/// Waits after a failed pass: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// Keeps the API as the files of these directories say, until `shutdown` completes. A pass that is under way is finished
/// first. Sources of directories that are not among the roots are removed; their Clusters stay and belong to whoever
/// works by hand.
///
/// What files may mount is up to `mounts`. The client must speak in the name of [`crate::api::users::SOURCES`].
pub async fn run(
    client: Client,
    world: World,
    mut roots: Vec<Root>,
    mounts: MountPolicy,
    shutdown: impl Future<Output = ()>,
) {
    roots.sort();
    roots.dedup_by(|a, b| a.name == b.name || a.path == b.path);
    let stop = CancellationToken::new();
    let shared = Shared {
        board: Board::new(roots.iter().map(|root| root.name.as_str())),
        mirror: Mirror::new(),
        started: Instant::now(),
        client,
        world,
        mounts,
        stop: stop.clone(),
    };
    let names: Vec<String> = roots.iter().map(|root| root.name.clone()).collect();
    let work = async {
        // Nothing has begun before everything is known: there is nothing to finish then.
        if stop.run_until_cancelled(shared.mirror.listed()).await.is_some() {
            let tasks: Vec<_> = roots.into_iter().map(|root| Task::new(&shared, root).run()).collect();
            futures::join!(retire(&shared, &names), futures::future::join_all(tasks));
        }
    };
    let ending = async {
        shutdown.await;
        stop.cancel();
        futures::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = ending => {}
        () = shared.mirror.follow(&shared.client) => {}
        () = work => {}
    }
}

struct Shared {
    client: Client,
    world: World,
    mounts: MountPolicy,
    mirror: Mirror,
    board: Board,
    started: Instant,
    stop: CancellationToken,
}

impl Shared {
    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Lets go of the Clusters of Sources that are not watched any more.
async fn retire(shared: &Shared, names: &[String]) {
    let mut pause = RETRY_FIRST;
    while !shared.stop.is_cancelled() {
        match retire_once(shared, names).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "sources that are gone could not be removed")
            }
        }
        if shared.stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(RETRY_LAST);
    }
}

async fn retire_once(shared: &Shared, names: &[String]) -> Result<(), ActError> {
    let clusters = shared.mirror.clusters();
    let mut gone: BTreeSet<&str> = clusters.values().filter_map(|live| live.source()).collect();
    gone.remove(annotations::SOURCE_CLI);
    for name in names {
        gone.remove(name.as_str());
    }
    for source in gone {
        for action in plan::release_all(source, &clusters) {
            if let Action::Release { cluster, uid, why } = action
                && let Some(cluster) = act::release(&shared.client, source, &cluster, &uid, why).await?
            {
                shared.mirror.answered(&cluster);
            }
        }
    }
    for source in shared.mirror.sources() {
        if !names.contains(&source) {
            act::delete_source(&shared.client, &source).await?;
        }
    }
    Ok(())
}

/// One root.
struct Task<'a> {
    shared: &'a Shared,
    name: String,
    path: String,
    watched: Watched,
    events: Events,
    absent: BTreeMap<String, Duration>,
    compared: Compared,
    refusals: BTreeMap<String, Refused>,
    failures: u32,
}

struct Refused {
    refusal: Refusal,
    since: Duration,
}

/// What a pass leaves to be waited for.
struct Passed {
    wake: Option<Duration>,
    failed: bool,
}

impl<'a> Task<'a> {
    fn new(shared: &'a Shared, root: Root) -> Self {
        Self {
            shared,
            name: root.name.clone(),
            path: root.path.display().to_string(),
            events: Events::new(&shared.client, &root.name),
            watched: Watched::new(root, shared.mounts.clone()),
            absent: BTreeMap::new(),
            compared: Compared::default(),
            refusals: BTreeMap::new(),
            failures: 0,
        }
    }

    async fn run(mut self) {
        let mut news = self.shared.mirror.changes();
        let mut must_look = true;
        while !self.shared.stop.is_cancelled() {
            news.mark_unchanged();
            if must_look {
                self.look();
            }
            let files = self.watched.changes();
            let passed = match timeout(PASS_MAX, self.pass(must_look)).await {
                Ok(passed) => passed,
                Err(_) => {
                    tracing::warn!(source = %self.name, "a pass of the source took too long and is begun again");
                    Passed { wake: None, failed: true }
                }
            };
            let last = self.shared.uptime();
            self.failures = if passed.failed { self.failures.saturating_add(1) } else { 0 };
            let look = self.watched.next_look();
            let again = self.again(&passed, last);
            let change = async {
                changed(files).await;
                sleep_until(self.shared.started + self.watched.rested()).await;
            };
            let asked = async {
                // An API that is gone never asks; then there is nothing to do but to wait for the files.
                if news.changed().await.is_err() {
                    futures::future::pending::<()>().await;
                }
                sleep_until(self.shared.started + last + API_PAUSE).await;
            };
            tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return,
                () = change => must_look = true,
                () = sleep_until(self.shared.started + look) => must_look = true,
                () = sleep_until(self.shared.started + again) => must_look = false,
                () = asked => must_look = self.shared.board.is_asked(self.watched.looked),
            }
        }
    }

    /// When to plan again for a reason other than the files.
    fn again(&self, passed: &Passed, last: Duration) -> Duration {
        let wake = passed.wake.unwrap_or(last + RESCAN).max(last + Duration::from_millis(1));
        if self.failures == 0 {
            return wake;
        }
        let doublings = self.failures.saturating_sub(1).min(10);
        (last + (RETRY_FIRST * 2_u32.pow(doublings)).min(RETRY_LAST)).min(wake.max(last + RETRY_FIRST))
    }

    fn look(&mut self) {
        self.watched.look(&self.shared.world, || self.shared.uptime());
        let declared = self.watched.declared();
        let is_known = declared.is_some() || !matches!(self.watched.state, super::scan::Root::Present(_));
        if is_known && self.shared.board.post(&self.name, declared, self.watched.looked) {
            self.shared.mirror.wake();
        }
    }

    async fn pass(&mut self, has_looked: bool) -> Passed {
        let source = match self.source().await {
            Ok(source) => source,
            Err(error) => return self.failed(&error),
        };
        self.forget_refusals();
        let mut plan = self.plan(&source);
        // What is deleted must be missing now, not when something else last happened.
        if !has_looked && plan.actions.iter().any(|action| matches!(action, Action::Delete { .. })) {
            self.look();
            plan = self.plan(&source);
        }
        self.absent = std::mem::take(&mut plan.absent);
        if self.absent.values().max().is_some_and(|&since| self.shared.board.ask(since)) {
            self.shared.mirror.wake();
        }
        self.carry_out(source, plan).await
    }

    /// The Source, made where it is missing.
    async fn source(&self) -> Result<Arc<Source>, ActError> {
        let known = self.shared.mirror.source(&self.name);
        if let Some(source) = known.filter(|source| source.spec.path == self.path) {
            return Ok(source);
        }
        let source = act::ensure_source(&self.shared.client, &self.name, &self.path).await?;
        self.shared.mirror.put_source(source.clone());
        Ok(Arc::new(source))
    }

    fn plan(&self, source: &Source) -> Plan {
        let clusters = self.shared.mirror.clusters();
        let view = self.shared.board.view(&self.name, &clusters);
        let refusals = self.refusals.iter().map(|(name, refused)| (name.clone(), refused.refusal.clone())).collect();
        let none = SourceStatus::default();
        plan::plan(&Input {
            source: &self.name,
            status: source.status.as_ref().unwrap_or(&none),
            generation: source.metadata.generation,
            approve: source
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(annotations::APPROVE))
                .map(String::as_str),
            root: &self.watched.state,
            problems: &self.watched.problems,
            settled: &self.watched.settled,
            files: &self.watched.files,
            hashes: &self.watched.hashes,
            commit: self.watched.commit.as_deref(),
            clusters: &clusters,
            elsewhere: &view.elsewhere,
            others: &view.others,
            others_looked: view.looked,
            refusals: &refusals,
            absent: &self.absent,
            compared: &self.compared,
            now: self.shared.world.clock.now(),
            uptime: self.shared.uptime(),
        })
    }

    async fn carry_out(&mut self, source: Arc<Source>, plan: Plan) -> Passed {
        let mut source = source;
        if source.status.as_ref() != Some(&plan.status) {
            match act::write_status(&self.shared.client, &source, plan.status).await {
                Ok(written) => {
                    self.shared.mirror.put_source(written.clone());
                    source = Arc::new(written);
                }
                // Nothing is done that is not written down.
                Err(error) => return self.failed(&error),
            }
        }
        for notice in &plan.notices {
            self.notify(&source, notice).await;
        }
        let mut failed = false;
        let (applications, others): (Vec<Action>, Vec<Action>) =
            plan.actions.into_iter().partition(|action| matches!(action, Action::Apply { .. }));
        failed |= self.apply(&source, applications).await;
        for action in others {
            if let Err(error) = self.act(&source, action).await {
                failed |= self.failed(&error).failed;
            }
        }
        Passed { wake: plan.wake, failed }
    }

    /// Applies documents, a few at a time. Whether any failed in a way that may pass.
    async fn apply(&mut self, source: &Source, applications: Vec<Action>) -> bool {
        let shared = self.shared;
        let (name, commit) = (self.name.clone(), self.watched.commit.clone());
        let mut calls = Vec::with_capacity(applications.len());
        let mut known = Vec::with_capacity(applications.len());
        for action in &applications {
            if let Action::Apply { path, document, .. } = action {
                known.push(shared.mirror.identity(&document.name).map(|(_, version)| version));
                calls.push(act::apply(&shared.client, &name, path, commit.as_deref(), document));
            }
        }
        let answers: Vec<_> = stream::iter(calls).buffered(APPLICATIONS).collect().await;
        let mut failed = false;
        for (action, (answer, known)) in applications.iter().zip(answers.into_iter().zip(known)) {
            let Action::Apply { document, effect, .. } = action else { continue };
            match answer {
                Ok(cluster) => {
                    self.refusals.remove(&document.name);
                    shared.mirror.answered(&cluster);
                    // An application that changed nothing is not told.
                    let has_changed = known.is_none_or(|known| known < mirror::version(&cluster.metadata));
                    if let Some(notice) = told(&document.name, effect).filter(|_| has_changed) {
                        self.notify(source, &notice).await;
                    }
                }
                Err(ActError::Refused(status)) => {
                    let place = document.place_of(&status);
                    let refusal =
                        Refusal { hash: document.hash.clone(), message: status.message, place, is_due: false };
                    self.refusals.insert(document.name.clone(), Refused { refusal, since: shared.uptime() });
                    shared.mirror.wake();
                }
                Err(error) => failed |= self.failed(&error).failed,
            }
        }
        failed
    }

    async fn act(&mut self, source: &Source, action: Action) -> Result<(), ActError> {
        let shared = self.shared;
        match action {
            Action::Apply { .. } => {}
            Action::Release { cluster, uid, why } => {
                if let Some(cluster) = act::release(&shared.client, &self.name, &cluster, &uid, why).await? {
                    shared.mirror.answered(&cluster);
                }
            }
            Action::Delete { cluster, uid, why } => {
                let deletion = act::delete(&shared.client, &self.name, &cluster, &uid).await?;
                match &deletion.left {
                    Some(left) => shared.mirror.answered(left),
                    None => shared.mirror.gone(&cluster, &uid),
                }
                if deletion.begun {
                    tracing::info!(%cluster, source = %self.name, reason = reason(why), "cluster deleted");
                }
            }
            Action::ClearApproval => {
                let cleared = act::clear_approval(&shared.client, source).await?;
                shared.mirror.put_source(cleared);
            }
        }
        Ok(())
    }

    async fn notify(&mut self, source: &Source, notice: &Notice) {
        let uid = match &notice.cluster {
            None => source.metadata.uid.clone(),
            Some(cluster) => self.shared.mirror.identity(cluster).map(|(uid, _)| uid),
        };
        let uptime = self.shared.uptime();
        self.events.send(&self.shared.world, notice, uid, uptime).await;
    }

    fn failed(&self, error: &ActError) -> Passed {
        tracing::warn!(error = error as &dyn std::error::Error, source = %self.name, "a pass of the source failed and is tried again");
        Passed { wake: None, failed: true }
    }

    /// What the API refused may be accepted later, when another object has changed: it is tried again now and then, and
    /// stays an error meanwhile.
    fn forget_refusals(&mut self) {
        let uptime = self.shared.uptime();
        for refused in self.refusals.values_mut() {
            refused.refusal.is_due = uptime.saturating_sub(refused.since) >= RESCAN;
        }
        let files = &self.watched.files;
        let is_current = |name: &str, refused: &Refused| {
            files
                .values()
                .flat_map(|manifest| &manifest.documents)
                .any(|document| document.name == name && document.hash == refused.refusal.hash)
        };
        self.refusals.retain(|name, refused| is_current(name, refused));
    }
}

/// Completes when the host tells of a change; never, where it cannot, or does not any more.
async fn changed(files: Option<watch::Receiver<u64>>) {
    if let Some(mut files) = files
        && files.changed().await.is_ok()
    {
        return;
    }
    futures::future::pending::<()>().await;
}

fn told(cluster: &str, effect: &Effect) -> Option<Notice> {
    let (reason, message) = match effect {
        Effect::Create | Effect::Update => return None,
        Effect::Adopt => ("Adopted", "a file declares it now: it follows the file from here on".to_owned()),
        Effect::Revert(fields) => {
            let mut fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            fields.truncate(10);
            ("SourceReverted", format!("changed back as its file says: {}", fields.join(", ")))
        }
    };
    Some(Notice { cluster: Some(cluster.to_owned()), is_warning: false, reason, message })
}

fn reason(why: Removal) -> &'static str {
    match why {
        Removal::Undeclared => "undeclared",
        Removal::Expired => "expired",
    }
}

#[cfg(test)]
mod tests;

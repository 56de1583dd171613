//! The tree of everything: clusters, pools and machines, sources with what is wrong in them, and what happened lately.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::paint::{Glyphs, Line, Span, Style, Tone};
use super::view::{Happening, View};
use crate::api::cluster::{ClusterStatus, Drift, RuntimeName, Severity};
use crate::api::conditions::{self, Waiting};
use crate::api::machine::Failure;
use crate::api::source::{HeldAction, HeldSet, ProtectedCluster, SourceFile};
use crate::api::{Cluster, Machine, Source};
use crate::apiserver::table::age;

/// Pools of more machines than this show only those that are not Ready.
const POOL_LINES_MAX: usize = 8;
/// Of more Clusters than this, those that are fine have one line each.
const CLUSTERS_UNFOLDED_MAX: usize = 20;

/// As many Clusters that are fine have a line each where not everything fits.
const FINE_LINES_MAX: usize = 5;

/// What to show, and on what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Columns of the output.
    pub width: usize,
    /// What the output can show.
    pub style: Style,
    /// The time that ages count to.
    pub now: Timestamp,
    /// Only these Clusters, without Sources; all if empty.
    pub only: Vec<String>,
    /// How many events.
    pub events: usize,
    /// Not everything fits: what is not fine comes first, and what is fine takes a line.
    pub folded: bool,
}

/// The whole picture.
#[must_use]
pub fn lines(view: &View, options: &Options) -> Vec<Line> {
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let clusters: Vec<&Cluster> = view.clusters().filter(|cluster| wanted(&cluster.name_any())).collect();
    let folds = folds(clusters.len(), &options.only);
    let mut tree = Tree { options, glyphs: options.style.glyphs(), lines: Vec::new(), folds };
    if clusters.is_empty() && options.only.is_empty() {
        tree.push("", "", [Span::new(Tone::Plain, "No clusters.")]);
    }
    if options.folded {
        tree.folded(&clusters, view);
    } else {
        for cluster in &clusters {
            tree.cluster(cluster, &view.machines_of(&cluster.name_any()));
        }
    }
    if options.only.is_empty() {
        tree.sources(view);
    }
    tree.events(view, wanted);
    tree.lines
}

/// Whether of so many Clusters those that are fine have one line each.
fn folds(clusters: usize, only: &[String]) -> bool {
    only.is_empty() && clusters > CLUSTERS_UNFOLDED_MAX
}

/// Whether the picture of these Clusters shows any Machine.
#[must_use]
pub fn shows_machines(clusters: &[Cluster], only: &[String]) -> bool {
    !folds(clusters.len(), only) || !clusters.iter().all(is_fine)
}

/// Nothing is to be told of it but that it is there.
fn is_fine(cluster: &Cluster) -> bool {
    let is_quiet = |status: &ClusterStatus| {
        let mut conditions = status.conditions.iter();
        let waiting = &status.waiting;
        let is_whole = status.machines.as_ref().is_none_or(|machines| machines.ready == machines.desired);
        is_whole
            && waiting.is_none()
            && status.drift.is_empty()
            && !conditions.any(|condition| is_worth_telling(condition, waiting))
    };
    tone_of(cluster) == Tone::Good && cluster.status.as_ref().is_some_and(is_quiet)
}

/// The word for a runtime, marked where nothing of it is real.
#[must_use]
pub fn runtime(runtime: Option<RuntimeName>) -> &'static str {
    match runtime {
        None | Some(RuntimeName::Auto) => "auto",
        Some(RuntimeName::Apple) => "apple",
        Some(RuntimeName::Docker) => "docker",
        Some(RuntimeName::Sim) => "simulated",
    }
}

/// How a Cluster stands, in one tone.
#[must_use]
pub fn tone_of(cluster: &Cluster) -> Tone {
    let status = cluster.status.as_ref();
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let phase = status.and_then(|status| status.phase.as_deref());
    match phase {
        _ if cluster.metadata.deletion_timestamp.is_some() => Tone::Busy,
        _ if conditions::is_true(conditions, conditions::STALLED) => Tone::Bad,
        Some("Failed") => Tone::Bad,
        Some("Degraded" | "Paused" | "Stopped" | "Unknown") => Tone::Warn,
        _ if conditions::is_true(conditions, conditions::READY) => Tone::Good,
        _ => Tone::Busy,
    }
}

struct Tree<'a> {
    options: &'a Options,
    glyphs: Glyphs,
    lines: Vec<Line>,
    /// Clusters that are fine have one line each.
    folds: bool,
}

impl Tree<'_> {
    /// One line, wrapped: `first` stands before it, `rest` before what follows a break.
    fn push(&mut self, first: &str, rest: &str, spans: impl IntoIterator<Item = Span>) {
        let line = Line::new(std::iter::once(Span::new(Tone::Faint, first)).chain(spans));
        self.lines.extend(line.wrap(self.options.width, &Span::new(Tone::Faint, rest)));
    }

    fn heading(&mut self, text: &str) {
        if !self.lines.is_empty() {
            self.lines.push(Line::default());
        }
        self.push("", "", [Span::new(Tone::Strong, text)]);
    }

    fn mark(&self, tone: Tone) -> Span {
        let glyph = match tone {
            Tone::Good => self.glyphs.good,
            Tone::Bad => self.glyphs.bad,
            Tone::Warn => self.glyphs.warn,
            _ => self.glyphs.busy,
        };
        Span::new(tone, format!("{glyph} "))
    }

    /// Nothing for what was found out just now, by this very look.
    fn since(&self, since: &Time) -> Span {
        let is_new = since.0 >= conditions::whole_seconds(self.options.now);
        Span::new(Tone::Faint, if is_new { String::new() } else { format!(" ({})", age(since.0, self.options.now)) })
    }

    /// The worst first; what is fine last, and short.
    fn folded(&mut self, clusters: &[&Cluster], view: &View) {
        let (fine, mut others): (Vec<&Cluster>, Vec<&Cluster>) =
            clusters.iter().copied().partition(|cluster| is_fine(cluster));
        others.sort_by_key(|cluster| match tone_of(cluster) {
            Tone::Bad => 0,
            Tone::Warn => 1,
            _ => 2,
        });
        for cluster in others {
            self.cluster(cluster, &view.machines_of(&cluster.name_any()));
        }
        for cluster in fine.iter().take(FINE_LINES_MAX) {
            self.cluster_head(cluster);
        }
        if let Some(more) = fine.len().checked_sub(FINE_LINES_MAX).filter(|more| *more > 0) {
            let spans = [self.mark(Tone::Good), Span::new(Tone::Plain, format!("{more} more that are Ready"))];
            self.push("", "    ", spans);
        }
    }

    fn cluster(&mut self, cluster: &Cluster, machines: &[&Machine]) {
        self.cluster_head(cluster);
        if self.folds && is_fine(cluster) {
            return;
        }
        let through = if machines.is_empty() { self.glyphs.blank } else { self.glyphs.through };
        let before = format!("  {through}");
        self.cluster_details(cluster, machines, &before);
        self.pools(cluster, machines);
    }

    fn cluster_head(&mut self, cluster: &Cluster) {
        let status = cluster.status.clone().unwrap_or_default();
        let tone = tone_of(cluster);
        let counts = status.machines.clone().unwrap_or_default();
        let version = status.version.as_deref().or(cluster.spec.kubernetes_version.as_deref()).unwrap_or_default();
        let phase = match status.phase.as_deref() {
            _ if cluster.metadata.deletion_timestamp.is_some() => "Deleting",
            phase => phase.unwrap_or("Pending"),
        };
        let mut facts = vec![
            version.to_owned(),
            runtime(cluster.spec.runtime).to_owned(),
            format!("{}/{} machines", counts.ready, counts.desired),
        ];
        if let Some(created) = cluster.creation_timestamp() {
            facts.push(age(created.0, self.options.now));
        }
        facts.retain(|fact| !fact.is_empty());
        let spans = [
            self.mark(tone),
            Span::new(Tone::Strong, cluster.name_any()),
            Span::new(tone, format!("  {phase}")),
            Span::new(Tone::Plain, format!("  {}", facts.join("  "))),
        ];
        self.push("", "    ", spans);
    }

    fn cluster_details(&mut self, cluster: &Cluster, machines: &[&Machine], before: &str) {
        let status = cluster.status.clone().unwrap_or_default();
        let detail = format!("{before}  ");
        if let Some(endpoint) = status.endpoint.as_deref().filter(|_| tone_of(cluster) == Tone::Good) {
            self.push(before, &detail, [Span::new(Tone::Plain, endpoint)]);
        }
        if let Some(waiting) = &status.waiting {
            self.waiting(waiting, before, &detail);
        }
        for condition in status.conditions.iter().filter(|condition| is_worth_telling(condition, &status.waiting)) {
            let tone = if condition.type_ == conditions::STALLED { Tone::Bad } else { Tone::Warn };
            let spans = [
                Span::new(tone, condition_title(condition)),
                Span::new(Tone::Plain, format!("  {}: {}", condition.reason, condition.message)),
                self.since(&condition.last_transition_time),
            ];
            self.push(before, &detail, spans);
        }
        let told: Vec<&Drift> =
            machines.iter().filter_map(|machine| machine.status.as_ref()).flat_map(|status| &status.drift).collect();
        for drift in status.drift.iter().filter(|drift| !told.contains(drift)) {
            self.drift(drift, before, &detail);
        }
    }

    fn pools(&mut self, cluster: &Cluster, machines: &[&Machine]) {
        let mut pools: Vec<(&str, Vec<&Machine>)> = Vec::new();
        for &machine in machines {
            match pools.last_mut() {
                Some((pool, members)) if *pool == machine.spec.pool => members.push(machine),
                _ => pools.push((&machine.spec.pool, vec![machine])),
            }
        }
        let last_pool = pools.len().saturating_sub(1);
        for (index, (pool, members)) in pools.iter().enumerate() {
            let is_last = index == last_pool;
            let (branch, below) = self.branch(is_last, "  ");
            let ready = members.iter().filter(|machine| is_ready(machine)).count();
            let wanted = wanted_in_pool(cluster, pool).map_or(String::new(), |wanted| format!("/{wanted}"));
            let spans = [Span::new(Tone::Strong, *pool), Span::new(Tone::Plain, format!("  {ready}{wanted} ready"))];
            self.push(&branch, &below, spans);
            self.machines(members, &below);
        }
    }

    fn machines(&mut self, members: &[&Machine], before: &str) {
        let is_long = members.len() > POOL_LINES_MAX;
        let shown: Vec<&&Machine> = members.iter().filter(|machine| !is_long || !is_ready(machine)).collect();
        for (index, machine) in shown.iter().enumerate() {
            let (branch, below) = self.branch(index + 1 == shown.len(), before);
            self.machine(machine, &branch, &below);
        }
    }

    fn branch(&self, is_last: bool, before: &str) -> (String, String) {
        let (branch, below) =
            if is_last { (self.glyphs.last, self.glyphs.blank) } else { (self.glyphs.branch, self.glyphs.through) };
        (format!("{before}{branch}"), format!("{before}{below}"))
    }

    fn machine(&mut self, machine: &Machine, first: &str, below: &str) {
        let status = machine.status.clone().unwrap_or_default();
        let tone = match status.phase.as_deref() {
            _ if machine.metadata.deletion_timestamp.is_some() => Tone::Busy,
            Some("Failed") => Tone::Bad,
            _ if is_ready(machine) => Tone::Good,
            Some("NotReady" | "Stopped" | "Gone" | "Unknown") => Tone::Warn,
            _ => Tone::Busy,
        };
        let phase = match status.phase.as_deref() {
            _ if machine.metadata.deletion_timestamp.is_some() => "Deleting",
            phase => phase.unwrap_or("Pending"),
        };
        let spans = [
            self.mark(tone),
            Span::new(Tone::Plain, machine.name_any()),
            Span::new(tone, format!("  {phase}")),
            Span::new(Tone::Faint, format!("  {}", machine.spec.address)),
        ];
        let detail = format!("{below}  ");
        self.push(first, &detail, spans);
        if let Some(waiting) = &status.waiting {
            self.waiting(waiting, &detail, &format!("{detail}  "));
        }
        if let Some(failure) = &status.failure {
            self.failure(failure, &detail);
        }
        for drift in &status.drift {
            self.drift(drift, &detail, &format!("{detail}  "));
        }
    }

    fn waiting(&mut self, waiting: &Waiting, first: &str, rest: &str) {
        let spans = [
            Span::new(Tone::Busy, "waiting"),
            Span::new(Tone::Plain, format!("  {}: {}", waiting.reason, waiting.message)),
            self.since(&waiting.since),
        ];
        self.push(first, rest, spans);
    }

    fn failure(&mut self, failure: &Failure, before: &str) {
        let next = match failure.class {
            crate::api::machine::FailureClass::Transient => "is tried again",
            crate::api::machine::FailureClass::Terminal => "needs another spec",
            crate::api::machine::FailureClass::Foreign => "needs a person",
        };
        let times = if failure.attempts == 1 { "once".to_owned() } else { format!("{} times", failure.attempts) };
        let spans = [
            Span::new(Tone::Bad, "failed"),
            Span::new(Tone::Plain, format!("  {}: {}, {times}, {next}", failure.reason, failure.message)),
            self.since(&failure.since),
        ];
        self.push(before, &format!("{before}  "), spans);
    }

    fn drift(&mut self, drift: &Drift, first: &str, rest: &str) {
        let tone = if drift.severity == Severity::Info { Tone::Plain } else { Tone::Warn };
        let severity = match drift.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        let text = format!(
            "  {severity}: {} of {} is {}, wanted {}",
            drift.field, drift.object, drift.observed, drift.desired
        );
        let action = if drift.action.is_empty() { String::new() } else { format!("; {}", drift.action) };
        let spans = [Span::new(tone, "drift"), Span::new(Tone::Plain, text + &action), self.since(&drift.since)];
        self.push(first, rest, spans);
    }

    fn sources(&mut self, view: &View) {
        let sources: Vec<&Source> = view.sources().collect();
        if sources.is_empty() {
            return;
        }
        self.heading("Sources");
        for source in sources {
            self.source(source);
        }
    }

    fn source(&mut self, source: &Source) {
        let status = source.status.clone().unwrap_or_default();
        let unavailable = conditions::get(&status.conditions, conditions::AVAILABLE).filter(|c| c.status == "False");
        // What is hidden or at work for long; that files settle and are applied passes by itself.
        let halted = conditions::get(&status.conditions, conditions::SETTLED)
            .filter(|c| c.status == "False" && matches!(c.reason.as_str(), "Incomplete" | "GitOperation"));
        let tone = match (unavailable, status.errors, status.held_count) {
            (Some(_), _, _) => Tone::Bad,
            (None, 0, 0) if status.protected.is_empty() && halted.is_none() => Tone::Good,
            _ => Tone::Warn,
        };
        let plural = |number: u32, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
        let mut facts = vec![plural(status.clusters, "cluster")];
        if status.errors > 0 {
            facts.push(plural(status.errors, "error"));
        }
        if status.held_count > 0 {
            facts.push(format!("{} held", status.held_count));
        }
        let spans = [
            self.mark(tone),
            Span::new(Tone::Strong, source.name_any()),
            Span::new(Tone::Plain, format!("  {}  {}", source.spec.path, facts.join(", "))),
        ];
        self.push("", "    ", spans);
        if let Some(condition) = unavailable {
            let text = format!("{}: {}", condition.reason, condition.message);
            let spans = [Span::new(Tone::Bad, text), self.since(&condition.last_transition_time)];
            self.push("    ", "      ", spans);
        }
        if let Some(condition) = halted {
            let text = format!("{}: {}", condition.reason, condition.message);
            let spans = [Span::new(Tone::Warn, text), self.since(&condition.last_transition_time)];
            self.push("    ", "      ", spans);
        }
        for file in status.files.iter().filter(|file| !file.errors.is_empty()) {
            self.bad_file(file);
        }
        for held in &status.held {
            self.held(held);
        }
        for protected in &status.protected {
            self.protected(protected);
        }
        for ignored in &status.ignored {
            let why = match ignored.reason {
                crate::api::source::IgnoredReason::Detached => "was detached",
                crate::api::source::IgnoredReason::Expired => "has expired",
            };
            let text =
                format!("{} in {} {why}: it is not applied until the file changes", ignored.cluster, ignored.path);
            self.push("    ", "      ", [Span::new(Tone::Faint, text)]);
        }
    }

    fn bad_file(&mut self, file: &SourceFile) {
        for error in &file.errors {
            let place = match (error.line, error.column) {
                (0, _) => file.path.clone(),
                (line, 0) => format!("{}:{line}", file.path),
                (line, column) => format!("{}:{line}:{column}", file.path),
            };
            let spans = [
                Span::new(Tone::Bad, format!("{} {place}", self.glyphs.bad)),
                Span::new(Tone::Plain, format!("  {}", error.message)),
            ];
            self.push("    ", "      ", spans);
            // The fault's own heading and place are told above.
            let is_told = |line: &&str| line.starts_with("error: ") || line.trim_start().starts_with("--> ");
            for line in error.snippet.lines().filter(|line| !is_told(line)) {
                // As it is: breaking it would move the signs that point at the place.
                let line = Line::new([Span::new(Tone::Faint, format!("        {line}"))]);
                self.lines.push(line.truncate(self.options.width, self.options.style));
            }
        }
        if !file.clusters.is_empty() {
            let text = format!("the last good state stays: {}", file.clusters.join(", "));
            self.push("      ", "        ", [Span::new(Tone::Faint, text)]);
        }
    }

    fn held(&mut self, held: &HeldSet) {
        let action = match held.action {
            HeldAction::Delete => "deletion",
            HeldAction::Recreate => "recreation",
        };
        let spans = [
            Span::new(Tone::Warn, format!("{} held {action} of {}", self.glyphs.warn, held.clusters.join(", "))),
            Span::new(Tone::Plain, format!("  {}", held.message)),
            self.since(&held.since),
        ];
        self.push("    ", "      ", spans);
        self.push("      ", "        ", [Span::new(Tone::Strong, format!("kina approve {}", held.id))]);
    }

    fn protected(&mut self, protected: &ProtectedCluster) {
        let name = &protected.cluster;
        let spans = [
            Span::new(Tone::Warn, format!("{} {name} stays", self.glyphs.warn)),
            Span::new(Tone::Plain, "  no file declares it any more, and it is protected"),
            self.since(&protected.since),
        ];
        self.push("    ", "      ", spans);
        let text = format!(
            "to delete it, declare it with `protect: false` and remove that again; to keep it, `kina detach {name}`"
        );
        self.push("      ", "        ", [Span::new(Tone::Faint, text)]);
    }

    fn events(&mut self, view: &View, wanted: impl Fn(&str) -> bool) {
        let happenings: Vec<Happening> = view
            .happenings()
            .into_iter()
            .filter(|event| self.options.only.is_empty() || is_about(event, view, &wanted))
            .take(self.options.events)
            .collect();
        if happenings.is_empty() {
            return;
        }
        self.heading("Recent events");
        for event in happenings {
            let tone = if event.is_warning { Tone::Warn } else { Tone::Plain };
            let kind = if event.is_warning { "warning" } else { "normal " };
            let times = if event.count > 1 { format!(" ({} times)", event.count) } else { String::new() };
            let spans = [
                Span::new(Tone::Faint, format!("{:>6}  ", age(event.at, self.options.now))),
                Span::new(tone, format!("{kind}  ")),
                Span::new(Tone::Strong, event.object),
                Span::new(Tone::Plain, format!("  {}: {}{times}", event.reason, event.message)),
            ];
            self.push("", "                 ", spans);
        }
    }
}

fn is_about(event: &Happening, view: &View, wanted: &impl Fn(&str) -> bool) -> bool {
    match event.object.split_once('/') {
        Some(("Cluster", name)) => wanted(name),
        Some(("Machine", name)) => {
            view.machines().any(|machine| machine.name_any() == name && wanted(&machine.spec.cluster))
        }
        _ => false,
    }
}

/// Ready is told by the first line, what is being waited for by its own; the others only while they are not as wished.
fn is_worth_telling(condition: &Condition, waiting: &Option<Waiting>) -> bool {
    match condition.type_.as_str() {
        conditions::READY => condition.status != "True" && waiting.is_none() && !condition.message.is_empty(),
        conditions::STALLED => condition.status == "True",
        // Each difference has a line of its own.
        conditions::DRIFTED => false,
        _ => condition.status == "False" && waiting.is_none(),
    }
}

fn condition_title(condition: &Condition) -> String {
    match condition.status.as_str() {
        "True" => condition.type_.clone(),
        "False" => format!("not {}", condition.type_),
        _ => format!("{} unknown", condition.type_),
    }
}

fn is_ready(machine: &Machine) -> bool {
    machine.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, conditions::READY))
}

fn wanted_in_pool(cluster: &Cluster, pool: &str) -> Option<u32> {
    if pool == crate::api::names::CONTROL_PLANE_POOL {
        return Some(cluster.spec.control_plane.replicas);
    }
    cluster.spec.workers.iter().find(|workers| workers.name == pool).map(|workers| workers.replicas)
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;

//! Progress as a line a step, for pipes and logs: what changed since the last look, each thing once.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::paint::{Line, Span, Tone};
use super::tree::runtime;
use super::view::View;
use crate::api::conditions;
use crate::api::{Cluster, Machine};
use crate::apiserver::table::age;

/// What was told already.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    told: BTreeMap<String, String>,
    only: Vec<String>,
}

impl Steps {
    /// Steps of these Clusters, of all if empty.
    #[must_use]
    pub fn of(only: Vec<String>) -> Self {
        Self { told: BTreeMap::new(), only }
    }

    /// What is new, as lines.
    pub fn observe(&mut self, view: &View) -> Vec<Line> {
        self.news(view).iter().map(Step::line).collect()
    }

    /// What is new.
    pub fn news(&mut self, view: &View) -> Vec<Step> {
        let current = self.current(view);
        let is_news = |step: &&Step| self.told.get(&step.key) != Some(&step.text);
        let mut news: Vec<Step> = current.iter().filter(is_news).cloned().collect();
        let present: BTreeSet<&str> = current.iter().map(|step| step.key.as_str()).collect();
        let gone = self.told.keys().filter(|key| !present.contains(key.as_str()));
        news.extend(gone.map(|key| Step::of(key.clone(), ("gone".to_owned(), Tone::Plain, None))));
        self.told = current.into_iter().map(|step| (step.key, step.text)).collect();
        news
    }

    fn current(&self, view: &View) -> Vec<Step> {
        let mut steps = Vec::new();
        for cluster in view.clusters() {
            let name = cluster.name_any();
            if !self.only.is_empty() && !self.only.contains(&name) {
                continue;
            }
            steps.push(Step::of(format!("cluster/{name}"), cluster_step(cluster)));
            for machine in view.machines_of(&name) {
                steps.push(Step::of(format!("machine/{}", machine.name_any()), machine_step(machine)));
            }
        }
        steps
    }
}

/// Something that an object has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// `KIND/NAME`.
    pub key: String,
    /// For a person.
    pub text: String,
    /// Why it waits or fails, in one word.
    pub reason: Option<String>,
    tone: Tone,
}

/// How an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is on its way.
    Working,
    /// It is as wanted.
    Ready,
    /// It does not get any further.
    Failed,
    /// It is not there any more.
    Gone,
}

/// A text, how it is, and why.
type Told = (String, Tone, Option<String>);

impl Step {
    fn of(key: String, (text, tone, reason): Told) -> Self {
        Self { key, text, reason, tone }
    }

    /// How its object is.
    #[must_use]
    pub fn state(&self) -> State {
        match self.tone {
            Tone::Good => State::Ready,
            Tone::Bad => State::Failed,
            Tone::Plain => State::Gone,
            _ => State::Working,
        }
    }

    /// As a line.
    #[must_use]
    pub fn line(&self) -> Line {
        let name = self.key.split_once('/').map_or(self.key.as_str(), |(_, name)| name);
        Line::new([Span::new(Tone::Strong, name), Span::new(Tone::Plain, ": "), Span::new(self.tone, &self.text)])
    }
}

/// Without counts and durations, which change all the time, until it is Ready: then with how long it took.
fn cluster_step(cluster: &Cluster) -> Told {
    let status = cluster.status.clone().unwrap_or_default();
    if cluster.metadata.deletion_timestamp.is_some() {
        return ("Deleting".to_owned(), Tone::Busy, None);
    }
    if let Some(stalled) = conditions::get(&status.conditions, conditions::STALLED).filter(|c| c.status == "True") {
        return (format!("stalled, {}: {}", stalled.reason, stalled.message), Tone::Bad, Some(stalled.reason.clone()));
    }
    let generation = cluster.metadata.generation;
    if let Some(ready) = conditions::get(&status.conditions, conditions::READY)
        && ready.status == "True"
        && ready.observed_generation.is_none_or(|seen| Some(seen) >= generation)
    {
        let took =
            cluster.creation_timestamp().map(|created| age(created.0, ready.last_transition_time.0.max(created.0)));
        let machines = match status.machines.map(|machines| machines.ready) {
            None => String::new(),
            Some(1) => ", 1 machine".to_owned(),
            Some(ready) => format!(", {ready} machines"),
        };
        let simulated = if runtime(cluster.spec.runtime) == "simulated" { ", simulated" } else { "" };
        return (format!("Ready after {}{machines}{simulated}", took.unwrap_or_default()), Tone::Good, None);
    }
    let phase = status.phase.unwrap_or_else(|| "Pending".to_owned());
    match status.waiting {
        Some(waiting) => (format!("{phase}, {}", waiting.reason), Tone::Busy, Some(waiting.reason)),
        None => (phase, Tone::Busy, None),
    }
}

fn machine_step(machine: &Machine) -> Told {
    let status = machine.status.clone().unwrap_or_default();
    if machine.metadata.deletion_timestamp.is_some() {
        return ("Deleting".to_owned(), Tone::Busy, None);
    }
    if let Some(failure) = status.failure {
        return (format!("failed, {}: {}", failure.reason, failure.message), Tone::Bad, Some(failure.reason));
    }
    let phase = status.phase.unwrap_or_else(|| "Pending".to_owned());
    match status.waiting {
        Some(waiting) => (format!("{phase}, {}", waiting.reason), Tone::Busy, Some(waiting.reason)),
        None if phase == "Running" => (phase, Tone::Good, None),
        None => (phase, Tone::Busy, None),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixtures::{ago, busy_house, cluster, condition, machine, read_cluster, running};
    use super::*;

    fn tell(steps: &mut Steps, view: &View) -> String {
        steps.observe(view).iter().map(Line::plain).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn each_step_is_one_line_and_told_once() {
        let mut steps = Steps::of(vec!["prod".into()]);
        insta::assert_snapshot!(tell(&mut steps, &busy_house()), @r"
        prod: stalled, ForeignContainer: a container named prod-default-1 belongs to somebody else
        prod-control-plane-0: Running
        prod-default-0: Running
        prod-default-1: failed, NameTaken: creating container prod-default-1: a container of that name exists and is not Kina's
        ");
        assert_eq!(tell(&mut steps, &busy_house()), "");
    }

    #[test]
    fn ready_tells_how_long_it_took_and_that_it_is_simulated() {
        let mut steps = Steps::default();
        let ready = json!({"phase": "Running", "machines": {"desired": 1, "ready": 1, "summary": "1/1"},
            "conditions": [condition("Ready", "True", "AllReady", "")]});
        let node = serde_json::from_value(machine("toy", "control-plane", 0, running())).unwrap();
        let view = View::of(vec![read_cluster(cluster("toy", "sim", ready))], vec![node], vec![], vec![]);
        insta::assert_snapshot!(tell(&mut steps, &view), @r"
        toy: Ready after 117s, 1 machine, simulated
        toy-control-plane-0: Running
        ");
        let mut going = cluster("toy", "sim", json!({}));
        going["metadata"]["deletionTimestamp"] = ago(0).into();
        let view = View::of(vec![read_cluster(going)], vec![], vec![], vec![]);
        insta::assert_snapshot!(tell(&mut steps, &view), @r"
        toy: Deleting
        toy-control-plane-0: gone
        ");
        insta::assert_snapshot!(tell(&mut steps, &View::of(vec![], vec![], vec![], vec![])), @"toy: gone");
    }
}

//! The server against a model: a map and a revision. Whatever clients do, answers and lists are the model's, every
//! older state that is still known is the model's of that time, and every watcher that replays what came after its
//! list has what a new list shows.

use std::collections::BTreeMap;

use futures::future::join_all;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::*;
use crate::apiserver::Tenant;
use crate::apiserver::store::{Snapshot, visit_over};

const GARDENS: &str = "/apis/example.dev/v1/gardens";
const HOLD: &str = "example.dev/hold";

#[derive(Clone, Debug)]
enum Step {
    Create {
        name: u8,
        team: u8,
        held: bool,
    },
    Trees {
        name: u8,
        trees: u8,
    },
    Team {
        name: u8,
        team: u8,
    },
    Status {
        name: u8,
        phase: u8,
    },
    Release {
        name: u8,
    },
    Delete {
        name: u8,
    },
    /// An update with a version that may be old.
    Replace {
        name: u8,
        trees: u8,
        stale: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..4u8;
    prop_oneof![
        3 => (name.clone(), 0..2u8, any::<bool>()).prop_map(|(name, team, held)| Step::Create { name, team, held }),
        2 => (name.clone(), 0..3u8).prop_map(|(name, trees)| Step::Trees { name, trees }),
        2 => (name.clone(), 0..2u8).prop_map(|(name, team)| Step::Team { name, team }),
        1 => (name.clone(), 0..2u8).prop_map(|(name, phase)| Step::Status { name, phase }),
        1 => name.clone().prop_map(|name| Step::Release { name }),
        2 => name.clone().prop_map(|name| Step::Delete { name }),
        1 => (name, 0..3u8, any::<bool>()).prop_map(|(name, trees, stale)| Step::Replace { name, trees, stale }),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Object {
    trees: u8,
    team: u8,
    phase: Option<u8>,
    held: bool,
    deleting: bool,
    generation: i64,
    revision: u64,
}

type State = BTreeMap<String, Object>;

#[derive(Clone, Debug)]
struct Model {
    state: State,
    revision: u64,
    history: BTreeMap<u64, State>,
}

impl Model {
    fn new() -> Self {
        Self { state: State::new(), revision: 1, history: BTreeMap::from([(1, State::new())]) }
    }

    /// What the step does, and the code that answers it.
    fn apply(&mut self, step: &Step) -> u16 {
        let key = name_of(step);
        let live = self.state.get(&key).cloned();
        let mut next = match (step, live.clone()) {
            (Step::Create { team, held, .. }, None) => {
                Object { trees: 1, team: *team, phase: None, held: *held, deleting: false, generation: 1, revision: 0 }
            }
            (Step::Create { .. }, Some(_)) => return 409,
            (_, None) => return 404,
            (_, Some(object)) => object,
        };
        let mut code = 200;
        match step {
            Step::Create { .. } => code = 201,
            Step::Trees { trees, .. } => next.trees = *trees,
            Step::Team { team, .. } => next.team = *team,
            Step::Status { phase, .. } => next.phase = Some(*phase),
            Step::Release { .. } => next.held = false,
            Step::Replace { stale: true, .. } => return 409,
            Step::Replace { trees, .. } => next.trees = *trees,
            Step::Delete { .. } if next.held && !next.deleting => {
                next.deleting = true;
                next.generation += 1;
            }
            Step::Delete { .. } => {}
        }
        if live.as_ref().is_some_and(|live| live.trees != next.trees) {
            next.generation += 1;
        }
        let gone = match step {
            Step::Delete { .. } => !next.held,
            _ => next.deleting && !next.held,
        };
        if gone {
            self.state.remove(&key);
        } else if live.as_ref() == Some(&next) {
            return code;
        } else {
            next.revision = self.revision + 1;
            self.state.insert(key, next);
        }
        self.revision += 1;
        self.history.insert(self.revision, self.state.clone());
        code
    }
}

fn name_of(step: &Step) -> String {
    let (Step::Create { name, .. }
    | Step::Trees { name, .. }
    | Step::Team { name, .. }
    | Step::Status { name, .. }
    | Step::Release { name }
    | Step::Delete { name }
    | Step::Replace { name, .. }) = step;
    format!("g{name}")
}

fn observed(object: &Value) -> Object {
    let metadata = &object["metadata"];
    Object {
        trees: u8::try_from(object["spec"]["trees"].as_u64().unwrap()).unwrap(),
        team: metadata["labels"]["team"].as_str().unwrap().parse().unwrap(),
        phase: object["status"]["phase"].as_str().map(|phase| phase.parse().unwrap()),
        held: metadata["finalizers"][0] == HOLD,
        deleting: metadata["deletionTimestamp"].is_string(),
        generation: metadata["generation"].as_i64().unwrap(),
        revision: metadata["resourceVersion"].as_str().unwrap().parse().unwrap(),
    }
}

fn listed(list: &Value) -> State {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
    items.iter().map(|item| (item["metadata"]["name"].as_str().unwrap().to_owned(), observed(item))).collect()
}

async fn run(tenant: &Tenant, step: &Step, known: &State) -> u16 {
    let key = name_of(step);
    let at = format!("{GARDENS}/{key}");
    let patch = |body: Value| (at.clone(), body);
    let (path, body) = match step {
        Step::Create { team, held, .. } => {
            let finalizers = if *held { json!([HOLD]) } else { json!([]) };
            let metadata = json!({ "name": key, "labels": { "team": team.to_string() }, "finalizers": finalizers });
            return call(tenant, "POST", GARDENS, json!({ "metadata": metadata, "spec": { "trees": 1 } })).await.0;
        }
        Step::Delete { .. } => return call(tenant, "DELETE", &at, json!(null)).await.0,
        Step::Replace { trees, stale, .. } => {
            let live = known.get(&key);
            let revision = live.map_or(1, |live| if *stale { live.revision - 1 } else { live.revision });
            let mut metadata = json!({ "name": key, "resourceVersion": revision.to_string() });
            if let Some(live) = live {
                metadata["labels"] = json!({ "team": live.team.to_string() });
                metadata["finalizers"] = if live.held { json!([HOLD]) } else { json!([]) };
            }
            return call(tenant, "PUT", &at, json!({ "metadata": metadata, "spec": { "trees": trees } })).await.0;
        }
        Step::Trees { trees, .. } => patch(json!({ "spec": { "trees": trees } })),
        Step::Team { team, .. } => patch(json!({ "metadata": { "labels": { "team": team.to_string() } } })),
        Step::Status { phase, .. } => (format!("{at}/status"), json!({ "status": { "phase": phase.to_string() } })),
        Step::Release { .. } => patch(json!({ "metadata": { "finalizers": [] } })),
    };
    call(tenant, "PATCH", &path, body).await.0
}

/// What a watcher has that began with `state` and saw these lines.
fn replayed(mut state: State, mut revision: u64, lines: &[Value]) -> State {
    for line in lines {
        let object = &line["object"];
        let name = object["metadata"]["name"].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
        let seen = observed(object);
        assert!(seen.revision > revision, "in order and once: {} after {revision}", seen.revision);
        revision = seen.revision;
        let before = match line["type"].as_str().unwrap() {
            "DELETED" => state.remove(&name).map(|_| true),
            "ADDED" => state.insert(name, seen).map_or(Some(true), |_| None),
            _ => state.insert(name, seen).map(|_| true),
        };
        assert!(before.is_some(), "{line} does not fit what was known");
    }
    state
}

async fn check(groups: Vec<Vec<Step>>) {
    let server = server();
    let tenant = server.tenant("a");
    let mut model = Model::new();
    let live = {
        let tenant = tenant.clone();
        let path = format!("{GARDENS}?watch=1&resourceVersion=1&timeoutSeconds=60&labelSelector=team%3D1");
        tokio::spawn(async move { watch_lines(&tenant, &path).await })
    };
    for group in &groups {
        let known = model.state.clone();
        let codes = join_all(group.iter().map(|step| run(&tenant, step, &known))).await;
        for (step, code) in group.iter().zip(codes) {
            // A version known before the group may be old by its turn.
            let mut step = step.clone();
            if let Step::Replace { name, stale, .. } = &mut step {
                let key = format!("g{name}");
                let then =
                    known.get(&key).map_or(1, |object| if *stale { object.revision - 1 } else { object.revision });
                *stale = model.state.get(&key).is_some_and(|object| object.revision != then);
            }
            assert_eq!(code, model.apply(&step), "{step:?} in {groups:?}");
        }
        let list = get(&tenant, GARDENS).await.unwrap();
        assert_eq!(listed(&list), model.state);
        assert_eq!(list["metadata"]["resourceVersion"], model.revision.to_string());
    }
    for (revision, state) in &model.history {
        let path = format!("{GARDENS}?resourceVersion={revision}&resourceVersionMatch=Exact");
        assert_eq!(&listed(&get(&tenant, &path).await.unwrap()), state, "at {revision}");
        for (selector, wanted) in [("", None), ("&labelSelector=team%3D1", Some(1))] {
            let select = |state: &State| -> State {
                let chosen = state.iter().filter(|(_, object)| wanted.is_none_or(|team| object.team == team));
                chosen.map(|(name, object)| (name.clone(), object.clone())).collect()
            };
            let path = format!("{GARDENS}?watch=1&resourceVersion={revision}&timeoutSeconds=1{selector}");
            let lines = watch_lines(&tenant, &path).await;
            assert_eq!(replayed(select(state), *revision, &lines), select(&model.state));
        }
    }
    let lines = live.await.unwrap();
    let team: State = model.state.into_iter().filter(|(_, object)| object.team == 1).collect();
    assert_eq!(replayed(State::new(), 1, &lines), team);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_server_does_what_the_model_does(groups in vec(vec(step(), 1..4), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(check(groups));
    }

    #[test]
    fn rows_over_a_snapshot_are_as_if_written(
        stored in proptest::collection::btree_map("[ab]/[a-c]{1,2}", 0..3u8, 0..8),
        overlay in proptest::collection::btree_map("[ab]/[a-c]{1,2}", proptest::option::of(0..3u8), 0..8),
        from in "[ab]/[a-c]{0,2}",
        limit in 1..6usize,
    ) {
        struct Rows(BTreeMap<String, u8>);
        impl Snapshot for Rows {
            fn revision(&self) -> u64 { 1 }
            fn get(&self, _: &str) -> Result<Option<bytes::Bytes>, crate::apiserver::store::StoreError> { Ok(None) }
            fn visit(
                &self,
                prefix: &str,
                from: &str,
                visit: &mut dyn FnMut(&str, &[u8]) -> std::ops::ControlFlow<()>,
            ) -> Result<(), crate::apiserver::store::StoreError> {
                for (key, value) in self.0.range(from.max(prefix).to_owned()..) {
                    if !key.starts_with(prefix) || visit(key, &[*value]).is_break() { break; }
                }
                Ok(())
            }
        }
        let mut expected = stored.clone();
        for (key, value) in &overlay {
            match value {
                Some(value) => expected.insert(key.clone(), *value),
                None => expected.remove(key),
            };
        }
        let expected: Vec<(String, u8)> = expected
            .into_iter()
            .filter(|(key, _)| key.starts_with("a/") && *key >= from)
            .take(limit)
            .collect();
        let values: BTreeMap<&str, Option<Vec<u8>>> =
            overlay.iter().map(|(key, value)| (key.as_str(), value.map(|value| vec![value]))).collect();
        let rows = values.iter().map(|(key, value)| (*key, value.as_deref())).collect();
        let mut found = Vec::new();
        visit_over(&Rows(stored), rows, "a/", &from, &mut |key, value| {
            found.push((key.to_owned(), value[0]));
            if found.len() < limit { std::ops::ControlFlow::Continue(()) } else { std::ops::ControlFlow::Break(()) }
        }).unwrap();
        prop_assert_eq!(found, expected);
    }
}

//! What a user does: files that come, change and go.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::plan::mixed;

/// What a cluster is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub name: String,
    #[serde(default = "one")]
    pub control_planes: u32,
    #[serde(default)]
    pub workers: u32,
    /// A label of the workers' nodes: changed in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Memory of the workers: machines are rolled for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Its pod network is Kina's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub routed: bool,
}

fn one() -> u32 {
    1
}

impl Shape {
    pub fn new(name: &str, workers: u32) -> Self {
        Self { name: name.to_owned(), control_planes: 1, workers, tier: None, memory: None, routed: false }
    }

    pub fn machines(&self) -> u32 {
        self.control_planes + self.workers
    }

    pub fn manifest(&self) -> String {
        let Self { name, control_planes, workers, .. } = self;
        let head = format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {name}\n");
        // First: what cannot be changed later.
        let network = if self.routed { "  networking: { cni: routed }\n" } else { "" };
        let mut text = format!("{head}{SPEC}{network}  controlPlane:\n    replicas: {control_planes}\n");
        if *workers > 0 {
            text.push_str(&format!("  workers:\n    - name: pool\n      replicas: {workers}\n"));
            if let Some(tier) = &self.tier {
                text.push_str(&format!("      labels: {{ tier: {tier} }}\n"));
            }
            if let Some(memory) = &self.memory {
                text.push_str(&format!("      resources: {{ memory: {memory} }}\n"));
            }
        }
        text
    }
}

/// The line before what a cluster is to be.
const SPEC: &str = "spec:\n";
/// The line before its name: without it a file is no manifest, and with nothing after it a whole one.
const METADATA: &str = "metadata:\n";

/// The first half of a manifest, cut at `at`, or before: with a name, and without all of the line that chooses the network, it
/// would be no half of a wish but another one, which the whole cannot make up for.
pub fn half(manifest: &[u8], at: usize) -> &[u8] {
    let text = String::from_utf8_lossy(manifest);
    let network = text.find("  networking:").and_then(|start| Some(start + text.get(start..)?.find('\n')?));
    match (text.find(METADATA), network) {
        (Some(metadata), Some(end)) if (metadata..=end).contains(&at) => &manifest[..metadata],
        _ => &manifest[..at],
    }
}

#[test]
fn half_of_a_manifest_is_never_another_wish() {
    let manifest = Shape { routed: true, ..Shape::new("dev", 2) }.manifest();
    for at in 0..manifest.len() {
        let half = String::from_utf8_lossy(half(manifest.as_bytes(), at)).into_owned();
        assert!(!half.contains("name: d") || half.contains("{ cni: routed }\n"), "cut at {at}:\n{half}");
    }
}

/// One thing a user does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// From here on faults happen.
    Faults,
    /// A file is written, with these clusters.
    Write {
        file: String,
        shapes: Vec<Shape>,
    },
    Remove {
        file: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// Somebody applies a cluster by hand.
    Apply {
        shape: Shape,
    },
    /// Everything becomes what files say, or so much time passes that it should have.
    Settle,
    Wait {
        millis: u64,
    },
    /// Kina ends and starts again; meanwhile a file may go.
    Restart {
        removing: Option<String>,
    },
    /// Kina ends, its store is lost, and it starts again with what files say.
    LoseStore,
    /// The runtime restarts, and all containers with it.
    RestartRuntime,
    /// Another installation on the same runtime brings up a cluster of its own.
    Neighbour,
}

/// A life of some clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    pub name: String,
    /// The runtime gives a container another address at every start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub moving: bool,
    pub steps: Vec<Step>,
}

impl Workload {
    /// Whether everything that is changed, moved or removed is there by then, and faults happen at all.
    pub fn is_possible(&self) -> bool {
        let mut files = BTreeSet::new();
        self.steps.contains(&Step::Faults)
            && self.steps.iter().all(|step| match step {
                Step::Write { file, .. } => {
                    files.insert(file);
                    true
                }
                Step::Remove { file } | Step::Restart { removing: Some(file) } => files.remove(file),
                Step::Rename { from, to } => files.remove(from) && files.insert(to),
                _ => true,
            })
    }
}

fn write(file: &str, shapes: &[Shape]) -> Step {
    Step::Write { file: file.to_owned(), shapes: shapes.to_vec() }
}

fn story(name: &str, steps: Vec<Step>) -> Workload {
    Workload { name: name.to_owned(), moving: false, steps }
}

/// The stories that every fault is tried on.
pub fn stories() -> Vec<Workload> {
    let dev = Shape::new("dev", 1);
    let with = |change: fn(&mut Shape)| {
        let mut shape = Shape::new("dev", 1);
        change(&mut shape);
        shape
    };
    let ha = Shape { control_planes: 3, ..Shape::new("ha", 0) };
    let begin = |shape: &Shape| vec![write("dev.yaml", std::slice::from_ref(shape)), Step::Settle, Step::Faults];
    let then = |mut steps: Vec<Step>, more: Vec<Step>| {
        steps.extend(more);
        steps.push(Step::Settle);
        steps
    };
    vec![
        story("create", vec![Step::Faults, write("dev.yaml", std::slice::from_ref(&dev)), Step::Settle]),
        story("create-ha", vec![Step::Faults, write("ha.yaml", &[ha]), Step::Settle]),
        story(
            "scale",
            then(
                begin(&dev),
                vec![
                    write("dev.yaml", &[with(|shape| shape.workers = 2)]),
                    Step::Settle,
                    write("dev.yaml", &[with(|shape| shape.workers = 0)]),
                ],
            ),
        ),
        story(
            "scale-control-planes",
            then(
                begin(&Shape::new("dev", 0)),
                vec![
                    write("dev.yaml", &[Shape { control_planes: 3, ..Shape::new("dev", 0) }]),
                    Step::Settle,
                    write("dev.yaml", &[Shape::new("dev", 0)]),
                ],
            ),
        ),
        story(
            "change-live",
            then(begin(&dev), vec![write("dev.yaml", &[with(|shape| shape.tier = Some("apps".to_owned()))])]),
        ),
        story(
            "roll",
            then(begin(&dev), vec![write("dev.yaml", &[with(|shape| shape.memory = Some("2Gi".to_owned()))])]),
        ),
        story("delete", then(begin(&dev), vec![Step::Remove { file: "dev.yaml".to_owned() }])),
        story(
            "rename-file",
            then(
                begin(&dev),
                vec![
                    Step::Rename { from: "dev.yaml".to_owned(), to: "moved.yaml".to_owned() },
                    Step::Wait { millis: 5_000 },
                ],
            ),
        ),
        // Long enough for everything that is looked at again: the last is what addons are.
        story("restart", then(begin(&dev), vec![Step::Restart { removing: None }, Step::Wait { millis: 35_000 }])),
        story("removed-while-down", then(begin(&dev), vec![Step::Restart { removing: Some("dev.yaml".to_owned()) }])),
        story("adopt", then(begin(&dev), vec![Step::LoseStore])),
        story(
            "routed-create",
            vec![
                Step::Faults,
                write("dev.yaml", &[with(|shape| (shape.routed, shape.workers) = (true, 2))]),
                Step::Settle,
            ],
        ),
        story(
            "routed-scale",
            then(
                begin(&with(|shape| shape.routed = true)),
                vec![
                    write("dev.yaml", &[with(|shape| (shape.routed, shape.workers) = (true, 2))]),
                    Step::Settle,
                    write("dev.yaml", &[with(|shape| (shape.routed, shape.workers) = (true, 0))]),
                ],
            ),
        ),
        story(
            "routed-roll",
            then(
                begin(&with(|shape| shape.routed = true)),
                vec![write("dev.yaml", &[with(|shape| (shape.routed, shape.memory) = (true, Some("2Gi".to_owned())))])],
            ),
        ),
        story(
            "routed-restart",
            then(
                begin(&with(|shape| shape.routed = true)),
                vec![Step::Restart { removing: None }, Step::Wait { millis: 35_000 }],
            ),
        ),
        story(
            "neighbours",
            vec![Step::Neighbour, Step::Faults, write("dev.yaml", std::slice::from_ref(&dev)), Step::Settle],
        ),
        // Longer than any wait of a step that ends by itself.
        Workload {
            moving: true,
            ..story("move", then(begin(&dev), vec![Step::RestartRuntime, Step::Wait { millis: 35_000 }]))
        },
        story(
            "take-over",
            vec![
                Step::Apply { shape: dev.clone() },
                Step::Settle,
                Step::Faults,
                write("dev.yaml", &[with(|shape| shape.workers = 2)]),
                Step::Settle,
            ],
        ),
    ]
}

/// A workload that follows from a seed.
pub fn drawn(seed: u64) -> Workload {
    let mut state = mixed(seed ^ 0x10ad);
    let mut draw = |below: u64| {
        state = mixed(state);
        state % below
    };
    let mut steps = vec![Step::Faults];
    let mut files: Vec<Option<Shape>> = vec![None; 2 + usize::try_from(draw(2)).unwrap()];
    for _ in 0..4 + draw(6) {
        let index = usize::try_from(draw(files.len() as u64)).unwrap();
        let file = format!("c{index}.yaml");
        match (&mut files[index], draw(8)) {
            (slot @ None, _) => {
                let mut shape = Shape::new(&format!("c{index}"), u32::try_from(draw(3)).unwrap());
                if draw(5) == 0 {
                    shape.control_planes = 3;
                }
                steps.push(write(&file, std::slice::from_ref(&shape)));
                *slot = Some(shape);
            }
            (slot, 0) => {
                steps.push(Step::Remove { file });
                *slot = None;
            }
            (Some(shape), 1 | 2) => {
                shape.workers = u32::try_from(draw(4)).unwrap();
                steps.push(write(&file, std::slice::from_ref(shape)));
            }
            (Some(shape), 3) => {
                shape.tier = Some(format!("t{}", draw(3)));
                steps.push(write(&file, std::slice::from_ref(shape)));
            }
            (Some(shape), 4) => {
                shape.memory = Some(format!("{}Gi", 2 + draw(2)));
                steps.push(write(&file, std::slice::from_ref(shape)));
            }
            (Some(_), 5) => steps.push(Step::Restart { removing: None }),
            (slot, 6) => {
                steps.push(Step::Restart { removing: Some(file) });
                *slot = None;
            }
            (Some(_), _) => {
                // Editors that write beside and rename.
                steps.push(Step::Rename { from: file.clone(), to: format!("{file}.moved.yaml") });
                steps.push(Step::Wait { millis: draw(3000) });
                steps.push(Step::Rename { from: format!("{file}.moved.yaml"), to: file });
            }
        }
        match draw(3) {
            0 => steps.push(Step::Settle),
            1 => steps.push(Step::Wait { millis: 50 + draw(8000) }),
            _ => {}
        }
    }
    steps.push(Step::Settle);
    // By a number of its own: what else is drawn from a seed stays the same.
    Workload { name: format!("drawn-{seed}"), moving: mixed(seed ^ 0xadd7).is_multiple_of(3), steps }
}

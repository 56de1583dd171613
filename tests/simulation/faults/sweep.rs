//! Every fault at every effect of every story, one at a time; and as many drawn runs as there is time for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::effect::{Effect, Fault};
use super::plan::{Faults, Plan, Planned, mixed};
use super::run::{Outcome, execute};
use super::workload::{self, Workload};

/// When a search in real time is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "how long to search is a matter of real time")]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    #[expect(clippy::disallowed_methods, reason = "how long to search is a matter of real time")]
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// What many runs came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub runs: u64,
    pub effects: u64,
    pub lives: u64,
    pub virtual_seconds: u64,
    pub table: BTreeMap<(Fault, Effect), u64>,
    pub failures: Vec<(Plan, Vec<String>)>,
}

impl Tally {
    fn add(&mut self, plan: &Plan, outcome: &Outcome) {
        self.runs += 1;
        self.effects += outcome.report.effects;
        self.lives += outcome.lives;
        self.virtual_seconds += outcome.virtual_seconds;
        for planned in &outcome.report.fired {
            *self.table.entry((planned.fault, planned.point.effect)).or_default() += 1;
        }
        if outcome.failed() {
            self.failures.push((plan.clone(), outcome.violations.clone()));
        }
    }

    /// The table of faults and effects, with counts. Effects that no story has are left out and named below.
    pub fn table(&self) -> String {
        let effects: Vec<Effect> =
            Effect::ALL.into_iter().filter(|effect| self.table.keys().any(|(_, with)| with == effect)).collect();
        let mut text = String::from("fault \\ effect   ");
        for effect in &effects {
            let _ = write!(text, " {effect:>15}");
        }
        text.push('\n');
        for fault in Fault::all() {
            let _ = write!(text, "{:<17}", fault.to_string());
            for effect in &effects {
                let cell = match self.table.get(&(fault, *effect)) {
                    Some(count) => count.to_string(),
                    None if fault.fits(*effect) => "EMPTY".to_owned(),
                    None => "-".to_owned(),
                };
                let _ = write!(text, " {cell:>15}");
            }
            text.push('\n');
        }
        text
    }
}

/// A search that takes hours tells how far it is after so many runs: what is cut off can go on from there.
const TOLD_EVERY: u64 = 1_000;

/// Carries `count` plans out on all CPUs, until they or the time are used up, but `least` of them in any case.
pub fn carry_out(
    count: usize,
    least: usize,
    until: Option<Deadline>,
    plan: impl Fn(usize) -> Plan + Sync,
    check: impl Fn(usize, &Outcome) -> Vec<String> + Sync,
) -> Tally {
    // Where there is no end, indices still do not overflow.
    let count = count.min(usize::MAX / 2);
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    let first_only = first_only();
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || index >= least && until.is_some_and(Deadline::is_over) {
                        break;
                    }
                    let plan = plan(index);
                    let mut outcome = execute(&plan);
                    outcome.violations.extend(check(index, &outcome));
                    if outcome.failed() {
                        announce(&plan, &outcome);
                        if first_only {
                            next.store(count, Ordering::Relaxed);
                        }
                    }
                    let mut tally = tally.lock().unwrap();
                    tally.add(&plan, &outcome);
                    if tally.runs % TOLD_EVERY == 0 {
                        eprintln!("{} runs, {} failed", tally.runs, tally.failures.len());
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// Whether a fault at an effect is looked for: `KINA_FAULTS_ONLY=ReplyLost/Commit` names the two.
fn only(fault: Fault, effect: Effect) -> bool {
    std::env::var("KINA_FAULTS_ONLY").map_or(true, |only| only == format!("{fault}/{effect}"))
}

/// Whether the first failure is enough: who looks for whether there is one needs no more.
pub fn first_only() -> bool {
    std::env::var_os("KINA_FAULTS_FIRST").is_some()
}

/// Says what failed, at once: a run that is cut off has still told it.
fn announce(plan: &Plan, outcome: &Outcome) {
    let mut text = format!("FAILED {} seed {}\n", plan.workload.name, plan.seed);
    for violation in &outcome.violations {
        let _ = writeln!(text, "  {violation}");
    }
    if let Faults::List(list) = &plan.faults {
        for planned in list {
            let _ = writeln!(text, "  with {planned}");
        }
    }
    eprint!("{text}");
}

/// So many tasks come and go: requests and answers on their way.
const TASKS_MORE: usize = 6;

/// A story without faults.
pub struct Reference {
    pub plan: Plan,
    pub outcome: Outcome,
}

impl Reference {
    pub fn of(workload: &Workload, seed: u64) -> Self {
        let plan = Plan { seed, workload: workload.clone(), faults: Faults::List(Vec::new()) };
        let outcome = execute(&plan);
        let (name, violations) = (&workload.name, &outcome.violations);
        let trace = outcome.report.trace.join("\n");
        assert!(!outcome.failed(), "{name} fails without any fault: {violations:#?}\n{trace}");
        Self { plan, outcome }
    }

    /// With these faults instead of none.
    pub fn with(&self, faults: Vec<Planned>) -> Plan {
        Plan { faults: Faults::List(faults), ..self.plan.clone() }
    }

    /// How the end differs from the end without faults. Which ordinals are left does not count: what is broken goes first.
    pub fn differs(&self, outcome: &Outcome) -> Vec<String> {
        let (wanted, found) = (without_ordinals(&self.outcome.end), without_ordinals(&outcome.end));
        // Where Kina was killed, tasks of its earlier lives stay for ever.
        if outcome.lives == self.outcome.lives && outcome.tasks > self.outcome.tasks + TASKS_MORE {
            return vec![format!("{} tasks in the end instead of {}", outcome.tasks, self.outcome.tasks)];
        }
        if wanted == found || found.is_empty() {
            return Vec::new();
        }
        let only = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|line| !those.contains(line)).cloned().collect()
        };
        vec![format!("another end: {:?} instead of {:?}", only(&found, &wanted), only(&wanted, &found))]
    }
}

fn without_ordinals(lines: &[String]) -> Vec<String> {
    let in_pool = |line: String, pool: &str| {
        let mut parts = line.split(pool);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, rest| text + pool + rest.trim_start_matches(|c: char| c.is_ascii_digit()))
    };
    let without = |line: &String| in_pool(in_pool(line.clone(), "-control-plane-"), "-pool-");
    let mut lines: Vec<String> = lines.iter().map(without).collect();
    lines.sort();
    lines
}

/// Every single fault of some stories.
pub struct Sweep {
    references: Vec<Reference>,
    /// Story, point and fault; first one of every fault at every kind of effect, then a second one, and so on.
    singles: Vec<(usize, usize, Fault)>,
    /// Pairs of a fault and a kind of effect.
    cells: usize,
}

impl Sweep {
    /// `round` says in which order faults of one kind are taken.
    pub fn of(stories: &[Workload], round: u64) -> Self {
        let references: Vec<Reference> = stories.iter().map(|story| Reference::of(story, 1)).collect();
        let mut cells: BTreeMap<(Fault, Effect), Vec<(usize, usize)>> = BTreeMap::new();
        for (story, reference) in references.iter().enumerate() {
            let report = &reference.outcome.report;
            for (index, point) in report.points.iter().enumerate() {
                // The world is upset when Kina next waits: whichever of the files is looked at amid one scan, it is the
                // same moment, and the same run.
                let is_same_moment = report.is_same_moment(index);
                let fits = |fault: &Fault| {
                    fault.fits(point.effect) && !(is_same_moment && fault.is_upset()) && only(*fault, point.effect)
                };
                for fault in Fault::all().filter(fits) {
                    cells.entry((fault, point.effect)).or_default().push((story, index));
                }
            }
        }
        let count = cells.len();
        let mut singles: Vec<(usize, Fault, Effect, usize, usize)> = Vec::new();
        for ((fault, effect), mut places) in cells {
            places.sort_by_key(|(story, index)| mixed(round ^ mixed(*story as u64) ^ mixed(*index as u64)));
            let ranked = places.into_iter().enumerate();
            singles.extend(ranked.map(|(rank, (story, index))| (rank, fault, effect, story, index)));
        }
        singles.sort();
        let singles = singles.into_iter().map(|(_, fault, _, story, index)| (story, index, fault)).collect();
        Self { references, singles, cells: count }
    }

    pub fn len(&self) -> usize {
        self.singles.len()
    }

    fn planned(&self, (story, index, fault): (usize, usize, Fault)) -> (usize, Planned) {
        (story, Planned { point: self.references[story].outcome.report.points[index].clone(), fault })
    }

    /// As many as there is time for, from the one of this number on, and with `whole` in any case one of every fault at
    /// every kind of effect.
    pub fn run(&self, from: usize, until: Option<Deadline>, whole: bool) -> Tally {
        let singles = self.singles.get(from..).unwrap_or_default();
        let plan = |index: usize| {
            let (story, planned) = self.planned(singles[index]);
            self.references[story].with(vec![planned])
        };
        let least = if whole { self.cells } else { 0 };
        carry_out(singles.len(), least, until, plan, |index, outcome| {
            self.references[singles[index].0].differs(outcome)
        })
    }

    /// Pairs of faults at random, the second in the same story.
    pub fn run_pairs(&self, first: u64, count: usize, until: Option<Deadline>) -> Tally {
        let pick = |random: u64| self.singles[usize::try_from(random % self.singles.len() as u64).unwrap()];
        let pair = |index: usize| {
            let mut random = mixed(first + index as u64);
            let one = pick(random);
            let other = std::iter::repeat_with(|| {
                random = mixed(random);
                pick(random)
            });
            (one, other.take(10_000).find(|other| other.0 == one.0 && *other != one).unwrap_or(one))
        };
        let plan = |index: usize| {
            let (one, other) = pair(index);
            let ((story, one), (_, other)) = (self.planned(one), self.planned(other));
            self.references[story].with(vec![one, other])
        };
        carry_out(count, 0, until, plan, |index, outcome| self.references[pair(index).0.0].differs(outcome))
    }
}

/// Drawn workloads with drawn faults, for so long.
pub fn swarm(first: u64, count: usize, until: Option<Deadline>) -> Tally {
    let plan = |index: usize| {
        let seed = first + index as u64;
        Plan { seed, workload: workload::drawn(seed), faults: Faults::Drawn }
    };
    carry_out(count, 0, until, plan, |_, _| Vec::new())
}

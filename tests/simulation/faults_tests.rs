//! What must hold in a world that breaks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::faults::plan::{Faults, Plan};
use crate::faults::run::{self, Outcome};
use crate::faults::sweep::{Deadline, Reference, Sweep, Tally, swarm};
use crate::faults::{shrink, sweep, workload};

/// Seeds of the meta-test. A leak of entropy or of real time shows within a few.
const SEEDS: u64 = 20;
/// How long is searched where nobody says: `cargo test` is run often.
const SECONDS: u64 = 5;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn drawn(seed: u64) -> Plan {
    Plan { seed, workload: workload::drawn(seed), faults: Faults::Drawn }
}

/// A plan that failed once, kept as what it does.
#[derive(Debug, Serialize, Deserialize)]
struct Regression {
    /// What was wrong, and where it was mended.
    why: String,
    plan: Plan,
}

fn regressions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/regressions")
}

/// Fails with everything a person needs to see the failure again: the plan made small, in a file, and the command.
fn expect_none_failed(tally: &Tally) {
    let Some((plan, violations)) = tally.failures.first() else { return };
    assert!(!sweep::first_only(), "{}", violations.join("; "));
    let small = shrink::shrink(plan);
    let outcome = run::execute(&small);
    let regression = Regression { why: outcome.violations.join("; "), plan: small };
    let path = std::env::temp_dir().join(format!("kina-{}-{}.json", plan.workload.name, plan.seed));
    std::fs::write(&path, serde_json::to_vec_pretty(&regression).unwrap()).unwrap();
    panic!(
        "{} of {} runs failed; the first, made small, is in {path}:\n  {}\nreplay it:\n  KINA_FAULTS_REPLAY={path} cargo test --test simulation faults_tests::replay -- --ignored --nocapture",
        tally.failures.len(),
        tally.runs,
        regression.why,
        path = path.display(),
    );
}

fn told(what: &str, tally: &Tally, seconds: u64) {
    eprintln!(
        "{what}: {} runs in about {seconds} s, {} effects, {} lives of Kina, {} virtual hours, {} failures\n{}",
        tally.runs,
        tally.effects,
        tally.lives,
        tally.virtual_seconds / 3600,
        tally.failures.len(),
        tally.table()
    );
}

#[test]
fn one_plan_gives_one_run() {
    for seed in 0..number("KINA_FAULTS_META", SEEDS) {
        let (first, second): (Outcome, Outcome) = (run::execute(&drawn(seed)), run::execute(&drawn(seed)));
        if first.report.digest != second.report.digest {
            let (left, right) = (first.report.trace, second.report.trace);
            let at = left.iter().zip(&right).position(|(left, right)| left != right).unwrap_or_default();
            let around = |trace: &[String]| trace[at.saturating_sub(3)..trace.len().min(at + 3)].join("\n  ");
            panic!("seed {seed} gave two runs:\n  {}\nand\n  {}", around(&left), around(&right));
        }
    }
}

#[test]
fn what_was_mended_stays_mended() {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(regressions()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the regressions are not where they should be");
    for path in paths {
        let regression: Regression = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let outcome = run::execute(&regression.plan);
        assert_eq!(outcome.violations, Vec::<String>::new(), "{}: {}", path.display(), regression.why);
        if let Faults::List(planned) = &regression.plan.faults {
            let fired = &outcome.report.fired;
            assert!(planned.iter().all(|fault| fired.contains(fault)), "{}: only {fired:?} happened", path.display());
        }
    }
}

/// A story in which nothing happens while faults could tells nothing.
#[test]
fn every_story_has_effects_at_which_something_can_break() {
    for story in workload::stories() {
        let points = Reference::of(&story, 1).outcome.report.points.len();
        assert!(points >= 20, "{}: {points} effects", story.name);
    }
}

#[test]
fn one_fault_anywhere_changes_nothing_in_the_end() {
    let seconds = number("KINA_FAULTS_SECONDS", SECONDS);
    let only = std::env::var("KINA_FAULTS_STORY").unwrap_or_default();
    let stories: Vec<_> = workload::stories().into_iter().filter(|story| story.name.contains(&only)).collect();
    let sweep = Sweep::of(&stories, number("KINA_FAULTS_ROUND", 0));
    let until = (seconds > 0).then(|| Deadline::after(Duration::from_secs(seconds)));
    let whole = std::env::var_os("KINA_FAULTS_WHOLE_TABLE").is_some();
    let from = usize::try_from(number("KINA_FAULTS_FROM", 0)).unwrap();
    let tally = sweep.run(from, until, whole);
    told(&format!("sweep of {} single faults, from number {from} on", sweep.len()), &tally, seconds);
    expect_none_failed(&tally);
    if whole {
        assert!(!tally.table().contains("EMPTY"), "a fault was never tried at an effect");
    }
}

#[test]
fn two_faults_anywhere_change_nothing_in_the_end() {
    let seconds = number("KINA_FAULTS_SECONDS", SECONDS);
    let sweep = Sweep::of(&workload::stories(), 0);
    let tally = sweep.run_pairs(
        number("KINA_FAULTS_ROUND", 0) << 32,
        usize::MAX,
        Some(Deadline::after(Duration::from_secs(seconds))),
    );
    told("pairs", &tally, seconds);
    expect_none_failed(&tally);
}

#[test]
fn whatever_users_do_and_whatever_breaks_kina_comes_to_what_files_say() {
    let seconds = number("KINA_FAULTS_SECONDS", SECONDS);
    let first = number("KINA_FAULTS_SEED", 1_000);
    let tally = swarm(first, usize::MAX, Some(Deadline::after(Duration::from_secs(seconds))));
    told(&format!("seeds from {first}"), &tally, seconds);
    expect_none_failed(&tally);
}

/// Whether a seed goes on giving the same run.
#[test]
#[ignore = "to look at"]
fn digests() {
    for seed in 0..number("KINA_FAULTS_META", 3) {
        let digests: Vec<String> = (0..5).map(|_| format!("{:x}", run::execute(&drawn(seed)).report.digest)).collect();
        eprintln!("seed {seed}: {digests:?}");
    }
}

/// What stories do without faults.
#[test]
#[ignore = "to look at"]
fn stories() {
    for story in workload::stories() {
        let outcome = Reference::of(&story, 1).outcome;
        let (points, effects) = (outcome.report.points.len(), outcome.report.effects);
        eprintln!("{}: {points} points, {effects} effects, {} virtual s", story.name, outcome.virtual_seconds);
        for (effect, (count, object)) in &outcome.report.busiest {
            eprintln!("    at most {count} a minute: {effect} {object}");
        }
        for line in &outcome.end {
            eprintln!("    {line}");
        }
    }
}

/// Replays one plan, with its trace: the one of the file that `KINA_FAULTS_REPLAY` names, or else the drawn one of the
/// seed `KINA_FAULTS_SEED`.
#[test]
#[ignore = "to look at"]
fn replay() {
    let plan = match std::env::var("KINA_FAULTS_REPLAY") {
        Ok(path) => serde_json::from_slice::<Regression>(&std::fs::read(path).unwrap()).unwrap().plan,
        Err(_) => drawn(number("KINA_FAULTS_SEED", 1_000)),
    };
    let outcome = run::execute(&plan);
    eprintln!("{}\n{:#?}", outcome.report.trace.join("\n"), outcome.violations);
    assert!(!outcome.failed());
}

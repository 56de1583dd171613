//! Makes a failing plan small: as few faults and as few steps as still fail.

use super::plan::{Faults, Plan};
use super::run::{Outcome, execute};
use super::workload::{Step, Workload};

/// Runs at most while shrinking.
const RUNS_MAX: usize = 400;

/// The smallest plan found that still fails in the same way, by delta debugging (Zeller and Hildebrandt 2002) over the
/// faults that happened, then over the steps of the workload, then over the faults that are left.
pub fn shrink(plan: &Plan) -> Plan {
    let first = execute(plan);
    if !first.failed() {
        return plan.clone();
    }
    let kind = kind(&first);
    let mut runs = 0;
    let mut fails = |candidate: &Plan| {
        runs += 1;
        runs <= RUNS_MAX && self::kind(&execute(candidate)) == kind
    };
    let mut smallest = Plan { faults: Faults::List(first.report.fired), ..plan.clone() };
    if !fails(&smallest) {
        // It fails only as it was drawn: a number that depends on all others. Kept as it is.
        return plan.clone();
    }
    without_faults(&mut smallest, &mut fails);
    let steps = smallest.workload.steps.len();
    without_steps(&mut smallest, &mut fails);
    if smallest.workload.steps.len() < steps {
        without_faults(&mut smallest, &mut fails);
    }
    smallest
}

/// In which way a run failed: its first violation without numbers and details. Otherwise a plan would be shrunk to
/// whatever else is wrong, or to steps that make no sense.
fn kind(outcome: &Outcome) -> Option<String> {
    let first = outcome.violations.first()?;
    let what = first.split_once(':').map_or(first.as_str(), |(what, _)| what);
    Some(what.chars().filter(|c| !c.is_ascii_digit()).collect())
}

fn without_faults(plan: &mut Plan, fails: &mut impl FnMut(&Plan) -> bool) {
    let Faults::List(faults) = plan.faults.clone() else { return };
    let with = |faults: &[_]| Plan { faults: Faults::List(faults.to_vec()), ..plan.clone() };
    let fewest = fewest(faults, &mut |faults| fails(&with(faults)));
    *plan = with(&fewest);
}

fn without_steps(plan: &mut Plan, fails: &mut impl FnMut(&Plan) -> bool) {
    let with = |steps: &[Step]| {
        let workload = Workload { steps: steps.to_vec(), ..plan.workload.clone() };
        Plan { workload, ..plan.clone() }
    };
    let fewest = fewest(plan.workload.steps.clone(), &mut |steps| {
        let candidate = with(steps);
        candidate.workload.is_possible() && fails(&candidate)
    });
    *plan = with(&fewest);
}

/// As few as still fail: halves are left out, then quarters, and so on, down to single ones, until none can be left out.
fn fewest<T: Clone>(mut all: Vec<T>, fails: &mut impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut chunk = all.len().div_ceil(2).max(1);
    while !all.is_empty() {
        let mut removed = false;
        let mut at = 0;
        while at < all.len() {
            let mut fewer = all.clone();
            fewer.drain(at..(at + chunk).min(all.len()));
            if fails(&fewer) {
                all = fewer;
                removed = true;
            } else {
                at += chunk;
            }
        }
        if chunk == 1 && !removed {
            break;
        }
        chunk = (chunk / 2).max(1);
    }
    all
}

#[test]
fn what_is_left_is_needed_and_nothing_that_is_needed_is_left_out() {
    for needed in [vec![], vec![3], vec![0, 9], vec![2, 3, 7], (0..10).collect()] {
        let found = fewest((0..10).collect(), &mut |left| needed.iter().all(|one| left.contains(one)));
        assert_eq!(found, needed);
    }
}

//! Makes a failing plan small: as few faults as still fail.

use super::plan::{Faults, Plan, Planned};
use super::run::execute;

/// Runs at most while shrinking.
const RUNS_MAX: usize = 200;

/// The smallest plan found that still fails, by delta debugging (Zeller and Hildebrandt 2002) over the faults that
/// happened, then over the steps of the workload.
pub fn shrink(plan: &Plan) -> Plan {
    let first = execute(plan);
    if !first.failed() {
        return plan.clone();
    }
    let mut runs = 0;
    let with = |faults: &[Planned], plan: &Plan| Plan { faults: Faults::List(faults.to_vec()), ..plan.clone() };
    let mut fails = |candidate: &Plan| {
        runs += 1;
        runs <= RUNS_MAX && execute(candidate).failed()
    };
    let mut faults = first.report.fired.clone();
    let mut smallest = with(&faults, plan);
    if !fails(&smallest) {
        // It fails only as it was drawn: a number that depends on all others. Kept as it is.
        return plan.clone();
    }
    let mut chunk = faults.len().div_ceil(2).max(1);
    while !faults.is_empty() {
        let mut removed = false;
        let mut at = 0;
        while at < faults.len() {
            let mut fewer = faults.clone();
            fewer.drain(at..(at + chunk).min(fewer.len()));
            if fails(&with(&fewer, plan)) {
                faults = fewer;
                removed = true;
            } else {
                at += chunk;
            }
        }
        smallest = with(&faults, plan);
        if chunk == 1 && !removed {
            break;
        }
        chunk = (chunk / 2).max(1);
        if chunk == 1 && faults.len() <= 1 && !removed {
            break;
        }
    }
    smallest
}

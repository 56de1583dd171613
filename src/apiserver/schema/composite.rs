//! `allOf`, `anyOf`, `oneOf` and `not`.

use serde_json::Value;

use super::node::Node;
use super::path::Path;
use super::rules::{Checks, Rules};
use super::validate::walk;
use crate::apiserver::kind::FieldFault;

pub(super) fn check(checks: &Checks, value: &Value, path: &Path<'_>, faults: &mut Vec<FieldFault>) {
    for branch in &checks.all_of {
        faults.extend(faults_of(branch, value, path));
    }
    if !checks.any_of.is_empty() {
        let results = results(&checks.any_of, value, path);
        if !results.iter().any(Vec::is_empty) {
            faults.push(composite(path, "must validate at least one schema (anyOf)"));
            faults.extend(closest(results));
        }
    }
    if !checks.one_of.is_empty() {
        let results = results(&checks.one_of, value, path);
        match results.iter().filter(|faults| faults.is_empty()).count() {
            1 => {}
            0 => {
                faults.push(composite(path, "must validate one and only one schema (oneOf). Found none valid"));
                faults.extend(closest(results));
            }
            found => {
                let rule = format!("must validate one and only one schema (oneOf). Found {found} valid alternatives");
                faults.push(composite(path, &rule));
            }
        }
    }
    if let Some(forbidden) = &checks.not
        && faults_of(forbidden, value, path).is_empty()
    {
        faults.push(composite(path, "must not validate the schema (not)"));
    }
}

fn faults_of(branch: &Rules, value: &Value, path: &Path<'_>) -> Vec<FieldFault> {
    let mut faults = Vec::new();
    walk(Node::inner(branch), None, value, path, &mut faults);
    faults
}

fn results(branches: &[Rules], value: &Value, path: &Path<'_>) -> Vec<Vec<FieldFault>> {
    branches.iter().map(|branch| faults_of(branch, value, path)).collect()
}

/// The faults of the branch that fits best: the person most likely meant that one.
fn closest(results: Vec<Vec<FieldFault>>) -> Vec<FieldFault> {
    results.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

fn composite(path: &Path<'_>, rule: &str) -> FieldFault {
    FieldFault {
        field: path.to_string(),
        reason: "FieldValueInvalid",
        message: format!("Invalid value: \"\": \"{path}\" {rule}"),
    }
}

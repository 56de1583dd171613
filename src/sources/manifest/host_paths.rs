//! Paths of the host that a manifest names: relative ones are meant from its own directory, and not all may be mounted.

use std::path::Path;

use serde_json::Value;

use super::Reading;
use super::faults::Found;
use super::tree::Span;
use crate::host_mounts::{Refused, plain};

/// Makes every `hostPath`, and every path of an addon, absolute, and judges it. Without a directory, as for what comes from stdin, a relative one is a
/// fault.
pub(super) fn resolve(
    spec: &mut Value,
    reading: Reading<'_>,
    place: impl Fn(&[String]) -> Span,
    faults: &mut Vec<Found>,
) {
    let mut mounts: Vec<(Vec<String>, &mut Value)> = Vec::new();
    let mut addons: Vec<(Vec<String>, &mut Value)> = Vec::new();
    let path = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
    let Some(fields) = spec.as_object_mut() else { return };
    for (key, value) in fields.iter_mut() {
        match (key.as_str(), value) {
            ("controlPlane", pool) => mounts.extend(of_pool(pool, &path(&["spec", "controlPlane"]))),
            ("workers", Value::Array(pools)) => {
                for (index, pool) in pools.iter_mut().enumerate() {
                    mounts.extend(of_pool(pool, &path(&["spec", "workers", &index.to_string()])));
                }
            }
            ("addons", Value::Array(wanted)) => {
                for (index, addon) in wanted.iter_mut().enumerate() {
                    let place = path(&["spec", "addons", &index.to_string(), "path"]);
                    addons.extend(addon.get_mut("path").map(|value| (place, value)));
                }
            }
            _ => {}
        }
    }
    let mounts = mounts.into_iter().map(|(path, value)| (path, value, reading.judge));
    let addons = addons.into_iter().map(|(path, value)| (path, value, reading.judge_file));
    for (path, value, judge) in mounts.chain(addons) {
        let Some(text) = value.as_str() else { continue };
        let absolute = match (Path::new(text).is_absolute(), reading.directory) {
            (true, _) => plain(Path::new(text)),
            (false, Some(directory)) => plain(&directory.join(text)),
            (false, None) => {
                let message =
                    format!("`{text}` is relative, and this manifest has no directory that it could be meant from");
                faults.push(Found::at(place(&path), message).labelled("relative").helped("write an absolute path"));
                continue;
            }
        };
        if let Some(Refused { why, hint }) = judge.and_then(|judge| judge(&absolute)) {
            faults.push(Found::at(place(&path), why).labelled("not allowed").helped(hint));
        }
        *value = Value::String(absolute.display().to_string());
    }
}

fn of_pool<'v>(pool: &'v mut Value, path: &[String]) -> Vec<(Vec<String>, &'v mut Value)> {
    let mounts = pool.get_mut("extraMounts").and_then(Value::as_array_mut).into_iter().flatten().enumerate();
    let found = mounts.filter_map(|(index, mount)| {
        let keys = ["extraMounts".to_owned(), index.to_string(), "hostPath".to_owned()];
        Some((path.iter().cloned().chain(keys).collect(), mount.get_mut("hostPath")?))
    });
    found.collect()
}

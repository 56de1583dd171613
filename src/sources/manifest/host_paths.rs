//! Paths of the host that a manifest names: relative ones are meant from its own directory.

use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::faults::Found;
use super::tree::Span;

/// Makes every `hostPath` absolute. Without a directory, as for what comes from stdin, a relative one is a fault.
pub(super) fn resolve(
    spec: &mut Value,
    directory: Option<&Path>,
    place: impl Fn(&[String]) -> Span,
    faults: &mut Vec<Found>,
) {
    let mut mounts: Vec<(Vec<String>, &mut Value)> = Vec::new();
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
            _ => {}
        }
    }
    for (path, value) in mounts {
        let Some(text) = value.as_str().filter(|text| !Path::new(text).is_absolute()) else { continue };
        match directory {
            Some(directory) => *value = Value::String(plain(&directory.join(text)).display().to_string()),
            None => {
                let message =
                    format!("`{text}` is relative, and this manifest has no directory that it could be meant from");
                faults.push(Found::at(place(&path), message).labelled("relative").helped("write an absolute path"));
            }
        }
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

/// Without `.` and `..`, as far as that follows from the text alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

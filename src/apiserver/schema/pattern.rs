//! Regular expressions of schemas, compiled once a process.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use regex::Regex;

/// Patterns come from registered schemas, some dozens in all; beyond this many they are compiled at each use.
const CACHE_LIMIT: usize = 512;

/// Whether a text matches a pattern (anywhere in it, as ECMA 262 and Go have it). `None`: the pattern does not compile.
pub(super) fn matches(pattern: &str, text: &str) -> Option<bool> {
    static CACHE: OnceLock<Mutex<BTreeMap<String, Regex>>> = OnceLock::new();
    let mut cache = CACHE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = cache.get(pattern) {
        return Some(regex.is_match(text));
    }
    let regex = Regex::new(pattern).ok()?;
    let matched = regex.is_match(text);
    if cache.len() < CACHE_LIMIT {
        cache.insert(pattern.to_owned(), regex);
    }
    Some(matched)
}

/// Whether a pattern compiles.
pub(super) fn compiles(pattern: &str) -> bool {
    Regex::new(pattern).is_ok()
}

//! How long an object waits after a failure: longer each time, with jitter, and from the start again once its spec or
//! its world changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::retry::{Class, EffectError};
use crate::api::machine::Failure;
use crate::world::World;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The first wait.
pub const FIRST: Duration = Duration::from_millis(750);
/// No wait is longer, jitter included.
pub const LONGEST: Duration = Duration::from_secs(300);

/// What a failure depends on: while it stays the same, trying sooner is in vain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub String);

/// Failures of objects, by UID. One entry an object that fails: bounded by the number of objects.
#[derive(Clone, Debug)]
pub struct Backoff {
    world: World,
    entries: Arc<Mutex<BTreeMap<String, Entry>>>,
}

#[derive(Clone, Debug)]
struct Entry {
    mark: Mark,
    attempts: u32,
    since: Timestamp,
    until: Option<Instant>,
    class: Class,
    reason: &'static str,
    message: String,
}

impl Backoff {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world, entries: Arc::default() }
    }

    /// Notes a failure.
    pub fn failed(&self, uid: &str, mark: &Mark, error: &EffectError) {
        let message = error.advice().map_or_else(|| error.chain(), |advice| format!("{}: {advice}", error.chain()));
        self.note(uid, mark, error.class(), error.reason(), message);
    }

    /// Notes a failure that is no error of a call.
    pub fn note(&self, uid: &str, mark: &Mark, class: Class, reason: &'static str, message: String) {
        let now = self.world.clock.now();
        let mut entries = self.lock();
        let entry = entries.entry(uid.to_owned()).or_insert_with(|| Entry {
            mark: mark.clone(),
            attempts: 0,
            since: now,
            until: None,
            class,
            reason,
            message: String::new(),
        });
        if entry.mark != *mark {
            (entry.mark, entry.attempts, entry.since) = (mark.clone(), 0, now);
        }
        entry.attempts = entry.attempts.saturating_add(1);
        (entry.class, entry.reason, entry.message) = (class, reason, message);
        // What waits for another spec is not tried again before.
        let wait = (class != Class::Terminal).then(|| delay(entry.attempts, self.world.random.next_u64()));
        entry.until = wait.map(|wait| Instant::now() + wait);
    }

    /// Forgets an object's failures: it went well, or is gone.
    pub fn reset(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// How long the object is to wait still; `None` where it may go on. A changed mark ends every wait.
    #[must_use]
    pub fn wait(&self, uid: &str, mark: &Mark) -> Option<Duration> {
        let entries = self.lock();
        let entry = entries.get(uid).filter(|entry| entry.mark == *mark)?;
        match entry.until {
            None => Some(LONGEST),
            Some(until) => Some(until.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero()),
        }
    }

    /// The failure as status shows it.
    #[must_use]
    pub fn failure(&self, uid: &str) -> Option<Failure> {
        let entries = self.lock();
        let entry = entries.get(uid)?;
        Some(Failure {
            class: entry.class.for_status(),
            reason: entry.reason.to_owned(),
            message: entry.message.clone(),
            attempts: entry.attempts,
            since: Time(crate::api::conditions::whole_seconds(entry.since)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait after the n-th failure in a row: doubling, up to a half shorter by chance, so that many that failed together
/// do not come back together.
fn delay(attempts: u32, random: u64) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    // 0..=1023 of 1024 of one half.
    let share = u32::try_from(random % 1024).unwrap_or_default();
    if attempts <= 1 { FIRST + FIRST / 2 * share / 1024 } else { full - full / 2 * share / 1024 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(text: &str) -> Mark {
        Mark(text.to_owned())
    }

    fn backoff() -> Backoff {
        Backoff::new(World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap()))
    }

    #[test]
    fn waits_double_from_750_ms_to_five_minutes_with_jitter() {
        for random in [0, 511, 1023, u64::MAX] {
            assert!((FIRST..FIRST * 2).contains(&delay(1, random)));
            for attempts in 2..40 {
                let wait = delay(attempts, random);
                assert!(wait >= FIRST && wait <= LONGEST, "{attempts}: {wait:?}");
            }
            assert!(delay(20, random) >= LONGEST / 2);
        }
        assert_eq!(delay(3, 0), FIRST * 4);
        assert_eq!(delay(u32::MAX, 0), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_spec_or_world_ends_the_wait_and_a_terminal_failure_waits_for_it() {
        let backoff = backoff();
        assert_eq!(backoff.wait("u", &mark("1")), None);
        backoff.note("u", &mark("1"), Class::Transient, "X", "x".into());
        assert!(backoff.wait("u", &mark("1")).is_some());
        assert_eq!(backoff.wait("u", &mark("2")), None);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(backoff.wait("u", &mark("1")), None);
        backoff.note("u", &mark("1"), Class::Terminal, "X", "x".into());
        tokio::time::advance(Duration::from_secs(100_000)).await;
        assert!(backoff.wait("u", &mark("1")).is_some());
        assert_eq!(backoff.failure("u").unwrap().attempts, 2);
        backoff.note("u", &mark("2"), Class::Transient, "X", "x".into());
        assert_eq!(backoff.failure("u").unwrap().attempts, 1);
        backoff.reset("u");
        assert!(backoff.failure("u").is_none());
    }
}

//! Points in time as the simulated world keeps them.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Microseconds since 1970: what is written to the world's file, so that what takes time goes on after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct At(pub i64);

impl At {
    pub fn of(time: Timestamp) -> Self {
        Self(time.as_microsecond())
    }

    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` until this; zero where that is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// The last one up to `now` of the points that follow this one at such a distance.
    pub fn last_of_every(self, period: Duration, now: Self) -> Self {
        let periods = now.since(self).as_micros() / period.as_micros().max(1);
        self.plus(period * u32::try_from(periods).unwrap_or(u32::MAX))
    }

    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::MAX)
    }

    /// As Kubernetes writes times: whole seconds, `2026-01-01T00:00:00Z`.
    pub fn rfc3339(self) -> String {
        Timestamp::from_second(self.0.div_euclid(1_000_000)).unwrap_or(Timestamp::MAX).to_string()
    }
}

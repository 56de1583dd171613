//! Metrics in OpenMetrics text. One [`Metrics`] a process, handed down by value; there is no global registry.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

/// Upper bounds in seconds: from a call inside the process (1 ms) to an image pull (5 min).
const SECONDS: [f64; 12] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0];

/// Values of the label `layer`.
pub const LAYERS: [&str; 5] = ["container", "network", "kubernetes", "addons", "kubeconfig"];

/// How a call or a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It did what it should.
    Ok,
    /// It failed and is tried again.
    Transient,
    /// It failed and waits for another spec.
    Terminal,
    /// It failed and waits for a person.
    Foreign,
    /// It took longer than its bound.
    Timeout,
    /// The other side refused: not found, in conflict, forbidden.
    Refused,
    /// Nobody waited for its end any more: a deadline of the caller's, or a change of mind.
    Abandoned,
}

impl Outcome {
    /// The value of the label `outcome`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Transient => "transient",
            Self::Terminal => "terminal",
            Self::Foreign => "foreign",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Counters, gauges and durations of one process. Cloning is cheap; all clones count together.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    calls: Family<CallEnd, Counter>,
    call_seconds: Family<Call, Histogram>,
    reconciles: Family<PassEnd, Counter>,
    reconcile_seconds: Family<Pass, Histogram>,
    source_errors: Family<OfSource, Gauge>,
    source_held: Family<OfSource, Gauge>,
    drift: Family<OfLayer, Gauge>,
    drift_found: Family<Found, Counter>,
}

// Labels hold names from closed sets, and those of Sources and Clusters: never texts of errors.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    room: &'static str,
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallEnd {
    room: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Pass {
    controller: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PassEnd {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSource {
    source: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfLayer {
    cluster: String,
    layer: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Found {
    layer: &'static str,
    mode: &'static str,
}

/// A call under way. One that is dropped before its end is counted as abandoned.
#[derive(Debug)]
pub struct Timed {
    metrics: Metrics,
    room: &'static str,
    operation: &'static str,
    began: Instant,
    ended: bool,
}

impl Timed {
    /// It has ended.
    pub fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.metrics.call(self.room, self.operation, outcome, self.began.elapsed());
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        if !self.ended {
            self.metrics.call(self.room, self.operation, Outcome::Abandoned, self.began.elapsed());
        }
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let histogram = || Histogram::new(SECONDS);
        let inner = Inner {
            registry: Mutex::new(Registry::with_prefix("kina")),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(histogram),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(histogram),
            source_errors: Family::default(),
            source_held: Family::default(),
            drift: Family::default(),
            drift_found: Family::default(),
        };
        {
            let mut registry = inner.registry.lock().unwrap_or_else(PoisonError::into_inner);
            registry.register("calls", "External calls by how they ended", inner.calls.clone());
            registry.register_with_unit(
                "call_duration",
                "How long external calls took",
                Unit::Seconds,
                inner.call_seconds.clone(),
            );
            registry.register("reconciles", "Passes of controllers by how they ended", inner.reconciles.clone());
            registry.register_with_unit(
                "reconcile_duration",
                "How long passes of controllers took",
                Unit::Seconds,
                inner.reconcile_seconds.clone(),
            );
            registry.register("source_errors", "Faults in the files of a source", inner.source_errors.clone());
            registry.register(
                "source_held",
                "Deletions and recreations that wait for an approval",
                inner.source_held.clone(),
            );
            registry.register("drift", "Differences between what is wanted and what is", inner.drift.clone());
            registry.register("drift_found", "Differences found, each when it began", inner.drift_found.clone());
        }
        Self { inner: Arc::new(inner) }
    }

    /// Begins a call to the world outside, which is counted and timed when it ends.
    #[must_use]
    pub fn begin(&self, room: &'static str, operation: &'static str) -> Timed {
        Timed { metrics: self.clone(), room, operation, began: Instant::now(), ended: false }
    }

    /// Counts one call to the world outside. `room` is what was called (`runtime`, `cluster`, `kubeconfig`, `store`),
    /// `operation` which call.
    pub fn call(&self, room: &'static str, operation: &'static str, outcome: Outcome, took: Duration) {
        self.inner.calls.get_or_create(&CallEnd { room, operation, outcome: outcome.as_str() }).inc();
        self.inner.call_seconds.get_or_create(&Call { room, operation }).observe(took.as_secs_f64());
    }

    /// Counts one pass of a controller.
    pub fn reconcile(&self, controller: &'static str, outcome: Outcome, took: Duration) {
        self.inner.reconciles.get_or_create(&PassEnd { controller, outcome: outcome.as_str() }).inc();
        self.inner.reconcile_seconds.get_or_create(&Pass { controller }).observe(took.as_secs_f64());
    }

    /// Shows what is wrong with a Source right now.
    pub fn source(&self, source: &str, errors: usize, held: usize) {
        let label = OfSource { source: source.to_owned() };
        self.inner.source_errors.get_or_create(&label).set(count(errors));
        self.inner.source_held.get_or_create(&label).set(count(held));
    }

    /// Forgets a Source.
    pub fn forget_source(&self, source: &str) {
        let label = OfSource { source: source.to_owned() };
        self.inner.source_errors.remove(&label);
        self.inner.source_held.remove(&label);
    }

    /// Shows how many differences a Cluster has right now in a layer.
    pub fn drift(&self, cluster: &str, layer: &'static str, differences: usize) {
        let label = OfLayer { cluster: cluster.to_owned(), layer };
        if differences == 0 {
            self.inner.drift.remove(&label);
        } else {
            self.inner.drift.get_or_create(&label).set(count(differences));
        }
    }

    /// Counts a difference that was not there before.
    pub fn drift_found(&self, layer: &'static str, mode: &'static str) {
        self.inner.drift_found.get_or_create(&Found { layer, mode }).inc();
    }

    /// Forgets a Cluster.
    pub fn forget_cluster(&self, cluster: &str) {
        for layer in LAYERS {
            self.drift(cluster, layer, 0);
        }
    }

    /// The media type of [`Self::encode`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Everything as OpenMetrics text.
    #[must_use]
    pub fn encode(&self) -> String {
        let registry = self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
impl Metrics {
    /// Every metric there is, counted once.
    pub(crate) fn one_of_each() -> Self {
        let metrics = Self::new();
        metrics.call("runtime", "list", Outcome::Ok, Duration::ZERO);
        metrics.reconcile("cluster", Outcome::Ok, Duration::ZERO);
        metrics.source("clusters", 1, 1);
        metrics.drift("dev", "container", 1);
        metrics.drift_found("container", "audit");
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_among_one_of_each() {
        // What is registered and never counted would be missing from the documentation.
        let source = include_str!("metrics.rs");
        let registered = source.split("impl Default").next().unwrap().matches("registry.register").count();
        let shown = Metrics::one_of_each().encode();
        assert_eq!(shown.matches("# HELP ").count(), registered, "{shown}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_nobody_waits_for_is_counted_as_abandoned() {
        let metrics = Metrics::new();
        let call = async {
            let timed = metrics.begin("cluster", "probe");
            std::future::pending::<()>().await;
            timed.end(Outcome::Ok);
        };
        assert!(tokio::time::timeout(Duration::from_secs(8), call).await.is_err());
        let text = metrics.encode();
        let line = r#"kina_calls_total{room="cluster",operation="probe",outcome="abandoned"} 1"#;
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn calls_are_counted_and_timed_by_room_and_operation() {
        let metrics = Metrics::new();
        metrics.clone().call("runtime", "list", Outcome::Ok, Duration::from_millis(3));
        metrics.call("runtime", "list", Outcome::Transient, Duration::from_millis(30));
        let text = metrics.encode();
        let expected = [
            r#"kina_calls_total{room="runtime",operation="list",outcome="ok"} 1"#,
            r#"kina_calls_total{room="runtime",operation="list",outcome="transient"} 1"#,
            r#"kina_call_duration_seconds_bucket{le="0.005",room="runtime",operation="list"} 1"#,
            r#"kina_call_duration_seconds_count{room="runtime",operation="list"} 2"#,
        ];
        for line in expected {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_mended_is_no_longer_shown() {
        let metrics = Metrics::new();
        metrics.source("clusters", 2, 1);
        metrics.drift("dev", "container", 3);
        assert!(metrics.encode().contains(r#"kina_source_errors{source="clusters"} 2"#));
        assert!(metrics.encode().contains(r#"kina_drift{cluster="dev",layer="container"} 3"#));
        metrics.forget_source("clusters");
        metrics.drift("dev", "container", 0);
        let text = metrics.encode();
        assert!(!text.contains("clusters\"") && !text.contains("dev"), "{text}");
    }
}

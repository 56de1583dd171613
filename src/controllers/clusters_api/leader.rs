//! Whether the controllers of a cluster are at work.
//!
//! What Deployments and DaemonSets say of themselves is written by kube-controller-manager, and stays as it was written while
//! none leads: after a restart of everything the API server answers at once, and the next one leads only when the Lease of
//! the one before has run out (15 s, `leaderElection.leaseDuration` of `KubeControllerManagerConfiguration`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use tokio::time::Instant;

use super::ANSWER_WITHIN;

const NAME: &str = "kube-controller-manager";
/// How often one that leads renews its Lease (`leaderElection.retryPeriod`).
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// How long that is asked for so often; one that leads later than that is seen later. Of many clusters each is asked less
/// often, two hundred a second in all.
const SOON: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(10);
const EACH: Duration = Duration::from_millis(5);
/// How long one that took over has led when everything was looked at once more.
const LOOKED_AGAIN: SignedDuration = SignedDuration::from_secs(4);

/// Ends once the controllers of a cluster work; at once where none was ever elected: nothing can be told there, and whoever
/// began a moment ago has left nothing behind that could be old.
///
/// It asks again and again: a watch of the Lease would tell of every renewal, and cost as much. `crowd` is how many clusters
/// there are.
pub(super) async fn leads(client: kube::Client, crowd: Arc<AtomicUsize>) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-system");
    let began = Instant::now();
    let mut first = None;
    loop {
        match tokio::time::timeout(ANSWER_WITHIN, leases.get_opt(NAME)).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(lease))) => {
                let seen = lease.spec.unwrap_or_default();
                let first = first.get_or_insert_with(|| renewed(&seen));
                if works(&seen, *first) {
                    return;
                }
            }
            // Whether the server is there is told by the watches.
            Ok(Err(_)) | Err(_) => {}
        }
        let pause = if began.elapsed() < SOON { RENEWED_EVERY } else { LATER };
        let each = EACH * u32::try_from(crowd.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        tokio::time::sleep(pause.max(each)).await;
    }
}

fn renewed(lease: &LeaseSpec) -> Option<Timestamp> {
    lease.renew_time.as_ref().map(|time| time.0)
}

/// Whether the holder of a Lease, which was last renewed then when it was seen first, works: it has renewed it since, and has
/// held it from the beginning or for long enough. No clock is compared with another.
fn works(lease: &LeaseSpec, first: Option<Timestamp>) -> bool {
    let Some(renewed) = renewed(lease).filter(|renewed| Some(*renewed) != first) else { return false };
    let is_first = lease.lease_transitions.unwrap_or_default() == 0;
    let acquired = lease.acquire_time.as_ref().map(|time| time.0);
    is_first || acquired.is_none_or(|acquired| renewed.duration_since(acquired) >= LOOKED_AGAIN)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(second).ok()
    }

    fn lease(transitions: i32, acquired: i64, renewed: i64) -> LeaseSpec {
        LeaseSpec {
            lease_transitions: Some(transitions),
            acquire_time: at(acquired).map(MicroTime),
            renew_time: at(renewed).map(MicroTime),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_that_stays_as_it_was_tells_of_nobody_who_works() {
        assert!(!works(&lease(0, 10, 100), at(100)));
        assert!(!works(&lease(3, 10, 100), at(100)));
    }

    #[test]
    fn who_leads_from_the_beginning_works_and_who_took_over_works_after_a_while() {
        assert!(works(&lease(0, 100, 102), at(100)));
        assert!(works(&lease(3, 10, 102), at(100)));
        // Its clock may be behind that of the one before.
        assert_eq!([90, 92, 94].map(|renewed| works(&lease(1, 90, renewed), at(100))), [false, false, true]);
    }
}

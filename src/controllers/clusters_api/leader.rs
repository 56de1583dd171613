//! Whether the controllers of a cluster are at work.
//!
//! What Deployments and DaemonSets say of themselves is written by kube-controller-manager, and stays as it was written while
//! none leads: after a restart of everything the API server answers at once, and the next one leads only when the Lease of
//! the one before has run out (15 s, `leaderElection.leaseDuration` of `KubeControllerManagerConfiguration`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::time::Instant;

use super::ANSWER_WITHIN;

const NAME: &str = "kube-controller-manager";
/// How often one that leads renews its Lease (`leaderElection.retryPeriod`).
const RENEWED_EVERY: Duration = Duration::from_secs(2);
/// How long that is asked for so often; one that leads later than that is seen later.
const SOON: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(10);
/// The first renewal that is seen may be the one by which it begins to lead; it has worked for a while by the next one.
const RENEWALS: u32 = 2;

/// Ends once the controllers of a cluster work; at once where none was ever elected: nothing can be told there, and whoever
/// began a moment ago has left nothing behind that could be old.
///
/// It asks again and again: a watch of the Lease would tell of every renewal, and cost as much.
pub(super) async fn leads(client: kube::Client) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-system");
    let began = Instant::now();
    let mut renewals = Renewals::default();
    loop {
        match tokio::time::timeout(ANSWER_WITHIN, leases.get_opt(NAME)).await {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(lease))) => {
                let renewed = lease.spec.and_then(|spec| spec.renew_time);
                if renewed.is_some_and(|renewed| renewals.saw(renewed.0) >= RENEWALS) {
                    return;
                }
            }
            // Whether the server is there is told by the watches.
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::time::sleep(if began.elapsed() < SOON { RENEWED_EVERY } else { LATER }).await;
    }
}

/// Renewals that were made while somebody looked. No clock is compared with another.
#[derive(Debug, Default)]
struct Renewals {
    last: Option<Timestamp>,
    count: u32,
}

impl Renewals {
    /// The Lease was last renewed then; tells how many renewals were seen by now.
    fn saw(&mut self, renewed: Timestamp) -> u32 {
        let before = self.last.replace(renewed);
        self.count += u32::from(before.is_some_and(|before| before != renewed));
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_stays_as_it_was_is_no_renewal_however_often_it_is_seen() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut renewals = Renewals::default();
        assert_eq!([5, 5, 5].map(|second| renewals.saw(at(second))), [0, 0, 0]);
        // Another clock may be behind the one of those before.
        assert_eq!([3, 3, 7].map(|second| renewals.saw(at(second))), [1, 1, 2]);
    }
}

//! One look at the runtimes of a home that no Kina serves: nothing is started, and nothing written.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::api::cluster::RuntimeName;
use crate::controllers::Runtimes;
use crate::home::Home;
use crate::runtime::Runtime;
use crate::runtime::sim::SimRuntime;
use crate::system::last_known::{Sight, Sights};
use crate::world::World;

/// A runtime of this host lists within milliseconds; whoever looks waits no longer than this.
const ANSWER: Duration = Duration::from_secs(3);

/// Lists what there is on every runtime, once. The caller holds the home's lock, so nobody else is at work in it.
pub async fn look(home: &Home, world: &World, runtimes: &Runtimes) -> Sights {
    let installation = home.known_installation(world.files.as_ref()).ok().flatten();
    let real = runtimes.usable.iter().map(|(name, runtime)| async move { (*name, real(runtime.as_ref()).await) });
    let mut hosts: BTreeMap<RuntimeName, Sight> = futures::future::join_all(real).await.into_iter().collect();
    hosts.insert(RuntimeName::Sim, simulator(home).await);
    Sights { installation, hosts }
}

async fn real(runtime: &dyn Runtime) -> Sight {
    match tokio::time::timeout(ANSWER, runtime.list()).await {
        Ok(Ok(listing)) => Sight::Seen { listing, ends_with_process: runtime.capabilities().ends_with_process },
        Ok(Err(error)) => Sight::Silent(error.to_string()),
        Err(_) => Sight::Silent(no_answer()),
    }
}

async fn simulator(home: &Home) -> Sight {
    let directory = home.simulator();
    let reading = tokio::task::spawn_blocking(move || SimRuntime::look(&directory));
    match tokio::time::timeout(ANSWER, reading).await {
        Ok(Ok(Ok(listing))) => Sight::Seen { listing, ends_with_process: true },
        Ok(Ok(Err(error))) => Sight::Silent(error.to_string()),
        Ok(Err(error)) => Sight::Silent(error.to_string()),
        Err(_) => Sight::Silent(no_answer()),
    }
}

fn no_answer() -> String {
    format!("no answer within {} s", ANSWER.as_secs())
}

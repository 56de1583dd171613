//! What controllers work with: what they are given, and what both share.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::backoff::Backoff;
use super::cluster::addon_drift::Addons;
use super::clusters_api::ClustersApi;
use super::contexts::Contexts;
use super::derived::Derived;
use super::events::Events;
use super::host::Host;
use super::limit;
use super::memory::Memory;
use super::operations::Operations;
use super::proxies::Proxies;
use super::retry::EffectError;
use super::subnets::Reservations;
use super::views::View;
use super::wake::Waker;
use crate::api::cluster::RuntimeName;
use crate::api::{Cluster, Machine};
use crate::host_mounts::MountPolicy;
use crate::kubeadm::{Pki, pki};
use crate::kubeconfig;
use crate::observability::Metrics;
use crate::runtime::{InstallationId, Runtime};
use crate::world::World;

/// What controllers are given.
#[derive(Clone)]
pub struct Context {
    /// A client of Kina's API as [`crate::api::users::CONTROLLERS`].
    pub client: kube::Client,
    /// Clock, randomness, files and ports.
    pub world: World,
    /// The runtimes of this host.
    pub runtimes: Runtimes,
    /// Which Kina this is.
    pub installation: InstallationId,
    /// Where clusters' certificates lie: `$KINA_HOME/pki`.
    pub pki_directory: PathBuf,
    /// Which paths of the host machines may mount.
    pub mounts: MountPolicy,
    /// The user's kubeconfig.
    pub kubeconfig: kubeconfig::Target,
    /// How many operations, and simulated machines, are in work at once; of others, [`limit::parallelism`].
    pub parallelism: usize,
    /// What is counted and timed.
    pub metrics: Metrics,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("installation", &self.installation).finish_non_exhaustive()
    }
}

/// The runtimes of this host.
#[derive(Clone, Debug, Default)]
pub struct Runtimes {
    /// Those that are installed, whether they answer or not.
    pub usable: BTreeMap<RuntimeName, Arc<dyn Runtime>>,
    /// What `auto` means by somebody's word.
    pub named: Option<RuntimeName>,
    /// The host's way out, which nodes are told when they are made.
    pub proxies: Proxies,
}

impl Runtimes {
    /// What `auto` means here: what was named, else the one that is installed (Apple Container before Docker), and the
    /// simulator only where none is. One that does not answer counts as installed: choosing another would be wrong. `None`
    /// where there is none at all.
    #[must_use]
    pub fn auto(&self) -> Option<RuntimeName> {
        let is_real = |name: &RuntimeName| !matches!(name, RuntimeName::Sim | RuntimeName::Auto);
        let installed = || self.usable.keys().copied().find(is_real);
        let simulator = || self.usable.keys().copied().find(|name| *name == RuntimeName::Sim);
        self.named.or_else(installed).or_else(simulator)
    }
}

/// What both controllers share.
#[derive(Debug)]
pub struct Shared {
    /// What they were given.
    pub context: Context,
    /// Wakes objects.
    pub waker: Waker,
    /// Hosts by runtime.
    pub hosts: BTreeMap<RuntimeName, Arc<Host>>,
    /// The clusters themselves.
    pub api: ClustersApi,
    /// The user's kubeconfig.
    pub contexts: Contexts,
    /// What Kina installed in clusters.
    pub addons: Addons,
    /// Named operations.
    pub operations: Operations,
    /// Failures.
    pub backoff: Backoff,
    /// Subnets and ports that are being stored.
    pub reservations: Reservations,
    /// Events.
    pub events: Events,
    /// Clusters.
    pub clusters: View<Cluster>,
    /// Machines, by Cluster.
    pub machines: View<Machine>,
    /// What was seen by this process.
    pub memory: Memory,
    /// What follows from specs.
    pub derived: Derived,
    certificates: Mutex<BTreeMap<String, Arc<Pki>>>,
}

impl Shared {
    /// Gives a place back on whichever host it was held, and wakes those who wait for it.
    pub fn give_place_back(&self, holder: &str) {
        for waiting in self.hosts.values().flat_map(|host| host.places.give_back(holder)) {
            self.waker.machines.wake(&waiting);
        }
    }

    /// Everything, with nothing known yet.
    #[must_use]
    pub fn new(context: Context, clusters: View<Cluster>, machines: View<Machine>) -> Self {
        let waker = Waker::default();
        let woken = waker.clone();
        let operations = Operations::new(context.parallelism, move |waiting| {
            for name in waiting {
                match name.split_once('/') {
                    Some(("cluster", name)) => woken.clusters.wake(name),
                    Some(("machine", name)) => woken.machines.wake(name),
                    _ => {}
                }
            }
        });
        let hosts = context
            .runtimes
            .usable
            .iter()
            .map(|(name, runtime)| {
                let is_simulated = runtime.capabilities().ends_with_process;
                let parallelism = if is_simulated { context.parallelism } else { limit::parallelism() };
                (*name, Arc::new(Host::new(*name, Arc::clone(runtime), parallelism)))
            })
            .collect();
        Self {
            api: ClustersApi::new(waker.clone()),
            contexts: Contexts::new(
                context.world.clone(),
                context.kubeconfig.clone(),
                waker.clone(),
                context.metrics.clone(),
            ),
            addons: Addons::default(),
            backoff: Backoff::new(context.world.clone()),
            reservations: Reservations::default(),
            events: Events::new(context.client.clone(), context.world.clone()),
            memory: Memory::default(),
            derived: Derived::default(),
            certificates: Mutex::default(),
            context,
            waker,
            hosts,
            operations,
            clusters,
            machines,
        }
    }

    /// The host of a runtime.
    #[must_use]
    pub fn host(&self, name: RuntimeName) -> Option<&Arc<Host>> {
        self.hosts.get(&name)
    }

    /// The certificates of a cluster, made where there are none.
    ///
    /// # Errors
    /// Where they cannot be made, read or kept.
    pub fn certificates(&self, uid: &str) -> Result<Arc<Pki>, EffectError> {
        let now = self.context.world.clock.now();
        let mut known = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(uid).filter(|found| !found.needs_renewal(now)) {
            return Ok(Arc::clone(found));
        }
        let files = &*self.context.world.files;
        let made = pki::ensure(files, &self.context.pki_directory, uid, now).map_err(|error| EffectError::Local {
            operation: "make certificates for",
            object: uid.to_owned(),
            source: Box::new(error),
        })?;
        let made = Arc::new(made);
        known.insert(uid.to_owned(), Arc::clone(&made));
        Ok(made)
    }

    /// The certificates of a cluster, as far as this process has read or made them.
    #[must_use]
    pub fn known_certificates(&self, uid: &str) -> Option<Arc<Pki>> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Removes the certificates of a cluster.
    ///
    /// # Errors
    /// Where the directory cannot be removed.
    pub fn remove_certificates(&self, uid: &str) -> Result<(), EffectError> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| EffectError::Local {
            operation: "remove certificates of",
            object: uid.to_owned(),
            source,
        };
        let files = &*self.context.world.files;
        pki::remove(files, &self.context.pki_directory, uid).map_err(|error| failed(Box::new(error)))?;
        // Where nobody can tell whether they are gone, this failed: it is tried again, and not at once.
        match self.sees_certificates(uid) {
            Ok(false) => Ok(()),
            Ok(true) => Err(failed("they are still there".into())),
            Err(error) => Err(failed(Box::new(error))),
        }
    }

    /// Makes the certificates of a cluster; where somebody removed those that this process knows, they are kept again, since
    /// others would be another cluster's.
    ///
    /// # Errors
    /// Where they cannot be made, read or kept.
    pub fn make_certificates(&self, uid: &str) -> Result<(), EffectError> {
        let Some(known) = self.known_certificates(uid) else { return self.certificates(uid).map(drop) };
        let kept = pki::keep(&*self.context.world.files, &self.context.pki_directory, uid, &known);
        kept.map_err(|error| EffectError::Local {
            operation: "keep the certificates of",
            object: uid.to_owned(),
            source: Box::new(error),
        })
    }

    /// Whether certificates of a cluster are kept. Where nobody can tell, they are taken to be: none are made in their
    /// place, and none are left behind.
    #[must_use]
    pub fn has_certificates(&self, uid: &str) -> bool {
        self.sees_certificates(uid).unwrap_or(true)
    }

    fn sees_certificates(&self, uid: &str) -> io::Result<bool> {
        let directory = pki::directory(&self.context.pki_directory, uid);
        match self.context.world.files.link_metadata(&directory) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::apple::AppleRuntime;
    use crate::runtime::sim::{SimOptions, SimRuntime, SimStore};

    #[tokio::test]
    async fn auto_is_what_is_installed_before_the_simulator_and_what_was_named_before_both() {
        let world = World::simulated(1, "2026-01-01T00:00:00Z".parse().unwrap());
        let runtime: Arc<dyn Runtime> = SimRuntime::open(world, SimStore::Memory, SimOptions::default()).unwrap();
        let mut runtimes = Runtimes::default();
        assert_eq!(runtimes.auto(), None);
        runtimes.usable.insert(RuntimeName::Sim, Arc::clone(&runtime));
        assert_eq!(runtimes.auto(), Some(RuntimeName::Sim));
        let directory = tempfile::tempdir().unwrap();
        std::fs::copy("/bin/sh", directory.path().join("container")).unwrap();
        let directories = [directory.path().to_owned()];
        let apple = AppleRuntime::installed(&directories, "/stages".into(), World::real()).unwrap();
        runtimes.usable.insert(RuntimeName::Apple, Arc::new(apple));
        assert_eq!(runtimes.auto(), Some(RuntimeName::Apple), "never the simulator where a runtime is installed");
        runtimes.usable.insert(RuntimeName::Docker, runtime);
        assert_eq!(runtimes.auto(), Some(RuntimeName::Apple), "Apple Container goes first");
        runtimes.named = Some(RuntimeName::Sim);
        assert_eq!(runtimes.auto(), Some(RuntimeName::Sim));
    }
}

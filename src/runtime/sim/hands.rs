//! Hands inside the simulated world, behind Kina's back: what users, hosts and other programs do. For tests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::core::{Core, new_id};
use super::operations::{self, Refused};
use super::world::{Change, ContainerRecord};
use crate::runtime::{ContainerId, ContainerSpec, Listing, NetworkSpec, RuntimeError, VolumeSpec};
use tokio::time::Instant;

/// Acts on the world at once, past the gate and without latency. Objects are named by name.
#[derive(Clone, Copy, Debug)]
pub struct Hands<'a> {
    core: &'a Core,
}

/// What was asked of a hand cannot be done.
type Done = Result<(), RuntimeError>;

impl<'a> Hands<'a> {
    pub(super) fn new(core: &'a Core) -> Self {
        Self { core }
    }

    /// Everything there is, looked at from outside: no listing that Kina sees.
    #[must_use]
    pub fn listing(&self) -> Listing {
        self.core.read(|state| state.observed.listing(Instant::now()))
    }

    /// Stops a container, as `docker kill` does.
    ///
    /// # Errors
    /// Where there is none.
    pub fn stop_container(&self, name: &str) -> Done {
        let id = self.id(name)?;
        told(name, self.core.change(|tx, _| operations::stop_container(tx, &id, 137)))
    }

    /// Starts a container.
    ///
    /// # Errors
    /// As [`crate::runtime::Runtime::start_container`].
    pub fn start_container(&self, name: &str) -> Done {
        let id = self.id(name)?;
        told(name, self.core.start(&id))
    }

    /// Removes a container, running or not.
    ///
    /// # Errors
    /// Where there is none.
    pub fn remove_container(&self, name: &str) -> Done {
        let id = self.id(name)?;
        told(name, self.core.change(|tx, _| operations::remove_container(tx, &id)))
    }

    /// Ends the kubelet in a container, as a crash does that systemd gave up on. What runs goes on.
    ///
    /// # Errors
    /// Where there is no such container.
    pub fn stop_kubelet(&self, name: &str) -> Done {
        let id = self.id(name)?;
        let stopped = self.core.change(|tx, _| {
            tx.update(&id, |record: &mut ContainerRecord| {
                (record.inside.kubelet, record.inside.registered) = (None, false);
            });
            Ok(())
        });
        told(name, stopped)
    }

    /// Makes a container be what it was not created as: another image, other labels, resources, ports.
    ///
    /// # Errors
    /// Where there is none.
    pub fn alter_container(&self, name: &str, alter: impl FnOnce(&mut ContainerSpec)) -> Done {
        let id = self.id(name)?;
        let altered = self.core.change(|tx, _| {
            tx.update(&id, |record: &mut ContainerRecord| alter(&mut record.spec));
            Ok(())
        });
        told(name, altered)
    }

    /// Creates a container, its image being present at once. Without Kina's labels it is a foreign one.
    ///
    /// # Errors
    /// As [`crate::runtime::Runtime::create_container`].
    pub fn add_container(&self, spec: &ContainerSpec) -> Result<ContainerId, RuntimeError> {
        let id = new_id(&*self.core.world.random);
        let created = self.core.change(|tx, now| {
            tx.apply(Change::Image { name: spec.image.clone(), present: Some(now) });
            operations::create_container(tx, id.clone(), spec, now)
        });
        told(&spec.name, created)?;
        Ok(ContainerId(id))
    }

    /// Creates a network. Without Kina's labels it is a foreign one.
    ///
    /// # Errors
    /// As [`crate::runtime::Runtime::create_network`].
    pub fn add_network(&self, spec: &NetworkSpec) -> Done {
        let duplicates = self.core.options.duplicate_network_names;
        told(&spec.name, self.core.change(|tx, _| operations::create_network(tx, spec, duplicates)))
    }

    /// Removes a network, also from under containers that do not run.
    ///
    /// # Errors
    /// Where there is none, or a running container is attached.
    pub fn remove_network(&self, name: &str) -> Done {
        told(name, self.core.change(|tx, _| operations::force_remove_network(tx, name)))
    }

    /// Makes a network be what it was not created as.
    ///
    /// # Errors
    /// Where there is none.
    pub fn alter_network(&self, name: &str, alter: impl FnOnce(&mut NetworkSpec)) -> Done {
        told(name, self.core.change(|tx, _| operations::alter_network(tx, name, alter)))
    }

    /// Creates a volume.
    ///
    /// # Errors
    /// As [`crate::runtime::Runtime::create_volume`].
    pub fn add_volume(&self, spec: &VolumeSpec) -> Done {
        told(&spec.name, self.core.change(|tx, _| operations::create_volume(tx, spec)))
    }

    /// Removes a volume that no container has.
    ///
    /// # Errors
    /// As [`crate::runtime::Runtime::remove_volume`].
    pub fn remove_volume(&self, name: &str) -> Done {
        told(name, self.core.change(|tx, _| operations::remove_volume(tx, name)))
    }

    /// A file of a container; `None` where there is no such file, or no such container.
    #[must_use]
    pub fn file(&self, name: &str, path: &str) -> Option<Vec<u8>> {
        let id = self.id(name).ok()?;
        self.core.read(|state| state.file(&id, path)).map(|content| content.to_vec())
    }

    /// The routes of a container to the pods of other nodes, by range; `None` where none were set since it started.
    #[must_use]
    pub fn routes(&self, name: &str) -> Option<BTreeMap<String, Ipv4Addr>> {
        let id = self.id(name).ok()?;
        self.core.read(|state| state.containers.get(&id)?.inside.routes.clone())
    }

    /// Removes a file of a container, or all files below a directory.
    ///
    /// # Errors
    /// Where there is no such container.
    pub fn remove_file(&self, name: &str, path: &str) -> Done {
        let id = self.id(name)?;
        let removed = self.core.change(|tx, _| {
            tx.delete(&id, path);
            tx.touch(&id);
            Ok(())
        });
        told(name, removed)
    }

    /// Restarts the runtime: all running containers end, and start again where `again` is set.
    ///
    /// # Errors
    /// Where a container cannot start again.
    pub fn restart_runtime(&self, again: bool) -> Done {
        let running: Vec<String> = self.core.read(|state| {
            state.containers.iter().filter(|(_, record)| record.runs()).map(|(id, _)| id.clone()).collect()
        });
        for id in &running {
            told("sim", self.core.change(|tx, _| operations::stop_container(tx, id, 137)))?;
        }
        for id in running.iter().filter(|_| again) {
            told("sim", self.core.start(id))?;
        }
        Ok(())
    }

    fn id(&self, name: &str) -> Result<String, RuntimeError> {
        let id = self.core.read(|state| state.by_name(name).map(|(id, _)| id.to_owned()));
        let missing = || (crate::runtime::Cause::NotFound, format!("no such container: {name}"));
        told(name, id.ok_or_else(missing))
    }
}

fn told<T>(object: &str, result: Result<T, Refused>) -> Result<T, RuntimeError> {
    result.map_err(|(cause, message)| RuntimeError::new("reach into the world for", object, cause, message))
}

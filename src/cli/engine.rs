//! What the commands need of a whole Kina: find one that runs, run one here, or look at what one left.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kube::Client;

use super::error::CliError;
use crate::api::cluster::RuntimeName;
use crate::doctor::Facts;
use crate::home::Home;
use crate::kubeconfig::Target;
use crate::runtime::Networks;
use crate::runtime::workshop::Workshop;
use crate::system::last_known::Sights;

/// How a Kina is to run in this process.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its home.
    pub home: Home,
    /// Where contexts go.
    pub kubeconfig: Target,
    /// Directories to watch from now on, besides the home's own and those that were watched before.
    pub watch: Vec<PathBuf>,
    /// Directories not to watch any more.
    pub unwatch: Vec<PathBuf>,
}

/// A Kina, or a part of one, in this process.
pub struct Started {
    /// A client of it.
    pub client: Client,
    /// Holds it.
    pub handle: Box<dyn Handle>,
    /// What the runtimes show, where a store was opened to look and nothing keeps it current.
    pub sights: Option<Sights>,
}

/// Holds what was started.
#[async_trait]
pub trait Handle: Send {
    /// Waits until a part ends that should not; forever where there is none.
    async fn failed(&mut self) -> CliError;

    /// Finishes what is being written, and lets go of the home.
    async fn stop(self: Box<Self>);
}

/// The door from commands to the rest.
#[async_trait]
pub trait Engine: Send + Sync {
    /// A client of the process that serves the home; `None` where none does.
    ///
    /// # Errors
    /// When one does, and cannot be reached.
    async fn connect(&self, home: &Home) -> Result<Option<Client>, CliError>;

    /// A client of the process that serves the home, where one answers at once. Takes no lock, not even to look.
    async fn peek(&self, home: &Home) -> Option<Client>;

    /// Takes the home's lock and runs everything in this process.
    ///
    /// # Errors
    /// When the home cannot be had, or something cannot start.
    async fn start(&self, start: &Start) -> Result<Started, CliError>;

    /// Takes the home's lock and opens its store alone: nothing converges. Where there is no store one is made for
    /// [`Purpose::Write`], and for [`Purpose::Read`] the API is empty, and the runtimes are looked at, too.
    ///
    /// # Errors
    /// When the home cannot be had.
    async fn open(&self, home: &Home, purpose: Purpose) -> Result<Started, CliError>;

    /// The runtime that somebody names, or that `auto` means here, and which networks machines can be in there.
    ///
    /// # Errors
    /// Where it is not known which runtime is meant.
    async fn networks(&self, home: &Home, named: Option<RuntimeName>) -> Result<(RuntimeName, Networks), CliError>;

    /// Looks at everything that clusters need on this host. Changes nothing.
    ///
    /// # Errors
    /// Where it is not known which runtime is meant.
    async fn examine(&self, home: &Home) -> Result<Facts, CliError>;

    /// Starts Apple Container's service, whose words go to the person. Only after the person has asked for it.
    ///
    /// # Errors
    /// When it does not start in time.
    async fn start_service(&self) -> Result<(), CliError>;

    /// Where images can be made; `None` where nothing is installed that can.
    fn workshop(&self) -> Option<Arc<dyn Workshop>>;
}

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To look.
    Read,
    /// To record a wish.
    Write,
}

//! A look at everything that this runtime needs, for people: `kina doctor`. Nothing is changed.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::calls::{DOCUMENT_BYTES_MAX, QUESTION};
use super::create::ARCHITECTURE;
use super::failure::failed;
use super::version::Version;
use super::{AppleRuntime, documents};
use crate::runtime::{Listing, Runtime, RuntimeError};

/// What the look showed. What comes after a failure was not looked at.
#[derive(Debug)]
pub struct Examination {
    /// Of the command, if it can be driven.
    pub version: Result<Version, RuntimeError>,
    /// The service.
    pub service: Option<Result<Service, RuntimeError>>,
    /// Everything there is, and how long it took to list.
    pub listing: Option<(Result<Listing, RuntimeError>, Duration)>,
}

/// The service behind the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// In its own words: `running`, `not running`, `unregistered`.
    pub status: String,
    /// Its version, where it tells.
    pub version: Option<Version>,
    /// Whether machines have a kernel; `None` where the service's directory cannot be seen.
    pub has_kernel: Option<bool>,
}

impl Service {
    /// Whether it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.status == super::RUNNING
    }
}

impl AppleRuntime {
    /// Looks at command, service and what there is, in this order, each within its deadline.
    pub async fn examine(&self) -> Examination {
        let mut found = Examination { version: self.command.version().await, service: None, listing: None };
        if found.version.is_err() {
            return found;
        }
        let service = self.service().await;
        let runs = service.as_ref().is_ok_and(Service::runs);
        found.service = Some(service);
        if runs {
            let began = Instant::now();
            let listing = self.list().await;
            found.listing = Some((listing, began.elapsed()));
        }
        found
    }

    pub(super) async fn service(&self) -> Result<Service, RuntimeError> {
        let question = ["system", "status", "--format", "json"];
        let result = self.command.ask(&question, QUESTION, DOCUMENT_BYTES_MAX).await?;
        let told = result.as_ref().ok().map(|output| documents::service(&output.stdout));
        let Some(Ok(document)) = told else { return Err(failed("ask", "apple", &result)) };
        let has_kernel = document.root.as_deref().and_then(|root| self.has_kernel(root));
        Ok(Service { status: document.status, version: document.version, has_kernel })
    }

    /// No call tells of the kernel: the service keeps it as a file (`KernelService`, in the sources of 1.2.2).
    fn has_kernel(&self, root: &Path) -> Option<bool> {
        let files = self.world.files.as_ref();
        files.metadata(root).ok()?;
        Some(files.metadata(&root.join(format!("kernels/default.kernel-{ARCHITECTURE}"))).is_ok())
    }
}

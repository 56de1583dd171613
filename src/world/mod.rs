//! The only doors to the world: clock, randomness, file system, host ports.
//!
//! Everything above asks these traits, never the operating system, so that a whole Kina runs in one thread under
//! virtual time and from one seed. Waiting is not here: `tokio::time` already follows virtual time.

mod clock;
mod disk;
mod files;
mod memory;
mod ports;
mod random;

use std::sync::Arc;

pub use clock::{Clock, SystemClock, VirtualClock};
pub use disk::Disk;
pub use files::{FileIdentity, FileKind, FileSystem, Metadata, Watching};
pub use memory::MemoryFiles;
pub use ports::{HostPorts, LoopbackPorts, SequentialPorts};
pub use random::{Random, SeededRandom, SystemRandom, uuid};

/// The doors, held together. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct World {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Random numbers that are not secrets.
    pub random: Arc<dyn Random>,
    /// The host's files.
    pub files: Arc<dyn FileSystem>,
    /// Free ports of the host.
    pub ports: Arc<dyn HostPorts>,
}

impl World {
    /// The real world.
    #[must_use]
    pub fn real() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            files: Arc::new(Disk),
            ports: Arc::new(LoopbackPorts),
        }
    }

    /// A world that follows from a seed: virtual time from `start`, seeded numbers, files in memory, made-up ports.
    #[must_use]
    pub fn simulated(seed: u64, start: jiff::Timestamp) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::starting_at(start));
        Self {
            files: Arc::new(MemoryFiles::new(Arc::clone(&clock))),
            clock,
            random: Arc::new(SeededRandom::new(seed)),
            ports: Arc::new(SequentialPorts::default()),
        }
    }
}

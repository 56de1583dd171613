//! Free ports of the host.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Finds ports that nothing listens on.
pub trait HostPorts: Send + Sync + Debug {
    /// A TCP port of `address` that is free now. Nothing keeps it free.
    ///
    /// # Errors
    /// When the address does not belong to this host, or no port is left.
    fn free_port(&self, address: IpAddr) -> io::Result<u16>;
}

/// Asks the operating system by listening for a moment.
#[derive(Clone, Copy, Debug)]
pub struct LoopbackPorts;

impl HostPorts for LoopbackPorts {
    fn free_port(&self, address: IpAddr) -> io::Result<u16> {
        Ok(TcpListener::bind((address, 0))?.local_addr()?.port())
    }
}

/// Counts upwards from 40000; for worlds without sockets.
#[derive(Debug)]
pub struct SequentialPorts {
    next: AtomicU16,
}

impl Default for SequentialPorts {
    fn default() -> Self {
        Self { next: AtomicU16::new(40_000) }
    }
}

impl HostPorts for SequentialPorts {
    fn free_port(&self, _address: IpAddr) -> io::Result<u16> {
        match self.next.fetch_add(1, Ordering::Relaxed) {
            port @ 40_000.. => Ok(port),
            _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "no port left")),
        }
    }
}

//! Addresses on top of those that the runtime hands out: what the script of that name does in a container.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::exec::{Output, says};
use super::world::Tx;

/// The script, what it is told for life, and what it was told last of the others.
pub(super) const SCRIPT_PATH: &str = "/kina/overlay/run";
pub(super) const CONFIG_PATH: &str = "/kina/overlay/config";
pub(super) const PEERS_PATH: &str = "/kina/overlay/peers";

/// A container's address that stays, and where it takes the others to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overlay {
    pub address: Ipv4Addr,
    pub peers: BTreeMap<Ipv4Addr, Ipv4Addr>,
}

impl Overlay {
    /// From the script's files. Peers that are not whole are none.
    pub fn parse(config: Option<&[u8]>, peers: Option<&[u8]>) -> Option<Self> {
        let config = std::str::from_utf8(config?).ok()?;
        let (address, _) = config.split_whitespace().next()?.split_once('/')?;
        let text = std::str::from_utf8(peers.unwrap_or_default()).unwrap_or_default();
        let entry = |line: &str| {
            let (stays, now) = line.split_once(' ')?;
            Some((stays.parse().ok()?, now.parse().ok()?))
        };
        let whole = text.strip_suffix("end\n").unwrap_or_default();
        Some(Self { address: address.parse().ok()?, peers: whole.lines().filter_map(entry).collect() })
    }

    /// Whether an address is of the subnet on top.
    pub fn spans(&self, address: Ipv4Addr) -> bool {
        self.address.octets()[..3] == address.octets()[..3]
    }
}

/// `run peers`
pub(super) fn take_peers(tx: &mut Tx<'_>, id: &str, peers: &[u8]) -> Result<Output, String> {
    if tx.state.file(id, SCRIPT_PATH).is_none() {
        return Err(format!("bash: {SCRIPT_PATH}: No such file or directory\n"));
    }
    tx.write(id, PEERS_PATH, 0o644, peers.to_vec());
    tx.touch(id);
    Ok(says(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_files_are_read_as_it_reads_them() {
        let parse = |peers: &[u8]| Overlay::parse(Some(b"10.160.3.10/24 696323\n"), Some(peers)).unwrap();
        let overlay = parse(b"10.160.3.11 172.0.0.4\nend\n");
        assert_eq!((overlay.address, overlay.peers.len()), ([10, 160, 3, 10].into(), 1));
        assert!(overlay.spans([10, 160, 3, 2].into()) && !overlay.spans([172, 0, 0, 4].into()));
        assert!(parse(b"10.160.3.11 172.0.0.4\n").peers.is_empty(), "half a file is none");
        assert_eq!(Overlay::parse(None, Some(b"end\n")), None);
    }
}

//! IPv4 subnets.

use std::net::Ipv4Addr;

/// A subnet, by its first and last address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    first: u32,
    last: u32,
}

impl Subnet {
    /// From CIDR form with a network address: `10.160.3.0/24`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
        let first = u32::from(address.parse::<Ipv4Addr>().ok()?);
        let hosts = u32::MAX.checked_shr(bits).unwrap_or_default();
        (first & hosts == 0).then_some(Self { first, last: first | hosts })
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The addresses that containers can have: all but the network's, the gateway's (the first) and the broadcast.
    pub fn usable(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (self.first.saturating_add(2)..self.last).map(Ipv4Addr::from)
    }

    pub fn allows(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        address >= self.first.saturating_add(2) && address < self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_leaves_out_its_ends_and_its_gateway() {
        let subnet = Subnet::parse("10.160.3.0/29").unwrap();
        let usable: Vec<String> = subnet.usable().map(|address| address.to_string()).collect();
        assert_eq!(usable, ["10.160.3.2", "10.160.3.3", "10.160.3.4", "10.160.3.5", "10.160.3.6"]);
        assert!(!subnet.allows("10.160.3.1".parse().unwrap()) && !subnet.allows("10.160.3.7".parse().unwrap()));
        assert!(subnet.overlaps(&Subnet::parse("10.160.0.0/16").unwrap()));
        assert!(!subnet.overlaps(&Subnet::parse("10.160.3.8/29").unwrap()));
        assert!(Subnet::parse("10.160.3.1/24").is_none() && Subnet::parse("10.160.3.0/33").is_none());
        assert!(Subnet::parse("0.0.0.0/0").is_some());
    }
}

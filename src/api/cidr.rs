//! IPv4 subnets.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 subnet in CIDR form, with no host bits set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    base: u32,
    length: u8,
}

/// A text that is no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not `ADDRESS/LENGTH`.
    #[error("`{text}` is not an IPv4 subnet such as `10.244.0.0/16`")]
    Malformed {
        /// The text.
        text: String,
    },
    /// The address has bits beyond the length.
    #[error("`{text}` has host bits set; did you mean `{network}`?")]
    HostBits {
        /// The text.
        text: String,
        /// The subnet that the address lies in.
        network: Cidr,
    },
}

impl Cidr {
    /// The subnet of this length that an address lies in; lengths above 32 count as 32.
    #[must_use]
    pub fn containing(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        Self { base: u32::from(address) & mask(length), length }
    }

    /// Number of leading bits, 0 to 32.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// The address `index` places after the first one, where the subnet is that large.
    #[must_use]
    pub fn address(self, index: u32) -> Option<Ipv4Addr> {
        (u64::from(index) < self.size()).then(|| Ipv4Addr::from(self.base + index))
    }

    /// How many places an address is after the first one, where it lies in the subnet.
    #[must_use]
    pub fn place(self, address: Ipv4Addr) -> Option<u32> {
        self.contains(address).then(|| u32::from(address) - self.base)
    }

    /// The subnet of this length that is `index` such after the first one, where there are that many.
    #[must_use]
    pub fn part(self, length: u8, index: u32) -> Option<Self> {
        let more = length.checked_sub(self.length).filter(|_| length <= 32)?;
        let start = u64::from(index) << (32 - length);
        (u64::from(index) < 1 << more)
            .then(|| u32::try_from(start).ok())
            .flatten()
            .map(|start| Self { base: self.base + start, length })
    }

    /// Number of addresses.
    #[must_use]
    pub fn size(self) -> u64 {
        1 << (32 - self.length)
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.length) == self.base
    }

    /// Whether an address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask(self.length.min(other.length));
        self.base & shorter == other.base & shorter
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed { text: text.to_owned() };
        let (address, length) = text.split_once('/').ok_or_else(malformed)?;
        let address: Ipv4Addr = address.parse().map_err(|_| malformed())?;
        let plain = (1..=2).contains(&length.len()) && length.bytes().all(|b| b.is_ascii_digit());
        let length = plain.then(|| length.parse().ok()).flatten().filter(|&n| n <= 32).ok_or_else(malformed)?;
        let network = Self::containing(address, length);
        if network.base != u32::from(address) {
            return Err(CidrError::HostBits { text: text.to_owned(), network });
        }
        Ok(network)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.length)
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_read_written_and_counted() {
        assert_eq!(cidr("10.244.0.0/16").to_string(), "10.244.0.0/16");
        assert_eq!(cidr("10.160.3.0/24").address(10), Some(Ipv4Addr::new(10, 160, 3, 10)));
        assert_eq!(cidr("10.160.3.0/24").address(256), None);
        assert_eq!(cidr("0.0.0.0/0").size(), 1 << 32);
        for bad in ["10.244.0.0", "10.244.0.0/33", "10.244.0.0/+8", "10.244/16", "::/64", ""] {
            assert!(matches!(bad.parse::<Cidr>(), Err(CidrError::Malformed { .. })), "{bad}");
        }
        let host_bits = "10.244.1.0/16".parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(host_bits, "`10.244.1.0/16` has host bits set; did you mean `10.244.0.0/16`?");
    }

    #[test]
    fn a_subnet_has_parts_that_lie_side_by_side() {
        let pods = cidr("10.244.0.0/16");
        assert_eq!(pods.part(24, 0).unwrap().to_string(), "10.244.0.0/24");
        assert_eq!(pods.part(24, 255).unwrap().to_string(), "10.244.255.0/24");
        assert_eq!(pods.part(24, 256), None);
        assert_eq!(cidr("10.1.2.0/24").part(24, 0), Some(cidr("10.1.2.0/24")));
        assert_eq!((cidr("10.1.2.0/24").part(23, 0), pods.part(33, 0)), (None, None));
        assert_eq!(cidr("0.0.0.0/0").part(32, u32::MAX).unwrap().to_string(), "255.255.255.255/32");
        assert_eq!(cidr("10.160.3.0/24").place(Ipv4Addr::new(10, 160, 3, 12)), Some(12));
        assert_eq!(cidr("10.160.3.0/24").place(Ipv4Addr::new(10, 160, 4, 12)), None);
    }

    #[test]
    fn overlap_is_symmetric() {
        let (large, small, other) = (cidr("10.0.0.0/8"), cidr("10.160.3.0/24"), cidr("192.168.0.0/16"));
        assert!(large.overlaps(small) && small.overlaps(large));
        assert!(!other.overlaps(small) && !small.overlaps(other));
    }
}

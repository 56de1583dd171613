//! Subnets, of IPv4 and of IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::cluster::IpFamily;

/// An IPv4 subnet in CIDR form, with no host bits set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    base: u32,
    length: u8,
}

/// An IPv6 subnet in CIDR form, with no host bits set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr6 {
    base: u128,
    length: u8,
}

/// A subnet of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnyCidr {
    /// Of IPv4.
    V4(Cidr),
    /// Of IPv6.
    V6(Cidr6),
}

/// What pods or services have their addresses from: one subnet, or one of each family, the primary one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnets {
    first: AnyCidr,
    second: Option<AnyCidr>,
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
    /// The same, of IPv6.
    #[error("`{text}` is not an IPv6 subnet such as `fd00:10:244::/56`")]
    Malformed6 {
        /// The text.
        text: String,
    },
    /// Not one subnet of each family.
    #[error("`{text}` is not a subnet of each family such as `10.244.0.0/16,fd00:10:244::/56`")]
    NotDual {
        /// The text.
        text: String,
    },
    /// The address has bits beyond the length.
    #[error("`{text}` has host bits set; did you mean `{network}`?")]
    HostBits {
        /// The text.
        text: String,
        /// The subnet that the address lies in.
        network: AnyCidr,
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
        let (address, length) = parts::<Ipv4Addr>(text, 32).ok_or_else(malformed)?;
        let network = Self::containing(address, length);
        if network.base != u32::from(address) {
            return Err(CidrError::HostBits { text: text.to_owned(), network: AnyCidr::V4(network) });
        }
        Ok(network)
    }
}

/// Address and length of `ADDRESS/LENGTH`.
fn parts<A: FromStr>(text: &str, longest: u8) -> Option<(A, u8)> {
    let (address, length) = text.split_once('/')?;
    let plain = (1..=3).contains(&length.len()) && length.bytes().all(|b| b.is_ascii_digit());
    let length = plain.then(|| length.parse().ok()).flatten().filter(|&length| length <= longest)?;
    Some((address.parse().ok()?, length))
}

impl Cidr6 {
    /// The subnet of this length that an address lies in; lengths above 128 count as 128.
    #[must_use]
    pub fn containing(address: Ipv6Addr, length: u8) -> Self {
        let length = length.min(128);
        Self { base: u128::from(address) & mask6(length), length }
    }

    /// Number of leading bits, 0 to 128.
    #[must_use]
    pub fn length(self) -> u8 {
        self.length
    }

    /// The address `index` places after the first one, where the subnet is that large.
    #[must_use]
    pub fn address(self, index: u128) -> Option<Ipv6Addr> {
        (index & mask6(self.length) == 0).then(|| Ipv6Addr::from(self.base | index))
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv6Addr) -> bool {
        u128::from(address) & mask6(self.length) == self.base
    }

    /// Whether an address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask6(self.length.min(other.length));
        self.base & shorter == other.base & shorter
    }
}

impl FromStr for Cidr6 {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed6 { text: text.to_owned() };
        let (address, length) = parts::<Ipv6Addr>(text, 128).ok_or_else(malformed)?;
        let network = Self::containing(address, length);
        if network.base != u128::from(address) {
            return Err(CidrError::HostBits { text: text.to_owned(), network: AnyCidr::V6(network) });
        }
        Ok(network)
    }
}

impl AnyCidr {
    /// Number of leading bits.
    #[must_use]
    pub fn length(self) -> u8 {
        match self {
            Self::V4(cidr) => cidr.length(),
            Self::V6(cidr) => cidr.length(),
        }
    }

    /// The address `index` places after the first one, where the subnet is that large.
    #[must_use]
    pub fn address(self, index: u32) -> Option<IpAddr> {
        match self {
            Self::V4(cidr) => cidr.address(index).map(IpAddr::V4),
            Self::V6(cidr) => cidr.address(index.into()).map(IpAddr::V6),
        }
    }

    /// Whether it is of IPv6.
    #[must_use]
    pub fn is_v6(self) -> bool {
        matches!(self, Self::V6(_))
    }

    /// Whether an address lies in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        match (self, other) {
            (Self::V4(one), Self::V4(other)) => one.overlaps(other),
            (Self::V6(one), Self::V6(other)) => one.overlaps(other),
            _ => false,
        }
    }
}

impl FromStr for AnyCidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        if text.contains(':') { text.parse().map(Self::V6) } else { text.parse().map(Self::V4) }
    }
}

impl Subnets {
    /// What a cluster of this family asks for.
    ///
    /// # Errors
    /// [`CidrError`] for what is none, or none of this family.
    pub fn parse(text: &str, family: IpFamily) -> Result<Self, CidrError> {
        let one = |first| Self { first, second: None };
        match family {
            IpFamily::Ipv4 => text.parse().map(AnyCidr::V4).map(one),
            IpFamily::Ipv6 => text.parse().map(AnyCidr::V6).map(one),
            IpFamily::Dual => {
                let not_dual = || CidrError::NotDual { text: text.to_owned() };
                let (first, second) = text.split_once(',').ok_or_else(not_dual)?;
                let (first, second): (AnyCidr, AnyCidr) = (first.parse()?, second.parse()?);
                if first.is_v6() == second.is_v6() {
                    return Err(not_dual());
                }
                Ok(Self { first, second: Some(second) })
            }
        }
    }

    /// Whether IPv6 is the primary family.
    #[must_use]
    pub fn begins_with_v6(self) -> bool {
        self.first.is_v6()
    }

    /// The one of IPv4, if there is one.
    #[must_use]
    pub fn v4(self) -> Option<Cidr> {
        self.each().find_map(|subnet| match subnet {
            AnyCidr::V4(subnet) => Some(subnet),
            AnyCidr::V6(_) => None,
        })
    }

    /// Each of them, the primary one first.
    pub fn each(self) -> impl Iterator<Item = AnyCidr> {
        std::iter::once(self.first).chain(self.second)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.length)
    }
}

impl fmt::Display for Cidr6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv6Addr::from(self.base), self.length)
    }
}

impl fmt::Display for AnyCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(cidr) => cidr.fmt(f),
            Self::V6(cidr) => cidr.fmt(f),
        }
    }
}

impl fmt::Display for Subnets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.second.map_or(Ok(()), |second| write!(f, ",{second}"))
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn mask6(length: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn subnets_of_ipv6_are_read_and_written() {
        let cidr6 = |text: &str| text.parse::<Cidr6>().unwrap();
        assert_eq!(cidr6("fd00:10:244::/56").to_string(), "fd00:10:244::/56");
        assert_eq!(cidr6("fd00:10:96::/112").address(10).unwrap().to_string(), "fd00:10:96::a");
        assert_eq!(cidr6("fd00:10:96::/112").address(1 << 16), None);
        assert_eq!(cidr6("::/0").address(u128::MAX).unwrap(), Ipv6Addr::from(u128::MAX));
        for bad in ["10.244.0.0/16", "fd00::", "fd00::/129", "fd00::/+8", "fd00::/0064", "fd00:::/64", ""] {
            assert!(matches!(bad.parse::<Cidr6>(), Err(CidrError::Malformed6 { .. })), "{bad}");
        }
        let host_bits = "fd00::1/64".parse::<Cidr6>().unwrap_err().to_string();
        assert_eq!(host_bits, "`fd00::1/64` has host bits set; did you mean `fd00::/64`?");
    }

    #[test]
    fn a_family_tells_how_many_subnets_there_are_and_their_order_which_is_primary() {
        let parse = |text: &str, family| Subnets::parse(text, family).map_err(|error| error.to_string());
        let (four, six) = ("10.244.0.0/16", "fd00:10:244::/56");
        assert!(!parse(four, IpFamily::Ipv4).unwrap().begins_with_v6());
        assert!(parse(six, IpFamily::Ipv6).unwrap().begins_with_v6());
        for both in [format!("{four},{six}"), format!("{six},{four}")] {
            let found = parse(&both, IpFamily::Dual).unwrap();
            assert_eq!(found.to_string(), both);
            assert_eq!(found.begins_with_v6(), both.starts_with(six));
        }
        let both = format!("{four},{six}");
        for (text, family) in
            [(six, IpFamily::Ipv4), (&*both, IpFamily::Ipv4), (four, IpFamily::Ipv6), (&*both, IpFamily::Ipv6)]
        {
            assert!(parse(text, family).is_err(), "{text}");
        }
        for text in [four, six, "10.1.0.0/16,10.2.0.0/16", ""] {
            let error = parse(text, IpFamily::Dual).unwrap_err();
            assert_eq!(
                error,
                format!("`{text}` is not a subnet of each family such as `10.244.0.0/16,fd00:10:244::/56`")
            );
        }
        assert!(parse(&format!("{both},10.3.0.0/16"), IpFamily::Dual).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(four: u32, six: u128, length in 0_u8..=32, longer in 0_u8..=128, first: bool) {
            let four = AnyCidr::V4(Cidr::containing(Ipv4Addr::from(four), length));
            let six = AnyCidr::V6(Cidr6::containing(Ipv6Addr::from(six), longer));
            prop_assert_eq!(four.to_string().parse::<AnyCidr>().unwrap(), four);
            prop_assert_eq!(six.to_string().parse::<AnyCidr>().unwrap(), six);
            let (first, second) = if first { (four, six) } else { (six, four) };
            let both = Subnets { first, second: Some(second) };
            prop_assert_eq!(Subnets::parse(&both.to_string(), IpFamily::Dual).unwrap(), both);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            for family in [IpFamily::Ipv4, IpFamily::Ipv6, IpFamily::Dual] {
                if let Ok(found) = Subnets::parse(&text, family) {
                    prop_assert_eq!(Subnets::parse(&found.to_string(), family).unwrap(), found);
                }
            }
        }
    }
}

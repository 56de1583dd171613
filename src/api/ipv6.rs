//! Addresses of machines in IPv6. Each follows from the one in IPv4, which a machine keeps for life: nothing has to be stored,
//! and subnets of machines that do not overlap in IPv4 do not overlap here.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::cidr::{Cidr, Cidr6};

/// Where all of them lie: unique local addresses (RFC 4193) whose global id is "kina" and the first octet of the address in
/// IPv4; the next two octets name the subnet.
pub const NODE_SUBNETS: &str = "fd6b:696e:6100::/40";

const KINA: [u8; 5] = [0xfd, b'k', b'i', b'n', b'a'];

/// The address beside one in IPv4: `fd6b:696e:610a:a003::a` beside `10.160.3.10`.
#[must_use]
pub fn beside(address: Ipv4Addr) -> Ipv6Addr {
    let [fd, k, i, n, a] = KINA;
    let [first, second, third, host] = address.octets();
    Ipv6Addr::from([fd, k, i, n, a, first, second, third, 0, 0, 0, 0, 0, 0, 0, host])
}

/// The /64 beside a subnet of machines, a /24.
#[must_use]
pub fn node_subnet(subnet: Cidr) -> Cidr6 {
    Cidr6::containing(beside(subnet.address(0).unwrap_or(Ipv4Addr::UNSPECIFIED)), 64)
}

/// The subnet of IPv4 that is not free for machines where one of IPv6 is taken: machines of it would have addresses there.
#[must_use]
pub fn taken_by(subnet: Cidr6) -> Option<Cidr> {
    let all: Cidr6 = NODE_SUBNETS.parse().ok()?;
    if !all.overlaps(subnet) {
        return None;
    }
    let [_, _, _, _, _, first, second, third, ..] = subnet.address(0)?.octets();
    let length = subnet.length().saturating_sub(all.length()).min(24);
    Some(Cidr::containing(Ipv4Addr::new(first, second, third, 0), length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subnet_and_an_address_tell_which_ones_they_are_beside() {
        let subnet: Cidr = "10.160.3.0/24".parse().unwrap();
        assert_eq!(node_subnet(subnet).to_string(), "fd6b:696e:610a:a003::/64");
        assert_eq!(beside(Ipv4Addr::new(10, 160, 3, 10)).to_string(), "fd6b:696e:610a:a003::a");
    }

    #[test]
    fn what_is_taken_in_ipv6_is_not_free_beside_it() {
        let taken = |text: &str| taken_by(text.parse().unwrap()).map(|subnet| subnet.to_string());
        assert_eq!(taken("fd6b:696e:610a:a003::/64").as_deref(), Some("10.160.3.0/24"));
        assert_eq!(taken("fd6b:696e:610a:a003::10/124").as_deref(), Some("10.160.3.0/24"));
        assert_eq!(taken("fd6b:696e:610a:a000::/56").as_deref(), Some("10.160.0.0/16"));
        assert_eq!(taken("fd00::/8").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(taken("fd00::/64"), None);
    }

    proptest! {
        #[test]
        fn addresses_lie_in_the_subnet_beside_their_own_and_never_in_another(one: u32, other: u32) {
            let cidr = |address: u32| Cidr::containing(Ipv4Addr::from(address), 24);
            let all: Cidr6 = NODE_SUBNETS.parse().unwrap();
            prop_assert!(node_subnet(cidr(one)).contains(beside(Ipv4Addr::from(one))));
            prop_assert!(all.overlaps(node_subnet(cidr(one))));
            prop_assert_eq!(taken_by(node_subnet(cidr(one))), Some(cidr(one)));
            prop_assert_eq!(cidr(one).overlaps(cidr(other)), node_subnet(cidr(one)).overlaps(node_subnet(cidr(other))));
            prop_assert_eq!(one == other, beside(Ipv4Addr::from(one)) == beside(Ipv4Addr::from(other)));
        }
    }
}

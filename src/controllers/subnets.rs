//! Free subnets and ports, reserved in this process until they are stored.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::cidr::Cidr;
use crate::api::defaults::NODE_SUBNETS;

/// Length of a cluster's subnet for machines.
const NODE_SUBNET_LENGTH: u8 = 24;

/// A subnet and ports.
type Held = (Cidr, Vec<u16>);

/// Reservations by the UID of the Cluster. One entry a Cluster whose defaults are just being stored.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    held: Arc<Mutex<BTreeMap<String, Held>>>,
}

impl Reservations {
    /// A subnet and so many ports that nobody has or has reserved, for this Cluster alone until [`Self::release`]. The same
    /// answer for the same Cluster. `port` is asked for candidates.
    pub fn reserve<E>(
        &self,
        uid: &str,
        subnets_taken: &[Cidr],
        count: usize,
        mut port: impl FnMut(&[u16]) -> Result<u16, E>,
    ) -> Result<Option<Held>, E> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = held.get(uid).filter(|(_, ports)| ports.len() == count) {
            return Ok(Some(found.clone()));
        }
        held.remove(uid);
        let reserved: Vec<Cidr> = held.values().map(|(subnet, _)| *subnet).collect();
        let mut taken: Vec<u16> = held.values().flat_map(|(_, ports)| ports.iter().copied()).collect();
        let Some(subnet) = free_subnet(subnets_taken.iter().chain(&reserved)) else { return Ok(None) };
        let mut ports = Vec::with_capacity(count);
        for _ in 0..count {
            let free = port(&taken)?;
            taken.push(free);
            ports.push(free);
        }
        let found = (subnet, ports);
        held.insert(uid.to_owned(), found.clone());
        Ok(Some(found))
    }

    /// Ends a reservation: what was reserved is stored, or its Cluster is gone.
    pub fn release(&self, uid: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// The lowest /24 for machines that overlaps with none of these.
#[must_use]
pub fn free_subnet<'a>(taken: impl Iterator<Item = &'a Cidr>) -> Option<Cidr> {
    let pool: Cidr = NODE_SUBNETS.parse().ok()?;
    let step = 1_u32 << (32 - u32::from(NODE_SUBNET_LENGTH));
    let count = u32::try_from(pool.size()).ok()? / step;
    // One bit a candidate: every taken subnet is looked at once, however many there are.
    let mut free = vec![true; usize::try_from(count).ok()?];
    let first = u32::from(pool.address(0)?);
    for subnet in taken.filter(|subnet| subnet.overlaps(pool)) {
        let Some(base) = subnet.address(0).map(u32::from) else { continue };
        let from = base.saturating_sub(first) / step;
        let last = u64::from(base) + subnet.size() - 1 - u64::from(first.min(base));
        let to = u32::try_from(last / u64::from(step)).unwrap_or(count).min(count - 1);
        for index in from..=to {
            if let Some(slot) = usize::try_from(index).ok().and_then(|index| free.get_mut(index)) {
                *slot = false;
            }
        }
    }
    let index = u32::try_from(free.iter().position(|free| *free)?).ok()?;
    Some(Cidr::containing(pool.address(index * step)?, NODE_SUBNET_LENGTH))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn free(taken: &[&str]) -> Option<String> {
        free_subnet(cidrs(taken).iter()).map(|cidr| cidr.to_string())
    }

    #[test]
    fn the_lowest_free_subnet_is_taken() {
        assert_eq!(free(&[]).unwrap(), "10.160.0.0/24");
        assert_eq!(free(&["10.160.0.0/24", "10.160.2.0/24", "172.17.0.0/16"]).unwrap(), "10.160.1.0/24");
        assert_eq!(free(&["10.160.0.0/16"]).unwrap(), "10.161.0.0/24");
        assert_eq!(free(&["10.128.0.0/10", "10.0.0.0/8"]), None);
    }

    #[test]
    fn a_reservation_holds_until_it_is_released() {
        let reservations = Reservations::default();
        let mut next = 40_000;
        let mut port = |_: &[u16]| -> Result<u16, ()> {
            next += 1;
            Ok(next)
        };
        let first = reservations.reserve("a", &[], 2, &mut port).unwrap().unwrap();
        assert_eq!(reservations.reserve("a", &[], 2, &mut port).unwrap().unwrap(), first);
        let second = reservations.reserve("b", &[], 1, &mut port).unwrap().unwrap();
        assert_ne!(first.0, second.0);
        assert_eq!((&first.1[..], &second.1[..]), (&[40_001, 40_002][..], &[40_003][..]));
        reservations.release("a");
        assert_eq!(reservations.reserve("c", &[], 1, &mut port).unwrap().unwrap().0, first.0);
    }

    proptest! {
        #[test]
        fn what_is_free_overlaps_with_nothing(
            taken in proptest::collection::vec((any::<u32>(), 8_u8..=32), 0..40)
        ) {
            let taken: Vec<Cidr> =
                taken.into_iter().map(|(base, length)| Cidr::containing(base.into(), length)).collect();
            if let Some(found) = free_subnet(taken.iter()) {
                prop_assert!(taken.iter().all(|taken| !taken.overlaps(found)));
            } else {
                prop_assert!(taken.iter().any(|taken| taken.length() <= 11));
            }
        }
    }
}

//! Random numbers for names, jitter and identifiers. Never for keys: those come from the cryptography library.

use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::PoisonError;

/// A source of random numbers.
pub trait Random: Send + Sync + Debug {
    /// The next number, uniform over all of `u64`.
    fn next_u64(&self) -> u64;
}

/// The operating system's entropy.
#[derive(Clone, Copy, Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        // Without entropy the host is unusable for anything else too; the thread-local generator is then good enough
        // for names and jitter.
        getrandom::u64().unwrap_or_else(|_| fastrand::u64(..))
    }
}

/// A sequence that follows from a seed (splitmix64, Steele et al. 2014).
#[derive(Debug)]
pub struct SeededRandom {
    state: Mutex<u64>,
}

impl SeededRandom {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A version 4 UUID in its usual text form (RFC 9562, section 5.4).
pub fn uuid(random: &dyn Random) -> String {
    let high = (random.next_u64() & 0xffff_ffff_ffff_0fff) | 0x4000;
    let low = (random.next_u64() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_sequence() {
        let (left, right) = (SeededRandom::new(7), SeededRandom::new(7));
        let draw = |random: &SeededRandom| (0..5).map(|_| random.next_u64()).collect::<Vec<_>>();
        assert_eq!(draw(&left), draw(&right));
        assert_ne!(draw(&left), draw(&SeededRandom::new(8)));
    }

    #[test]
    fn a_uuid_carries_version_and_variant() {
        let text = uuid(&SeededRandom::new(1));
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
    }
}

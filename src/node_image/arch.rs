//! Architectures of processors, by the names that Kubernetes, kernels and programs have for them.

use std::fmt;

/// An architecture that Kubernetes is released for, and node images are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// `x86_64`.
    Amd64,
    /// `aarch64`.
    Arm64,
    /// 64-bit POWER, little-endian.
    Ppc64le,
    /// IBM Z.
    S390x,
}

/// So many bytes of a program tell what it runs on.
pub const HEADER_BYTES: usize = 20;

impl Arch {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Amd64, Self::Arm64, Self::Ppc64le, Self::S390x];

    /// As Kubernetes and images of containers call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Ppc64le => "ppc64le",
            Self::S390x => "s390x",
        }
    }

    /// By a name of its own, or of the kernel's (`uname -m`).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            name => Self::ALL.into_iter().find(|arch| arch.as_str() == name),
        }
    }

    /// Of a program, by its first [`HEADER_BYTES`].
    #[must_use]
    pub fn of_program(header: &[u8]) -> Machine {
        let (Some(b"\x7fELF"), Some(&class), Some(&order), Some(&low), Some(&high)) =
            (header.get(..4), header.get(4), header.get(5), header.get(18), header.get(19))
        else {
            return Machine::NoProgram;
        };
        // ELF: 2 is 64 bits, 2 is big-endian; the numbers of machines are those of its registry.
        let number = if order == 2 { u16::from_be_bytes([low, high]) } else { u16::from_le_bytes([low, high]) };
        match (class, order, number) {
            (2, 1, 0x3e) => Machine::Known(Self::Amd64),
            (2, 1, 0xb7) => Machine::Known(Self::Arm64),
            (2, 1, 0x15) => Machine::Known(Self::Ppc64le),
            (2, 2, 0x16) => Machine::Known(Self::S390x),
            (_, _, number) => Machine::Other(number),
        }
    }
}

/// What a program says it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Linux's way of writing programs, for this one.
    Known(Arch),
    /// The same, for another one, by its number.
    Other(u16),
    /// It is no program of Linux's.
    NoProgram,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(arch) => write!(f, "a program for {arch}"),
            Self::Other(number) => write!(f, "a program for the machine {number:#x} of ELF"),
            Self::NoProgram => f.write_str("no program of Linux's"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(class: u8, order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut header = b"\x7fELF".to_vec();
        header.extend([class, order]);
        header.resize(18, 0);
        header.extend(machine);
        header
    }

    #[test]
    fn a_program_tells_what_it_runs_on() {
        assert_eq!(Arch::of_program(&header(2, 1, [0x3e, 0])), Machine::Known(Arch::Amd64));
        assert_eq!(Arch::of_program(&header(2, 1, [0xb7, 0])), Machine::Known(Arch::Arm64));
        assert_eq!(Arch::of_program(&header(2, 2, [0, 0x16])), Machine::Known(Arch::S390x));
        // 32 bits of ARM.
        assert_eq!(Arch::of_program(&header(1, 1, [0x28, 0])), Machine::Other(0x28));
        assert_eq!(Arch::of_program(b"#!/bin/sh\necho kubeadm\n"), Machine::NoProgram);
        assert_eq!(Arch::of_program(&header(2, 1, [0x3e, 0])[..19]), Machine::NoProgram);
    }

    #[test]
    fn kernels_names_are_known_too() {
        assert_eq!(Arch::parse("aarch64"), Some(Arch::Arm64));
        assert_eq!(Arch::parse("s390x"), Some(Arch::S390x));
        assert_eq!(Arch::parse("mips"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Arch::of_program(&bytes).to_string();
        }
    }
}

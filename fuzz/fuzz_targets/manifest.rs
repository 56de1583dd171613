//! Files that people write.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| kina_fuzz::manifest(bytes));

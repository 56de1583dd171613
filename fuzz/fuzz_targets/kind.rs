//! Configurations of kind.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let head = b"kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n";
    kina_fuzz::manifest(&[head, bytes].concat());
});

//! How images of the host come into the containerd of a node.

use super::{Cause, ExecOutput, RuntimeError};

/// Takes images from standard input, as kind does it: what the host has of other platforms is not there to be unpacked.
pub const IMPORT: [&str; 7] = ["ctr", "--namespace=k8s.io", "images", "import", "--all-platforms", "--digests", "-"];

/// Gives an image that a node has another name beside its own.
pub fn tag(name: &str, also: &str) -> Vec<String> {
    ["ctr", "--namespace=k8s.io", "images", "tag", "--force", name, also].map(str::to_owned).to_vec()
}

/// Why [`IMPORT`] or [`tag`], which said this, did not take `images`; `None` where it did.
pub fn not_imported(operation: &'static str, images: &str, said: &ExecOutput) -> Option<RuntimeError> {
    let message = String::from_utf8_lossy(&said.stderr);
    (said.code != 0).then(|| {
        let message = format!("ctr ended with {}: {}", said.code, message.trim());
        RuntimeError::new(operation, images, Cause::Unknown, message)
    })
}

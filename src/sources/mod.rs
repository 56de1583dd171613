//! Where desired state comes from: watched directories, git checkouts, `apply -f`.

pub mod manifest;

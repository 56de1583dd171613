//! The pod network of `cni: routed`: a script in the node, the book of all nodes that it is told, and the unit that restores
//! what it made before the kubelet starts (decision 0027).

use std::net::Ipv4Addr;

use crate::api::cidr::Cidr;

/// The script.
pub const SCRIPT_PATH: &str = "/kina/routed/run";
/// The last book that it was told.
pub const BOOK_PATH: &str = "/kina/routed/book";
/// What it writes when everything is proven: with it a node is Ready.
pub const CONFIGURATION_PATH: &str = "/etc/cni/net.d/10-kina.conflist";
/// The unit that restores everything when a node starts.
pub const UNIT_PATH: &str = "/etc/systemd/system/kina-routed.service";
/// What has the kubelet wait for it. It needs no link in a directory of systemd's.
pub const DROP_IN_PATH: &str = "/etc/systemd/system/kubelet.service.d/21-kina-routed.conf";
/// Length of the range of a node: 254 addresses, of which Kubernetes uses 110 at most.
pub const RANGE_LENGTH: u8 = 24;

/// The script itself: with another one everything is made anew.
pub const SCRIPT: &str = include_str!("routed.sh");

const UNIT: &str = "# Written by Kina: what a restart of the node takes from its pod network.
[Unit]
Description=Routes to the pods of other nodes
After=kina-overlay.service
Before=kubelet.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/bash /kina/routed/run restore
";

const DROP_IN: &str = "# Written by Kina: a kubelet that finds a CNI configuration says that pods reach each other.
[Unit]
Wants=kina-routed.service
After=kina-routed.service
";

/// A node, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// The addresses of its pods.
    pub range: Cidr,
}

/// All nodes of a cluster, with the addresses of all pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    /// Addresses of all pods.
    pub pods: Cidr,
    /// In order of name.
    pub members: Vec<Member>,
}

impl Book {
    /// What all nodes are told alike.
    #[must_use]
    pub fn common(&self) -> String {
        let node = |member: &Member| {
            let Member { name, address, range } = member;
            // A range has at least this one more address than its first.
            let gateway = range.address(1).unwrap_or(*address);
            format!("node {name} {address} {range} {gateway}\n")
        };
        let nodes: String = self.members.iter().map(node).collect();
        format!("pods {}\n{nodes}end\n", self.pods)
    }

    /// What the node of this name is told.
    #[must_use]
    pub fn of(&self, name: &str) -> String {
        format!("self {name}\n{}", self.common())
    }
}

/// Path, mode and content of every file that a node has from the beginning; `book` is what it is told.
#[must_use]
pub fn files(book: &str) -> [(&'static str, u32, String); 4] {
    [
        (SCRIPT_PATH, 0o755, SCRIPT.to_owned()),
        (BOOK_PATH, 0o644, book.to_owned()),
        (UNIT_PATH, 0o644, UNIT.to_owned()),
        (DROP_IN_PATH, 0o644, DROP_IN.to_owned()),
    ]
}

/// The command that takes a book from its standard input.
#[must_use]
pub fn set() -> Vec<String> {
    run("set")
}

/// The command that proves the way to the nodes named on its standard input, and then makes the node Ready.
#[must_use]
pub fn open() -> Vec<String> {
    run("open")
}

fn run(verb: &str) -> Vec<String> {
    ["/bin/bash", SCRIPT_PATH, verb].map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests;

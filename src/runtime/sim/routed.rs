//! The pod network that Kina makes in nodes: `/kina/routed/run`, as its script does it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::exec::{Output, fails, says};
use super::world::{State, Tx};

pub(super) const SCRIPT: &str = "/kina/routed/run";
const BOOK: &str = "/kina/routed/book";
const UNIT: &str = "/etc/systemd/system/kina-routed.service";
const CONFIGURATIONS: &str = "/etc/cni/net.d";
const CONFIGURATION: &str = "/etc/cni/net.d/10-kina.conflist";

/// A node in a book: its address, and the addresses of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    address: Ipv4Addr,
    range: String,
}

/// What a node is told of all nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Book {
    own: String,
    nodes: BTreeMap<String, Entry>,
}

impl Book {
    /// `None` for half a book, and for one that does not tell of the node itself.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().collect();
        let (mut own, mut nodes) = (None, BTreeMap::new());
        let (&"end", lines) = lines.split_last()? else { return None };
        for line in lines {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["self", name] => own = Some((*name).to_owned()),
                ["pods", _] => {}
                ["node", name, address, range, _] => {
                    let entry = Entry { address: address.parse().ok()?, range: (*range).to_owned() };
                    nodes.insert((*name).to_owned(), entry);
                }
                _ => return None,
            }
        }
        let own = own.filter(|own| nodes.contains_key(own))?;
        Some(Self { own, nodes })
    }

    fn routes(&self) -> BTreeMap<String, Ipv4Addr> {
        let others = self.nodes.iter().filter(|(name, _)| **name != self.own);
        others.map(|(_, entry)| (entry.range.clone(), entry.address)).collect()
    }
}

/// `/bin/bash /kina/routed/run VERB`
pub(super) fn run(tx: &mut Tx<'_>, id: &str, verb: &str, stdin: Option<&[u8]>) -> Output {
    if tx.state.file(id, SCRIPT).is_none() {
        return fails(127, format!("/bin/bash: {SCRIPT}: No such file or directory\n"));
    }
    let given = String::from_utf8_lossy(stdin.unwrap_or_default()).into_owned();
    match verb {
        "set" => match Book::parse(&given) {
            Some(book) => {
                tx.write(id, BOOK, 0o644, given);
                apply(tx, id, &book);
                says("")
            }
            None => fails(1, "the book of nodes has no end\n"),
        },
        "open" => open(tx, id, &given),
        _ => fails(1, format!("there is no {verb}\n")),
    }
}

fn apply(tx: &mut Tx<'_>, id: &str, book: &Book) {
    tx.update(id, |record| record.inside.routes = Some(book.routes()));
}

fn told(state: &State, id: &str) -> Option<Book> {
    Book::parse(&state.text(id, BOOK)?)
}

fn open(tx: &mut Tx<'_>, id: &str, names: &str) -> Output {
    let Some(book) = told(tx.state, id) else { return fails(1, "there is no book of nodes\n") };
    apply(tx, id, &book);
    let silent: Vec<&str> = names.lines().filter(|name| !reaches(tx.state, id, &book, name)).collect();
    if !silent.is_empty() {
        return fails(1, format!("no packet comes back from {}\n", silent.join(" ")));
    }
    let range = book.nodes.get(&book.own).map(|own| own.range.clone()).unwrap_or_default();
    tx.write(id, CONFIGURATION, 0o644, format!("{{\"name\":\"kina\",\"subnet\":\"{range}\"}}\n"));
    tx.touch(id);
    says("")
}

/// Whether a packet goes to another node's range and comes back: both run, and each has its route.
fn reaches(state: &State, id: &str, book: &Book, name: &str) -> bool {
    let (Some(other), Some(own)) = (book.nodes.get(name), book.nodes.get(&book.own)) else { return false };
    let found = state.reached(id, other.address);
    let routes = found.and_then(|(_, record)| record.inside.routes.as_ref());
    routes.is_some_and(|routes| routes.get(&own.range) == Some(&own.address))
}

/// What the unit does that runs before the kubelet.
pub(super) fn restore(tx: &mut Tx<'_>, id: &str) {
    if tx.state.file(id, UNIT).is_some()
        && let Some(book) = told(tx.state, id)
    {
        apply(tx, id, &book);
    }
}

/// What is removed by `find DIRECTORY -mindepth 1 -delete`, where that is a directory of CNI configurations.
pub(super) fn forget(tx: &mut Tx<'_>, id: &str, directory: &str) {
    if directory == CONFIGURATIONS {
        tx.delete(id, CONFIGURATIONS);
        tx.touch(id);
    }
}

/// The range of the pods of a node whose kubelet finds the configuration: what makes a node Ready, whether or not the routes
/// are as they should be.
pub(super) fn range(state: &State, id: &str) -> Option<String> {
    state.file(id, CONFIGURATION)?;
    let book = told(state, id)?;
    book.nodes.get(&book.own).map(|own| own.range.clone())
}

//! What must hold of the rows of a sound store, beyond what the database itself verifies.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde_json::Value;

use super::gc::{WORK_PREFIX, Work};
use super::object::{from_bytes, meta, owners};
use super::store::{Store, StoreError};
use super::txn::{TTL_PREFIX, owner_prefix};

/// What is told of at most; a store with more is not worth reading on.
const FINDINGS_MAX: usize = 100;

/// What a store holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The revision counter.
    pub revision: u64,
    /// Objects by resource, such as `clusters.kina.dev`.
    pub objects: BTreeMap<String, usize>,
    /// Rows that lead from owners to what they own.
    pub owners: usize,
    /// Rows of what expires.
    pub expiries: usize,
    /// Rows of work to do.
    pub work: usize,
    /// What is wrong, one sentence each.
    pub findings: Vec<String>,
}

impl Audit {
    /// Reads all rows of a store.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        let mut reading =
            Reading { audit: Self { revision: snapshot.revision(), ..Self::default() }, ..Reading::default() };
        snapshot.visit("", "", &mut |key, value| {
            reading.row(key, value);
            if reading.audit.findings.len() < FINDINGS_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(reading.finish())
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

#[derive(Default)]
struct Reading {
    audit: Audit,
    /// Rows from owners to what they own: those that are there, and those that objects ask for.
    owned: BTreeMap<String, Owned>,
    /// Keys of objects by UID.
    uids: BTreeMap<String, String>,
}

#[derive(Default)]
struct Owned {
    is_there: bool,
    is_wanted: bool,
}

impl Reading {
    fn find(&mut self, finding: String) {
        self.audit.findings.push(finding);
    }

    fn row(&mut self, key: &str, value: &[u8]) {
        if key.starts_with(TTL_PREFIX) {
            self.audit.expiries += 1;
            let revision = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            self.revision(key, revision);
        } else if key.starts_with(WORK_PREFIX) {
            self.audit.work += 1;
            if Work::from_row(key).is_none() {
                self.find(format!("{key}: is no work that this version knows"));
            }
        } else {
            let mut parts = key.splitn(4, '/');
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(_), Some("~owners"), Some(_), Some(_)) => {
                    self.audit.owners += 1;
                    self.owned.entry(key.to_owned()).or_default().is_there = true;
                }
                (Some(tenant), Some(resource), Some(namespace), Some(name)) if !name.contains('/') => {
                    *self.audit.objects.entry(resource.to_owned()).or_default() += 1;
                    self.object(key, (tenant, resource, namespace, name), value);
                }
                _ => self.find(format!("{key}: is no key of Kina's")),
            }
        }
    }

    fn object(&mut self, key: &str, (tenant, resource, namespace, name): (&str, &str, &str, &str), value: &[u8]) {
        let object: Value = match from_bytes(value) {
            Ok(object) => object,
            Err(_) => return self.find(format!("{key}: cannot be decoded")),
        };
        if (meta(&object, "namespace"), meta(&object, "name")) != (namespace, name) {
            self.find(format!("{key}: holds another object, `{}`", meta(&object, "name")));
        }
        self.revision(key, meta(&object, "resourceVersion").parse().ok());
        let uid = meta(&object, "uid").to_owned();
        if uid.is_empty() {
            self.find(format!("{key}: has no UID"));
        } else if let Some(other) = self.uids.insert(uid, key.to_owned()) {
            self.find(format!("{key}: has the UID of {other}"));
        }
        for owner in owners(&object) {
            let row = format!("{}{resource}/{namespace}/{name}", owner_prefix(tenant, &owner.uid));
            self.owned.entry(row).or_default().is_wanted = true;
        }
    }

    fn revision(&mut self, key: &str, revision: Option<u64>) {
        let head = self.audit.revision;
        match revision {
            Some(revision) if (1..=head).contains(&revision) => {}
            Some(revision) => self.find(format!("{key}: has revision {revision}, the store is at {head}")),
            None => self.find(format!("{key}: has no revision")),
        }
    }

    fn finish(mut self) -> Audit {
        for (key, owned) in std::mem::take(&mut self.owned) {
            match owned {
                Owned { is_there: true, is_wanted: false } => self.find(format!("{key}: no object names that owner")),
                Owned { is_there: false, is_wanted: true } => {
                    self.find(format!("{key}: is missing: its object names that owner"))
                }
                _ => {}
            }
        }
        self.audit.findings.truncate(FINDINGS_MAX);
        self.audit
    }
}

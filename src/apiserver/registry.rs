//! The kinds a server serves, by every name that they are looked up with.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kind::{Kind, ResourceId, Scope};

/// A kind, and the name its objects are stored under.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub kind: Arc<Kind>,
    /// `PLURAL` or `PLURAL.GROUP` of the kind that is stored: a part of every key.
    pub stored: Arc<str>,
}

/// All kinds of a server, in order of group, version and name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    served: BTreeMap<ResourceId, Served>,
    /// By group and kind; of several versions the first registered.
    by_kind: BTreeMap<(String, String), Served>,
    /// By stored name: the kind whose form is stored.
    by_stored: BTreeMap<Arc<str>, Served>,
}

impl Registry {
    pub fn new(kinds: Vec<Arc<Kind>>) -> Self {
        let mut registry = Self::default();
        for kind in kinds {
            let stored = kind.stored_as.as_ref().map_or(&kind.resource, |stored_as| &stored_as.resource).to_string();
            let served = Served { stored: Arc::from(stored), kind };
            let name = (served.kind.resource.group.clone(), served.kind.kind.clone());
            registry.by_kind.entry(name).or_insert_with(|| served.clone());
            if served.kind.stored_as.is_none() {
                registry.by_stored.entry(Arc::clone(&served.stored)).or_insert_with(|| served.clone());
            }
            registry.served.insert(served.kind.resource.clone(), served);
        }
        registry
    }

    pub fn get(&self, resource: &ResourceId) -> Option<&Served> {
        self.served.get(resource)
    }

    pub fn by_kind(&self, group: &str, kind: &str) -> Option<&Served> {
        self.by_kind.get(&(group.to_owned(), kind.to_owned()))
    }

    pub fn by_stored(&self, stored: &str) -> Option<&Served> {
        self.by_stored.get(stored)
    }

    /// The kind `Namespace`, where it is served.
    pub fn namespaces(&self) -> Option<&Served> {
        self.by_stored.get("namespaces")
    }

    /// Every kind whose form is stored and whose objects live in namespaces.
    pub fn namespaced(&self) -> impl Iterator<Item = &Served> {
        self.by_stored.values().filter(|served| served.kind.scope == Scope::Namespaced)
    }

    /// Every kind, for discovery.
    pub fn kinds(&self) -> Vec<Arc<Kind>> {
        self.served.values().map(|served| Arc::clone(&served.kind)).collect()
    }
}

impl Served {
    /// The namespace in which an owner of this kind is looked for, from an object in `namespace`.
    pub fn namespace_for(&self, namespace: &str) -> String {
        match self.kind.scope {
            Scope::Cluster => String::new(),
            Scope::Namespaced => namespace.to_owned(),
        }
    }
}

//! Discovery: which groups, versions and resources a server has.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::kind::{Kind, Scope};

/// What can be done with every resource.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const PART_VERBS: [&str; 3] = ["get", "patch", "update"];
const CREATE: [&str; 1] = ["create"];

/// What is served below an object.
struct Subresource<'k> {
    name: &'static str,
    group: &'k str,
    version: &'k str,
    kind: &'k str,
    verbs: &'static [&'static str],
}

fn subresources(kind: &Kind) -> Vec<Subresource<'_>> {
    let mut found = Vec::new();
    if kind.evictable {
        found.push(Subresource { name: "eviction", group: "policy", version: "v1", kind: "Eviction", verbs: &CREATE });
    }
    if kind.scale.is_some() {
        found.push(Subresource {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind: "Scale",
            verbs: &PART_VERBS,
        });
    }
    if kind.has_status {
        let (group, version) = (kind.resource.group.as_str(), kind.resource.version.as_str());
        found.push(Subresource { name: "status", group, version, kind: &kind.kind, verbs: &PART_VERBS });
    }
    found
}

fn verbs(kind: &Kind) -> &'static [&'static str] {
    if kind.answer.is_some() { &CREATE } else { &VERBS }
}

/// Kinds by group (empty: the core group) and version, each in order.
pub(crate) struct Groups<'k>(BTreeMap<&'k str, BTreeMap<&'k str, Vec<&'k Kind>>>);

impl<'k> Groups<'k> {
    pub(crate) fn of(kinds: &'k [Arc<Kind>]) -> Self {
        let mut groups: BTreeMap<&str, BTreeMap<&str, Vec<&Kind>>> = BTreeMap::new();
        for kind in kinds {
            let versions = groups.entry(kind.resource.group.as_str()).or_default();
            versions.entry(kind.resource.version.as_str()).or_default().push(kind);
        }
        Self(groups)
    }

    /// Groups besides the core group, with their versions; the newest version first.
    fn named(&self) -> impl Iterator<Item = (&'k str, Vec<&'k str>)> {
        self.0.iter().filter(|(group, _)| !group.is_empty()).map(|(group, versions)| {
            let mut versions: Vec<&str> = versions.keys().copied().collect();
            versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
            (*group, versions)
        })
    }

    /// Every group and version.
    pub(crate) fn versions(&self) -> impl Iterator<Item = (&'k str, &'k str, &[&'k Kind])> {
        self.0.iter().flat_map(|(group, versions)| {
            versions.iter().map(move |(version, kinds)| (*group, *version, kinds.as_slice()))
        })
    }

    /// `/api`: the versions of the core group.
    pub(crate) fn core_versions(&self) -> Value {
        let versions: Vec<&str> = self.0.get("").into_iter().flat_map(BTreeMap::keys).copied().collect();
        json!({"kind": "APIVersions", "versions": versions,
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}]})
    }

    /// `/apis`: all groups but the core group.
    pub(crate) fn group_list(&self) -> Value {
        let groups: Vec<Value> = self.named().map(|(group, versions)| api_group(group, &versions)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    /// `/apis/GROUP`.
    pub(crate) fn group(&self, name: &str) -> Option<Value> {
        let (group, versions) = self.named().find(|(group, _)| *group == name)?;
        let mut found = api_group(group, &versions);
        found["kind"] = "APIGroup".into();
        found["apiVersion"] = "v1".into();
        Some(found)
    }

    /// `/api/VERSION` and `/apis/GROUP/VERSION`.
    pub(crate) fn resource_list(&self, group: &str, version: &str) -> Option<Value> {
        let kinds = self.0.get(group)?.get(version)?;
        let first = kinds.first()?;
        let resources: Vec<Value> = kinds.iter().flat_map(|kind| resources(kind)).collect();
        Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.resource.api_version(),
            "resources": resources}))
    }

    /// The aggregated form of `/api` (`core`) or `/apis`: everything in one answer.
    pub(crate) fn aggregated(&self, core: bool, version: &str) -> Value {
        let groups = self.0.iter().filter(|(group, _)| group.is_empty() == core).map(|(group, versions)| {
            let mut ordered: Vec<(&&str, &Vec<&Kind>)> = versions.iter().collect();
            ordered.sort_by_key(|(version, _)| std::cmp::Reverse(priority(version)));
            let versions: Vec<Value> = ordered
                .into_iter()
                .map(|(version, kinds)| {
                    let resources: Vec<Value> = kinds.iter().map(|kind| aggregated_resource(kind)).collect();
                    json!({"version": version, "freshness": "Current", "resources": resources})
                })
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        });
        let groups: Vec<Value> = groups.collect();
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
            "metadata": {}, "items": groups})
    }
}

/// Order of versions (`apimachinery/pkg/version.CompareKubeAwareVersionStrings`): stable, beta, alpha, each by number.
fn priority(version: &str) -> (u8, u64, u64) {
    let parse = |text: &str| text.parse::<u64>().unwrap_or_default();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    for (name, rank) in [("alpha", 1), ("beta", 2)] {
        if let Some((major, minor)) = rest.split_once(name) {
            return (rank, parse(major), parse(minor));
        }
    }
    (3, parse(rest), 0)
}

fn api_group(group: &str, versions: &[&str]) -> Value {
    let version = |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": versions, "preferredVersion": versions.first()})
}

/// The resource, and what is served below it.
fn resources(kind: &Kind) -> Vec<Value> {
    let namespaced = kind.scope == Scope::Namespaced;
    let mut resource = json!({"name": kind.resource.plural, "singularName": kind.singular, "namespaced": namespaced,
        "kind": kind.kind, "verbs": verbs(kind)});
    names(kind, &mut resource);
    let mut found = vec![resource];
    found.extend(subresources(kind).into_iter().map(|sub| {
        let name = format!("{}/{}", kind.resource.plural, sub.name);
        let mut entry = json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": sub.kind,
            "verbs": sub.verbs});
        if (sub.group, sub.version) != (kind.resource.group.as_str(), kind.resource.version.as_str()) {
            entry["group"] = json!(sub.group);
            entry["version"] = json!(sub.version);
        }
        entry
    }));
    found
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response = json!({"group": kind.resource.group, "version": kind.resource.version, "kind": kind.kind});
    let scope = match kind.scope {
        Scope::Cluster => "Cluster",
        Scope::Namespaced => "Namespaced",
    };
    let mut resource = json!({"resource": kind.resource.plural, "responseKind": response, "scope": scope,
        "singularResource": kind.singular, "verbs": verbs(kind)});
    names(kind, &mut resource);
    let below: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|sub| {
            let response = json!({"group": sub.group, "version": sub.version, "kind": sub.kind});
            json!({"subresource": sub.name, "responseKind": response, "verbs": sub.verbs})
        })
        .collect();
    if !below.is_empty() {
        resource["subresources"] = Value::Array(below);
    }
    resource
}

fn names(kind: &Kind, resource: &mut Value) {
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_kubernetes_orders_them() {
        let mut versions = vec!["v1alpha1", "v2", "v1beta2", "foo", "v1", "v1beta1", "v10"];
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        assert_eq!(versions, ["v10", "v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }
}

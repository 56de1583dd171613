//! What a request's path names.

use crate::apiserver::kind::ResourceId;
use crate::apiserver::request::query::percent_decode;

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Discovery, OpenAPI, health, version: the segments of the path.
    Service(Vec<String>),
    /// Objects.
    Objects(ObjectPath),
}

/// A path below a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectPath {
    pub resource: ResourceId,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

/// Reads a path; `None` where it can name nothing.
pub(crate) fn parse(path: &str) -> Option<Target> {
    let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Some(Target::Service(segments)),
    };
    let (namespace, rest) = match rest {
        // `/namespaces/NAME/status` names a Namespace's subresource, not a resource called "status".
        ["namespaces", _, "status" | "finalize"] | ["namespaces"] | ["namespaces", _] => (None, rest),
        ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
        _ => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(*name), None),
        [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
        _ => return None,
    };
    Some(Target::Objects(ObjectPath {
        resource: ResourceId { group: group.to_owned(), version: version.to_owned(), plural: (*plural).to_owned() },
        namespace,
        name: name.map(str::to_owned),
        subresource: subresource.map(str::to_owned),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(path: &str) -> String {
        match parse(path) {
            Some(Target::Objects(path)) => format!(
                "{} {} {} {} {}",
                path.resource.api_version(),
                path.resource.plural,
                path.namespace.as_deref().unwrap_or("-"),
                path.name.as_deref().unwrap_or("-"),
                path.subresource.as_deref().unwrap_or("-")
            ),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn paths_name_resources_namespaces_and_subresources() {
        assert_eq!(objects("/api/v1/namespaces"), "v1 namespaces - - -");
        assert_eq!(objects("/api/v1/namespaces/a"), "v1 namespaces - a -");
        assert_eq!(objects("/api/v1/namespaces/a/status"), "v1 namespaces - a status");
        assert_eq!(objects("/api/v1/namespaces/a/pods"), "v1 pods a - -");
        assert_eq!(objects("/api/v1/namespaces/a/pods/b/status"), "v1 pods a b status");
        assert_eq!(objects("/apis/kina.dev/v1/clusters/x%2Dy/status"), "kina.dev/v1 clusters - x-y status");
        assert_eq!(objects("/api/v1/pods"), "v1 pods - - -");
        assert_eq!(parse("/api/v1/pods/a/b/c"), None);
        assert_eq!(
            parse("/apis/kina.dev/v1"),
            Some(Target::Service(vec!["apis".into(), "kina.dev".into(), "v1".into()]))
        );
        assert_eq!(parse("/version/"), Some(Target::Service(vec!["version".into()])));
    }
}

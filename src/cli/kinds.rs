//! The kinds that commands name, by any of their names.

use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, CustomResourceExt};

use super::error::CliError;
use super::exit::Exit;
use crate::api::{Cluster, Machine, Source};
use crate::apiserver::core;
use crate::apiserver::kind::Kind;
use crate::sources::manifest::suggest;

/// The kinds of `kina get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Cluster.
    Clusters,
    /// Machine.
    Machines,
    /// Source.
    Sources,
    /// Event.
    Events,
}

/// Kinds that people ask for here, and find in clusters.
const INSIDE: [&str; 14] = [
    "node",
    "nodes",
    "no",
    "pod",
    "pods",
    "po",
    "deployment",
    "deployments",
    "deploy",
    "service",
    "services",
    "svc",
    "namespaces",
    "ns",
];

impl Which {
    const ALL: [(Self, &'static [&'static str]); 4] = [
        (Self::Clusters, &["clusters", "cluster", "cl"]),
        (Self::Machines, &["machines", "machine", "ma"]),
        (Self::Sources, &["sources", "source", "src"]),
        (Self::Events, &["events", "event", "ev"]),
    ];

    /// By plural, singular or short name, in any case, with or without the group.
    ///
    /// # Errors
    /// A usage error that names the nearest.
    pub fn parse(text: &str) -> Result<Self, CliError> {
        let name = text.to_lowercase();
        let name = name.strip_suffix(".kina.dev").unwrap_or(&name);
        if let Some((which, _)) = Self::ALL.iter().find(|(_, names)| names.contains(&name)) {
            return Ok(*which);
        }
        let known = Self::ALL.iter().map(|(_, names)| names[0]);
        let error = CliError::new(Exit::Usage, format!("there is no kind `{text}`"));
        if INSIDE.contains(&name) {
            return Err(error
                .hint(format!("what is in a cluster is shown by kubectl: `kubectl --context kina-NAME get {name}`")));
        }
        Err(match suggest::nearest(name, known) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint("there are `clusters`, `machines`, `sources` and `events`"),
        })
    }

    /// The kind.
    ///
    /// # Errors
    /// Never in a build that passed its tests: the definitions are part of the program.
    pub fn kind(self) -> Result<Kind, CliError> {
        let broken =
            |error: &dyn std::fmt::Display| CliError::new(Exit::Failure, format!("a definition is broken: {error}"));
        match self {
            Self::Clusters => Kind::from_crd(&Cluster::crd()).map_err(|error| broken(&error)),
            Self::Machines => Kind::from_crd(&Machine::crd()).map_err(|error| broken(&error)),
            Self::Sources => Kind::from_crd(&Source::crd()).map_err(|error| broken(&error)),
            Self::Events => core::control()
                .into_iter()
                .find(|kind| kind.kind == "Event" && kind.resource.group.is_empty())
                .ok_or_else(|| broken(&"no Event")),
        }
    }
}

/// Reads `TYPE[,TYPE…]`, `TYPE NAME…` or `TYPE/NAME…`, as kubectl takes them.
///
/// # Errors
/// A usage error for an unknown type, or a mixture of the forms.
pub fn targets(words: &[String]) -> Result<Vec<(Which, Option<String>)>, CliError> {
    let pair = |word: &String| match word.split_once('/') {
        Some((type_, name)) if !name.is_empty() => Ok((Which::parse(type_)?, Some(name.to_owned()))),
        _ => Err(CliError::new(Exit::Usage, format!("`{word}` is not `TYPE/NAME`"))),
    };
    match words {
        [] => Ok(Vec::new()),
        [first, ..] if first.contains('/') => words.iter().map(pair).collect(),
        [types] => Ok(list(types)?.into_iter().map(|which| (which, None)).collect()),
        [types, names @ ..] => {
            let named = |which| names.iter().map(move |name| (which, Some(name.clone())));
            Ok(list(types)?.into_iter().flat_map(named).collect())
        }
    }
}

/// `cl,ma`: each kind once, in the order given.
fn list(types: &str) -> Result<Vec<Which>, CliError> {
    let mut list = Vec::new();
    for type_ in types.split(',').filter(|type_| !type_.is_empty()) {
        let which = Which::parse(type_)?;
        if !list.contains(&which) {
            list.push(which);
        }
    }
    if list.is_empty() { Which::parse(types).map(|which| vec![which]) } else { Ok(list) }
}

/// Objects of a kind, whatever they hold, in every namespace.
pub fn api(client: &Client, kind: &Kind) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(kind))
}

/// Objects of a kind in one namespace.
pub fn api_in(client: &Client, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

fn resource(kind: &Kind) -> ApiResource {
    ApiResource {
        group: kind.resource.group.clone(),
        version: kind.resource.version.clone(),
        api_version: kind.resource.api_version(),
        kind: kind.kind.clone(),
        plural: kind.resource.plural.clone(),
    }
}

/// `cluster/dev`: how lines for people name an object.
#[must_use]
pub fn short(kind: &Kind, name: &str) -> String {
    format!("{}/{name}", kind.singular)
}

/// `cluster.kina.dev/dev`: how `-o name` names an object, so that kubectl takes it.
#[must_use]
pub fn full(kind: &Kind, name: &str) -> String {
    if kind.resource.group.is_empty() {
        short(kind, name)
    } else {
        format!("{}.{}/{name}", kind.singular, kind.resource.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_by_all_their_names() {
        for name in ["clusters", "Cluster", "cl", "clusters.kina.dev"] {
            assert_eq!(Which::parse(name).unwrap(), Which::Clusters);
        }
        let kinds = |words: &str| -> Result<Vec<Which>, CliError> {
            Ok(targets(&[words.to_owned()])?.into_iter().map(|(which, _)| which).collect())
        };
        assert_eq!(kinds("cl,machine,clusters").unwrap(), [Which::Clusters, Which::Machines]);
        let names = targets(&["cl,ma".to_owned(), "x".to_owned()]).unwrap();
        let x = Some("x".to_owned());
        assert_eq!(names, [(Which::Clusters, x.clone()), (Which::Machines, x)]);
        for unknown in ["cl,nodes", ",", ""] {
            assert!(kinds(unknown).is_err(), "{unknown}");
        }
        let error = Which::parse("clsters").unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.lines().iter().any(|line| line.plain().contains("did you mean `clusters`?")));
        let error = Which::parse("nodes").unwrap_err();
        assert!(error.lines().iter().any(|line| line.plain().contains("`kubectl --context kina-NAME get nodes`")));
        for (which, names) in Which::ALL {
            let kind = which.kind().unwrap();
            assert_eq!((kind.resource.plural.as_str(), kind.singular.as_str()), (names[0], names[1]));
            assert_eq!(kind.short_names, names[2..]);
        }
    }
}

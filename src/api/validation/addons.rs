//! Rules of addons.

use std::collections::BTreeSet;

use super::Faults;
use crate::api::addon::{self, Addon};
use crate::api::names;

/// As the schema says.
const NAME_MAX: usize = 63;

pub(super) fn check(faults: &mut Faults, addons: &[Addon]) {
    let mut seen = BTreeSet::new();
    for (index, addon) in addons.iter().enumerate() {
        let index = index.to_string();
        let here = ["spec", "addons", &index];
        let field = |name: &'static str| [&here[..], &[name]].concat();
        if names::label(&addon.name, NAME_MAX).is_err() {
            let message =
                format!("`{}` is not a name of lower case letters, digits and `-`, such as `ingress`", addon.name);
            faults.add(&field("name"), message);
        }
        if !seen.insert(&addon.name) {
            faults.add(&field("name"), format!("a second addon is named `{}`", addon.name));
        }
        match (&addon.path, &addon.manifest) {
            (Some(path), None) if !path.starts_with('/') => {
                faults.add(&field("path"), format!("`{path}` is relative: only a file can say from where"));
            }
            (Some(_), None) => {}
            (None, Some(text)) => {
                if let Err(message) = addon::objects(text) {
                    faults.add(&field("manifest"), format!("the manifest {message}"));
                }
            }
            (None, None) => faults.add(&here, "either `path` or `manifest` says what is applied"),
            (Some(_), Some(_)) => faults.add(&field("manifest"), "either `path` or `manifest`, not both"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cluster;
    use crate::api::ClusterSpec;
    use crate::api::addon::Addon;

    #[test]
    fn an_addon_has_a_name_and_says_what_is_applied_once() {
        let addon = |name: &str, path: Option<&str>, manifest: Option<&str>| Addon {
            name: name.into(),
            path: path.map(Into::into),
            manifest: manifest.map(Into::into),
        };
        let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
        let mut spec = ClusterSpec {
            addons: vec![addon("a", Some("/srv/a.yaml"), None), addon("b-1", None, Some(good))],
            ..ClusterSpec::default()
        };
        assert_eq!(cluster("dev", &spec), []);
        spec.addons = vec![
            addon("A", Some("/a"), None),
            addon("b", Some("b.yaml"), None),
            addon("b", None, None),
            addon("c", Some("/c"), Some(good)),
            addon("d", None, Some("kind: ConfigMap\n")),
        ];
        let found: String =
            cluster("dev", &spec).iter().map(|fault| format!("{}: {}\n", fault.field(), fault.message)).collect();
        insta::assert_snapshot!(found);
    }
}

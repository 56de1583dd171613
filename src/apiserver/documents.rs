//! What a server says of itself: discovery, OpenAPI, version and health. Made once from its kinds, at first use, and
//! shared by all that serve them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::discovery::Groups;
use super::kind::Kind;
use super::openapi;

const JSON: &str = "application/json";
const OPENAPI_V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_V2BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its media type.
    pub content_type: &'static str,
    /// Changes with its content; for `ETag`, in quotes already. Only where it is worth caching.
    pub etag: Option<String>,
    /// The content.
    pub bytes: Bytes,
}

/// All documents of a set of kinds.
pub struct Documents {
    kinds: Vec<Arc<Kind>>,
    openapi: OnceLock<BTreeMap<String, Document>>,
    /// OpenAPI v2 as JSON and as protobuf.
    openapi_v2: OnceLock<[Document; 2]>,
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents").field("kinds", &self.kinds.len()).finish_non_exhaustive()
    }
}

impl Documents {
    /// The documents of these kinds. Nothing is made yet.
    pub fn new(kinds: Vec<Arc<Kind>>) -> Self {
        Self { kinds, openapi: OnceLock::new(), openapi_v2: OnceLock::new() }
    }

    /// The document at a path, for a client that accepts what `accept` says (the whole header, empty for none), from
    /// a server that says it is `git_version` (such as `v1.35.5`). `None`: there is none here.
    pub fn get(&self, path: &str, accept: &str, git_version: &str) -> Option<Document> {
        let path = path.trim_matches('/');
        let segments: Vec<&str> = path.split('/').collect();
        match segments.as_slice() {
            [""] => Some(json_document(&self.index())),
            ["healthz" | "livez" | "readyz"] | ["livez" | "readyz", "ping"] | ["healthz", "ping"] => Some(Document {
                content_type: "text/plain; charset=utf-8",
                etag: None,
                bytes: Bytes::from_static(b"ok"),
            }),
            ["version"] => Some(json_document(&version(git_version))),
            ["openapi", "v2"] => {
                let [json, protobuf] = self.openapi_v2();
                Some(if accept.contains("proto-openapi") { protobuf } else { json }.clone())
            }
            ["openapi", "v3"] => Some(json_document(&self.openapi_index())),
            ["openapi", "v3", rest @ ..] => self.openapi().get(&rest.join("/")).cloned(),
            ["api"] => Some(self.versions_or_aggregated(true, accept)),
            ["apis"] => Some(self.versions_or_aggregated(false, accept)),
            ["api", version] => Groups::of(&self.kinds).resource_list("", version).map(|list| json_document(&list)),
            ["apis", group] => Groups::of(&self.kinds).group(group).map(|group| json_document(&group)),
            ["apis", group, version] => {
                Groups::of(&self.kinds).resource_list(group, version).map(|list| json_document(&list))
            }
            _ => None,
        }
    }

    fn versions_or_aggregated(&self, core: bool, accept: &str) -> Document {
        let groups = Groups::of(&self.kinds);
        let wanted = accept.split(',').map(|range| range.split(';').map(str::trim).collect::<Vec<_>>());
        for range in wanted {
            if range.contains(&"as=APIGroupDiscoveryList") {
                let (version, content_type) = if range.contains(&"v=v2") {
                    ("v2", AGGREGATED_V2)
                } else if range.contains(&"v=v2beta1") {
                    ("v2beta1", AGGREGATED_V2BETA1)
                } else {
                    continue;
                };
                return Document { content_type, ..cacheable(&groups.aggregated(core, version)) };
            }
            if matches!(range.first(), Some(&(JSON | "*/*"))) {
                break;
            }
        }
        json_document(&if core { groups.core_versions() } else { groups.group_list() })
    }

    fn index(&self) -> Value {
        let groups = Groups::of(&self.kinds);
        let mut paths: Vec<String> =
            ["/api", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]
                .into_iter()
                .map(str::to_owned)
                .collect();
        paths.extend(groups.versions().map(|(group, version, _)| format!("/{}", openapi::root(group, version))));
        paths.sort();
        json!({"paths": paths})
    }

    fn openapi(&self) -> &BTreeMap<String, Document> {
        self.openapi.get_or_init(|| {
            let groups = Groups::of(&self.kinds);
            let documents = groups.versions().map(|(group, version, kinds)| {
                (openapi::root(group, version), cacheable(&openapi::document(group, version, kinds)))
            });
            documents.collect()
        })
    }

    fn openapi_v2(&self) -> &[Document; 2] {
        self.openapi_v2.get_or_init(|| {
            let groups = Groups::of(&self.kinds);
            let documents = groups.versions().map(|(group, version, kinds)| openapi::document(group, version, kinds));
            let document = openapi::v2::document(&documents.collect::<Vec<_>>());
            let json = cacheable(&document);
            let bytes = Bytes::from(openapi::wire::encode(&document));
            let protobuf = Document { content_type: OPENAPI_V2, etag: Some(etag(&bytes)), bytes };
            [json, protobuf]
        })
    }

    fn openapi_index(&self) -> Value {
        let paths = self.openapi().iter().map(|(path, document)| {
            let hash = document.etag.as_deref().unwrap_or_default().trim_matches('"');
            (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}))
        });
        json!({"paths": Value::Object(paths.collect())})
    }
}

fn json_document(value: &Value) -> Document {
    Document { content_type: JSON, etag: None, bytes: Bytes::from(value.to_string()) }
}

fn cacheable(value: &Value) -> Document {
    let document = json_document(value);
    Document { etag: Some(etag(&document.bytes)), ..document }
}

fn etag(bytes: &[u8]) -> String {
    let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02X}")).collect();
    format!("\"{hash}\"")
}

/// `/version`, with everything that clients read of it.
fn version(git_version: &str) -> Value {
    let mut numbers = git_version.trim_start_matches('v').split(['.', '-', '+']);
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    json!({"major": major, "minor": minor, "gitVersion": git_version, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::core;

    fn documents() -> Documents {
        Documents::new(core::workload().into_iter().map(Arc::new).collect())
    }

    fn value(path: &str, accept: &str) -> Value {
        serde_json::from_slice(&documents().get(path, accept, "v1.35.5").unwrap().bytes).unwrap()
    }

    #[test]
    fn discovery_names_every_resource_in_both_forms() {
        assert_eq!(value("/api", "")["versions"], json!(["v1"]));
        let groups = value("/apis", "*/*");
        let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().filter_map(|g| g["name"].as_str()).collect();
        let whole = |name: &str| format!("{name}.k8s.io");
        let [authentication, authorization, coordination, events, networking] =
            ["authentication", "authorization", "coordination", "events", "networking"].map(whole);
        let expected = ["apps", &authentication, &authorization, &coordination, &events, &networking, "policy"];
        assert_eq!(names, expected);
        assert_eq!(value("/apis/apps", "")["preferredVersion"]["groupVersion"], "apps/v1");
        let resources = value("/apis/apps/v1", "");
        let names = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap().to_owned()).collect()
        };
        let all = [
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
        ];
        let mut found = names(&resources["resources"]);
        found.sort();
        assert_eq!(found, all);
        let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
        let document = documents().get("/apis", accept, "v1.35.5").unwrap();
        assert_eq!(document.content_type, AGGREGATED_V2);
        let aggregated = value("/apis", accept);
        assert_eq!(aggregated["items"][0]["metadata"]["name"], "apps");
        let deployment = aggregated["items"][0]["versions"][0]["resources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|resource| resource["resource"] == "deployments")
            .unwrap();
        assert_eq!(deployment["shortNames"], json!(["deploy"]));
        assert_eq!(deployment["subresources"][0]["subresource"], "scale");
        assert_eq!(deployment["subresources"][0]["responseKind"]["group"], "autoscaling");
        assert_eq!(deployment["subresources"][1]["subresource"], "status");
        assert_eq!(value("/api", accept)["items"][0]["metadata"]["name"], "");
    }

    #[test]
    fn openapi_tells_of_dry_run_and_validation_and_where_it_is() {
        let index = value("/openapi/v3", "");
        let url = index["paths"]["apis/coordination.k8s.io/v1"]["serverRelativeURL"].as_str().unwrap();
        let (path, hash) = url.split_once("?hash=").unwrap();
        let document = documents().get(path, "", "v1.35.5").unwrap();
        assert_eq!(document.etag, Some(format!("\"{hash}\"")));
        let document: Value = serde_json::from_slice(&document.bytes).unwrap();
        let patch = &document["paths"]["/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Lease");
        let parameters: Vec<&str> =
            patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
        assert_eq!(parameters, WRITE);
        let schema = &document["components"]["schemas"]["io.k8s.coordination.v1.Lease"];
        assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Lease");
    }

    const WRITE: [&str; 4] = ["dryRun", "fieldManager", "fieldValidation", "force"];

    #[test]
    fn older_clients_find_the_same_in_openapi_v2() {
        let document = value("/openapi/v2", "application/json");
        assert_eq!(document["swagger"], "2.0");
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/configmaps/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "ConfigMap");
        let dry = patch["parameters"].as_array().unwrap().iter().find(|parameter| parameter["name"] == "dryRun");
        assert_eq!(dry.unwrap()["type"], "string");
        let pod = &document["definitions"]["io.k8s.api.core.v1.Pod"]["properties"];
        assert_eq!(pod["metadata"]["$ref"], "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        let port = &pod["spec"]["properties"]["containers"]["items"]["properties"]["livenessProbe"]["properties"];
        assert_eq!(port["httpGet"]["properties"]["port"]["format"], "int-or-string");
        assert!(!document.to_string().contains("components/schemas"));
        for accept in [OPENAPI_V2, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"] {
            let document = documents().get("/openapi/v2", accept, "v1.35.5").unwrap();
            assert_eq!(document.content_type, OPENAPI_V2);
            assert_eq!(document.bytes.get(..5), Some(&b"\x0a\x032.0"[..]));
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in ["/openapi/v1", "/apis/nope", "/api/v2", "/apis/apps/v2", "/metrics", "/healthz/etcd"] {
            assert_eq!(documents().get(path, "", "v1.35.5"), None, "{path}");
        }
        assert_eq!(value("/version/", "")["minor"], "35");
        assert_eq!(documents().get("/healthz", "", "").unwrap().bytes, Bytes::from_static(b"ok"));
    }
}

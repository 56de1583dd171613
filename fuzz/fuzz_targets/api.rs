//! Bodies of requests: objects as JSON, YAML and protobuf, options, and the four kinds of patches.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const CLUSTERS: &str = "/apis/kina.dev/v1alpha1/clusters";

fuzz_target!(|input: (u8, bool, &[u8])| {
    let (which, is_built_in, body) = input;
    let path = if is_built_in { DEPLOYMENTS } else { CLUSTERS };
    let one = format!("{path}/a?dryRun=All");
    let all = format!("{path}?dryRun=All");
    match which % 9 {
        0 => kina_fuzz::request(Method::POST, &all, "application/json", body),
        1 => kina_fuzz::request(Method::POST, &all, "application/yaml", body),
        2 => kina_fuzz::request(Method::POST, &all, "application/vnd.kubernetes.protobuf", body),
        3 => kina_fuzz::request(Method::PUT, &one, "application/json", body),
        4 => kina_fuzz::request(Method::PATCH, &one, "application/merge-patch+json", body),
        5 => kina_fuzz::request(Method::PATCH, &one, "application/json-patch+json", body),
        6 => kina_fuzz::request(Method::PATCH, &one, "application/strategic-merge-patch+json", body),
        7 => {
            let apply = format!("{one}&fieldManager=fuzz&force=true");
            kina_fuzz::request(Method::PATCH, &apply, "application/apply-patch+yaml", body);
        }
        _ => kina_fuzz::request(Method::DELETE, &one, "application/json", body),
    }
});

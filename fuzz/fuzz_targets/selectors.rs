//! Queries of lists: selectors, limits, tokens.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fuzz_target!(|input: (u8, &str)| {
    let (which, text) = input;
    let query = match which % 5 {
        0 => format!("labelSelector={}", encoded(text)),
        1 => format!("fieldSelector={}", encoded(text)),
        2 => format!("limit=1&continue={}", encoded(text)),
        3 => format!("resourceVersion={}&resourceVersionMatch=NotOlderThan", encoded(text)),
        _ => text.to_owned(),
    };
    // A watch has no end, and a revision to come is waited for.
    if which % 5 == 3 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return;
    }
    if query.to_ascii_lowercase().contains("watch") || query.contains('%') && which % 5 == 4 {
        return;
    }
    for path in ["/apis/apps/v1/namespaces/default/deployments", "/apis/kina.dev/v1alpha1/clusters"] {
        kina_fuzz::request(Method::GET, &format!("{path}?{query}"), "application/json", b"");
    }
});

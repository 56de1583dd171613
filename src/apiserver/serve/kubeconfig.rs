//! A kubeconfig for one server.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::pki::Issued;

/// The text of a kubeconfig with one cluster, user and context, all called `name`. It holds a private key: write it
/// with mode 0600.
pub fn kubeconfig(name: &str, server: &str, authority: &str, client: &Issued) -> String {
    let encode = |pem: &str| STANDARD.encode(pem);
    // A JSON string is a YAML string.
    let (name, server) = (json!(name), json!(server));
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: {name}\n  cluster:\n    server: {server}\n    certificate-authority-data: {authority}\n\
         users:\n\
         - name: {name}\n  user:\n    client-certificate-data: {certificate}\n    client-key-data: {key}\n\
         contexts:\n\
         - name: {name}\n  context:\n    cluster: {name}\n    user: {name}\n\
         current-context: {name}\n",
        authority = encode(authority),
        certificate = encode(&client.certificate),
        key = encode(&client.key),
    )
}

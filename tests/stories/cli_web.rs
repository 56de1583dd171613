//! Manifests from a web server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use kina::apiserver::serve;
use kina::apiserver::user::User;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::environment::TestEnvironment;

const GOOD: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n  runtime: sim\n";

/// A server over TLS, its address, and the certificate of who signed its own.
fn served() -> (String, String) {
    #[expect(clippy::disallowed_methods, reason = "real TLS clients have a real clock")]
    let now = jiff::Timestamp::now();
    let credentials = serve::credentials(&User::named("nobody"), now, Duration::from_secs(3600)).unwrap();
    let certificate = CertificateDer::from_pem_slice(credentials.server.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(credentials.server.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = stream.unwrap();
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let mut head = [0; 4096];
            // A client that does not trust this server asks for nothing.
            let Ok(length) = tls.read(&mut head) else { continue };
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let (status, more, body) = match head.split(' ').nth(1) {
                Some("/dev.yaml") => ("200 OK", "", GOOD.to_owned()),
                Some("/bad.yaml") => ("200 OK", "", format!("{GOOD}  workerz: []\n")),
                Some("/mounts.yaml") => {
                    let mounts = "  controlPlane: {extraMounts: [{hostPath: /srv, containerPath: /x}]}\n";
                    ("200 OK", "", format!("{GOOD}{mounts}"))
                }
                Some("/plain") => ("302 Found", "location: http://127.0.0.1/dev.yaml\r\n", String::new()),
                _ => ("404 Not Found", "", String::new()),
            };
            let answer =
                format!("HTTP/1.1 {status}\r\n{more}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
            let _ = tls.write_all(answer.as_bytes());
        }
    });
    (address, credentials.authority.pair.certificate)
}

#[test]
fn manifests_come_from_servers_that_this_host_trusts() {
    let environment = TestEnvironment::new();
    let (address, authority) = served();
    environment.write("authority.pem", &authority);
    let kina = |trust: bool, arguments: &[&str]| {
        let mut command = environment.command(arguments);
        if trust {
            command.env("SSL_CERT_FILE", environment.path("work/authority.pem"));
        }
        environment.ran(command.output().unwrap())
    };
    let good = format!("{address}/dev.yaml");
    assert_eq!(kina(true, &["validate", &good]).success(), format!("{good}: valid, 1 cluster\n"));
    assert_eq!(kina(true, &["apply", "-f", &good, "--no-wait"]).success(), "cluster/dev created\n");
    assert_eq!(kina(true, &["diff", "-f", &good]).success(), "");
    assert_eq!(
        kina(true, &["create", "cluster", "two", "--config", &good, "--wait", "0"]).success(),
        "cluster/two created\n"
    );
    let told = kina(true, &["up", "-f", &format!("{address}/bad.yaml")]).fails(3);
    assert!(told.contains("/bad.yaml:7:3"), "{told}");
    let mounts = format!("{address}/mounts.yaml");
    let told = kina(true, &["apply", "-f", &mounts, "--no-wait"]).fails(3);
    assert!(told.contains("/mounts.yaml:7:43"), "{told}");
    assert!(told.contains("`/srv` is not for a manifest from the web unless it is allowed"), "{told}");
    let allowed = ["--allow-host-mount", "/srv", "--no-wait"];
    assert_eq!(kina(true, &[&["apply", "-f", &mounts][..], &allowed].concat()).success(), "cluster/dev configured\n");
    let told = kina(true, &["apply", "-f", &format!("{address}/none.yaml")]).fails(5);
    assert!(told.contains("/none.yaml`: the server answered 404 Not Found"), "{told}");
    let told = kina(true, &["apply", "-f", &format!("{address}/plain")]).fails(4);
    assert!(told.contains("redirects from `https` to plain `http`"), "{told}");
    let told = kina(false, &["apply", "-f", &good]).fails(1);
    assert!(told.contains(&format!("cannot read `{good}`")) && told.contains("certificate"), "{told}");
}

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;
use crate::apiserver::user::User;

const LIFE: Duration = Duration::from_secs(3600);

#[expect(clippy::disallowed_methods, reason = "real TLS clients have a real clock")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn admin() -> User {
    User { name: "kina:admin".into(), groups: vec!["system:masters".into()] }
}

/// A server that says who asked for what, with what body.
async fn started(credentials: &Credentials) -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let pair = &credentials.server;
    let tls = server_config(&credentials.authority.pair.certificate, &pair.certificate, &pair.key).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let answer = |user: User, request: Request<RequestBody>| async move {
        let path = request.uri().path().to_owned();
        if path == "/forever" {
            std::future::pending::<()>().await;
        }
        let body = request.into_body().collect().await.map(|body| body.to_bytes().len()).unwrap_or_default();
        let text = format!("{} {:?} {path} {body}", user.name, user.groups);
        Ok::<_, Infallible>(Response::new(http_body_util::Full::new(Bytes::from(text))))
    };
    let served =
        tokio::spawn(serve(listener, tls, answer, Limits::connections(8).drain(Duration::from_millis(100)), async {
            let _ = stopped.await;
        }));
    (address, stop, served)
}

async fn client(credentials: &Credentials, address: &str) -> kube::Client {
    let text = kubeconfig("kina", address, &credentials.authority.pair.certificate, &credentials.client);
    let config = Kubeconfig::from_yaml(&text).unwrap();
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

async fn ask(client: &kube::Client, path: &str, body: Vec<u8>) -> Result<String, kube::Error> {
    client.request_text(Request::post(path).body(body).unwrap()).await
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let credentials = credentials(&admin(), now(), LIFE).unwrap();
    let (address, stop, served) = started(&credentials).await;
    let client = client(&credentials, &address).await;
    let answer = ask(&client, "/api", vec![0; 100_000]).await.unwrap();
    assert_eq!(answer, r#"kina:admin ["system:masters"] /api 100000"#);
    drop(client);
    stop.send(()).unwrap();
    served.await.unwrap();
}

#[tokio::test]
async fn a_client_of_another_authority_or_with_an_expired_certificate_is_not_heard() {
    let ours = credentials(&admin(), now(), LIFE).unwrap();
    let (address, _stop, _served) = started(&ours).await;
    let theirs = credentials(&admin(), now(), LIFE).unwrap();
    let stranger = Credentials { client: theirs.client, ..ours.clone() };
    assert!(ask(&client(&stranger, &address).await, "/api", Vec::new()).await.is_err());
    let long_ago = now() - jiff::SignedDuration::from_hours(48);
    let expired = Credentials { client: ours.authority.client(&admin(), long_ago, LIFE).unwrap(), ..ours.clone() };
    assert!(ask(&client(&expired, &address).await, "/api", Vec::new()).await.is_err());
    let mut nobody = tokio::net::TcpStream::connect(address.trim_start_matches("https://")).await.unwrap();
    nobody.write_all(b"GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = nobody.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_browser_is_refused_with_a_status() {
    let credentials = credentials(&admin(), now(), LIFE).unwrap();
    let (address, _stop, _served) = started(&credentials).await;
    let client = client(&credentials, &address).await;
    let request = Request::post("/api").header("origin", "https://evil.dev").body(Vec::new()).unwrap();
    let error = client.request_text(request).await.unwrap_err();
    let kube::Error::Api(status) = error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
}

#[tokio::test]
async fn shutdown_lets_idle_connections_go_and_cuts_off_what_never_ends() {
    let credentials = credentials(&admin(), now(), LIFE).unwrap();
    let (address, stop, served) = started(&credentials).await;
    let client = client(&credentials, &address).await;
    ask(&client, "/api", Vec::new()).await.unwrap();
    let forever = tokio::spawn({
        let client = client.clone();
        async move { ask(&client, "/forever", Vec::new()).await }
    });
    tokio::task::yield_now().await;
    stop.send(()).unwrap();
    served.await.unwrap();
    assert!(forever.await.unwrap().is_err());
}

#[test]
fn keys_are_not_printed() {
    let credentials = credentials(&admin(), now(), LIFE).unwrap();
    assert!(!format!("{credentials:?}").contains("PRIVATE KEY"));
}

#[test]
fn what_cannot_be_used_says_which() {
    let good = credentials(&admin(), now(), LIFE).unwrap();
    let (authority, server) = (&good.authority.pair.certificate, &good.server);
    let error = server_config("", &server.certificate, &server.key).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the PEM of the authority");
    let error = server_config(authority, &server.certificate, &good.client.key).unwrap_err();
    assert_eq!(error.to_string(), "cannot use the certificate and key");
}

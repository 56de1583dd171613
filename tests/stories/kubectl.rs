//! A server with a kind of its own, served over TLS, and kubectl as its client.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use kina::apiserver::kind::Kind;
use kina::apiserver::serve::{self, Credentials, Limits};
use kina::apiserver::store::RedbStore;
use kina::apiserver::user::User;
use kina::apiserver::{ApiServer, Tenant, core};
use kina::world::World;
use kube::CustomResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::oneshot;
use tower::ServiceExt;

/// Trees in rows.
#[derive(kube::CustomResource, Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[kube(
    group = "example.dev",
    version = "v1",
    kind = "Orchard",
    shortname = "or",
    category = "all",
    status = "OrchardStatus",
    selectable = ".spec.fruit",
    printcolumn = r#"{"name": "Fruit", "type": "string", "jsonPath": ".spec.fruit"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Trees", "type": "integer", "jsonPath": ".spec.trees", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct OrchardSpec {
    /// What grows here.
    pub fruit: String,
    /// How many trees there are.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub trees: u32,
    /// Rows with names.
    #[serde(default)]
    pub rows: Vec<Row>,
}

fn one() -> u32 {
    1
}

/// A row of trees.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Row {
    /// Its name.
    pub name: String,
}

/// How an orchard is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrchardStatus {
    /// In a word.
    #[serde(default)]
    pub phase: String,
    /// Conditions.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Its output.
    pub out: String,
    /// Its complaints.
    pub err: String,
}

impl Ran {
    /// The output of a command that succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "out: {}\nerr: {}", self.out, self.err);
        self.out
    }

    /// The complaints of a command that failed.
    #[track_caller]
    pub fn failed(self) -> String {
        assert_ne!(self.code, 0, "out: {}\nerr: {}", self.out, self.err);
        self.err
    }
}

/// A served tenant and a directory for kubectl.
pub struct Served {
    pub tenant: Tenant,
    directory: TempDir,
    kubectl: PathBuf,
    server: ApiServer,
    stop: Option<oneshot::Sender<()>>,
}

impl Served {
    /// Starts a server with the sample kind and the built-in ones. `None`, said on standard error, where there is no
    /// kubectl.
    pub async fn start() -> Option<Self> {
        let kubectl = find()?;
        let world = World::real();
        let server = ApiServer::builder(RedbStore::in_memory("stories").unwrap(), world.clock.clone(), world.random)
            .kind(Kind::from_crd(&Orchard::crd()).unwrap())
            .kinds(core::workload())
            .page("/metrics", Arc::new(|| ("text/plain; charset=utf-8", "trees_total 3\n".to_owned())))
            .build()
            .unwrap();
        let tenant = server.tenant("stories");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let admin = User { name: "kina:admin".into(), groups: vec!["system:masters".into()] };
        let credentials = serve::credentials(&admin, world.clock.now(), Duration::from_secs(3600)).unwrap();
        let stop = run(listener, &tenant, &credentials);
        let directory = tempfile::tempdir().unwrap();
        let authority = &credentials.authority.pair.certificate;
        let text = serve::kubeconfig("kina", &address, authority, &credentials.client);
        let path = directory.path().join("kubeconfig");
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        std::fs::write(&path, text).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let served = Self { tenant, directory, kubectl, server, stop: Some(stop) };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        served.create("namespaces", namespace).await;
        Some(served)
    }

    /// Writes a file into the directory.
    pub fn file(&self, name: &str, content: &str) {
        std::fs::write(self.directory.path().join(name), content).unwrap();
    }

    /// Runs kubectl with arguments separated by blanks, in the directory.
    pub async fn kubectl(&self, arguments: &str) -> Ran {
        self.kubectl_with(&arguments.split_whitespace().collect::<Vec<_>>(), &[]).await
    }

    /// Runs kubectl with an environment.
    pub async fn kubectl_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let child = Command::new(&self.kubectl)
            .args(arguments)
            .current_dir(self.directory.path())
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("HOME", self.directory.path())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(60), child).await.expect("kubectl hangs").unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts kubectl and reads its output as it comes.
    pub fn spawn(&self, arguments: &str) -> tokio::process::Child {
        Command::new(&self.kubectl)
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("HOME", self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// A request in process: method, path, content type and body, to code and answer.
    pub async fn call(&self, method: &str, path: &str, content_type: &str, body: Value) -> (u16, Value) {
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(body.to_string().into()).unwrap();
        let response = self.tenant.handle(&User::named("story"), request).await;
        let code = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// Creates a cluster-scoped core object.
    pub async fn create(&self, plural: &str, object: Value) {
        let (code, body) = self.call("POST", &format!("/api/v1/{plural}"), "application/json", object).await;
        assert_eq!(code, 201, "{body}");
    }

    /// Merges into an orchard or its status.
    pub async fn merge(&self, name: &str, change: Value) {
        let path = format!("/apis/example.dev/v1/orchards/{name}");
        let (code, body) = self.call("PATCH", &path, "application/merge-patch+json", change).await;
        assert_eq!(code, 200, "{body}");
    }

    /// An orchard as it is.
    pub async fn orchard(&self, name: &str) -> Value {
        self.call("GET", &format!("/apis/example.dev/v1/orchards/{name}"), "", Value::Null).await.1
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.shutdown();
        drop(self.stop.take());
    }
}

fn run(listener: TcpListener, tenant: &Tenant, credentials: &Credentials) -> oneshot::Sender<()> {
    let pair = &credentials.server;
    let tls = serve::server_config(&credentials.authority.pair.certificate, &pair.certificate, &pair.key).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let tenant = tenant.clone();
    let answer = move |user, request| tenant.service(user).oneshot(request);
    tokio::spawn(serve::serve(listener, tls, answer, Limits::default(), async {
        let _ = stopped.await;
    }));
    stop
}

/// kubectl by `KUBECTL`, or from the path.
pub fn find() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::var_os("KUBECTL").map(PathBuf::from);
    let found =
        named.or_else(|| std::env::split_paths(&paths).map(|path| path.join("kubectl")).find(|path| path.is_file()));
    if found.is_none() {
        eprintln!("SKIPPED: there is no kubectl in PATH, and KUBECTL is not set");
    }
    found
}

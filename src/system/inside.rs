//! What is in machines, for people: their logs, commands in them, images into them. Subresources of Machine and Cluster that
//! the store knows nothing of, answered by who has the runtimes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Api;
use serde::Serialize;
use serde_json::json;
use tokio::task::JoinHandle;

use super::loading;

use crate::api::Machine;
use crate::api::cluster::RuntimeName;
use crate::api::inside::{
    CLUSTERS_PATH, Command, EXEC_SECONDS, EXEC_SECONDS_MAX, Ended, LOG_LINES, LOG_LINES_MAX, Loaded, MACHINES_PATH,
    decode, encode,
};
use crate::apiserver::body::Body;
use crate::apiserver::status::ApiError;
use crate::apiserver::user::User;
use crate::controllers::Runtimes;
use crate::runtime::{Cause, Container, ContainerId, ExecRequest, InstallationId, Listing, Runtime, RuntimeError};

/// The largest body: that of any request.
const BODY_BYTES: usize = 3 << 20;
/// While a command runs, a sign that it does is sent this often: clients give up what falls silent.
const SIGN: Duration = Duration::from_secs(10);

/// Reaches into machines.
#[derive(Clone)]
pub struct Inside {
    /// Reads Machines.
    pub client: kube::Client,
    /// Where they run.
    pub runtimes: Runtimes,
    /// Nothing of another's is touched.
    pub installation: InstallationId,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The log of a machine.
    Log(String),
    /// A command in a machine.
    Exec(String),
    /// Images into the machines of a cluster.
    Load(String),
}

impl Asked {
    /// What a path asks for, if it asks for something here.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let below = |path: &'static str, rest: &str| {
            let (name, what) = rest.strip_prefix(path)?.split_once('/')?;
            Some((name.to_owned(), what.to_owned())).filter(|(name, _)| !name.is_empty())
        };
        if let Some((cluster, what)) = below(CLUSTERS_PATH, path) {
            return (what == "images").then_some(Self::Load(cluster));
        }
        match below(MACHINES_PATH, path)? {
            (machine, what) if what == "log" => Some(Self::Log(machine)),
            (machine, what) if what == "exec" => Some(Self::Exec(machine)),
            _ => None,
        }
    }
}

impl Inside {
    /// Answers.
    pub async fn answer<B>(&self, asked: Asked, user: &User, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let is_administrator = user.groups.iter().any(|group| group == "system:masters");
        let answered = match asked {
            _ if !is_administrator => {
                let message = format!("user \"{}\" may not look into machines", user.name);
                Err(ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message))
            }
            Asked::Log(machine) if request.method() == Method::GET => {
                self.log(&machine, request.uri().query().unwrap_or_default()).await
            }
            Asked::Exec(machine) if request.method() == Method::POST => self.exec(&machine, request.into_body()).await,
            Asked::Load(cluster) if request.method() == Method::POST => self.load(&cluster, request.into_body()).await,
            Asked::Log(_) | Asked::Exec(_) | Asked::Load(_) => Err(ApiError::method_not_allowed()),
        };
        let (code, media_type, body) = match answered {
            Ok((media_type, body)) => (StatusCode::OK, media_type, body),
            Err(error) => (error.status_code(), "application/json", Body::whole(error.to_body().into_bytes())),
        };
        let mut response = Response::new(body);
        *response.status_mut() = code;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
    }

    async fn log(&self, machine: &str, query: &str) -> Result<(&'static str, Body), ApiError> {
        let lines = lines(query)?;
        let (runtime, id) = self.container(machine).await?;
        let text = runtime.logs(&id, lines).await.map_err(refused)?;
        Ok(("text/plain; charset=utf-8", Body::whole(text.into_bytes())))
    }

    async fn exec<B>(&self, machine: &str, body: B) -> Result<(&'static str, Body), ApiError>
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = command(&whole(body).await?)?;
        let (runtime, id) = self.container(machine).await?;
        Ok(in_time(async move { ended(runtime.exec(&id, &request).await) }))
    }

    async fn load<B>(&self, cluster: &str, body: B) -> Result<(&'static str, Body), ApiError>
    where
        B: http_body::Body + Send,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let wanted = loading::wanted(&whole(body).await?)?;
        let loading = loading::begin(self, cluster, wanted).await?;
        Ok(in_time(async move {
            match loading.run().await {
                Ok(machines) => Loaded { machines, error: None },
                Err(error) => Loaded { machines: Vec::new(), error: Some(error.to_string()) },
            }
        }))
    }

    /// The container of a Machine, as far as it is ours.
    async fn container(&self, machine: &str) -> Result<(Arc<dyn Runtime>, ContainerId), ApiError> {
        let unavailable = |message: String| ApiError::new(StatusCode::CONFLICT, "Conflict", message);
        let found = Api::<Machine>::all(self.client.clone()).get_opt(machine).await.map_err(ApiError::internal)?;
        let Some(found) = found else {
            let message = format!("machines.kina.dev \"{machine}\" not found");
            return Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", message));
        };
        let runtime = self.runtime(found.spec.runtime)?;
        let id = found.status.and_then(|status| status.container_id);
        let id = id.ok_or_else(|| unavailable(format!("machine {machine} has no container yet")))?;
        let listing = runtime.list().await.map_err(refused)?;
        let container = self.ours(&listing, &id);
        let container = container.ok_or_else(|| unavailable(format!("the container of machine {machine} is gone")))?;
        Ok((runtime, container.id.clone()))
    }

    /// A runtime that is at hand.
    pub(super) fn runtime(&self, name: RuntimeName) -> Result<Arc<dyn Runtime>, ApiError> {
        self.runtimes.usable.get(&name).cloned().ok_or_else(|| {
            let message = format!("the runtime {} is not there", name.as_str());
            ApiError::new(StatusCode::CONFLICT, "Conflict", message)
        })
    }

    /// The container of this id, as far as it is ours.
    pub(super) fn ours<'a>(&self, listing: &'a Listing, id: &str) -> Option<&'a Arc<Container>> {
        let found = listing.containers.iter().find(|container| container.id.0 == id)?;
        Some(found).filter(|container| container.owner().is_some_and(|owner| owner.installation == self.installation))
    }
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").field("runtimes", &self.runtimes).finish_non_exhaustive()
    }
}

/// The whole body of a request.
async fn whole<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = Limited::new(body, BODY_BYTES).collect().await;
    let body = body.map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}")))?;
    Ok(body.to_bytes())
}

/// An answer that takes its time: it goes on, and its client hears so. What was begun is carried out even where nobody
/// listens any more.
fn in_time<T>(work: impl Future<Output = T> + Send + 'static) -> (&'static str, Body)
where
    T: Serialize + Send + 'static,
{
    let running = tokio::spawn(work);
    let signs = futures::stream::unfold(Some(running), |running| async move { Some(sign(running?).await) });
    ("application/json", Body::stream(signs))
}

/// The next piece of an answer: a space, which is nothing in JSON, or what came of it.
async fn sign<T: Serialize>(mut running: JoinHandle<T>) -> (Bytes, Option<JoinHandle<T>>) {
    match tokio::time::timeout(SIGN, &mut running).await {
        Err(_) => (Bytes::from_static(b" "), Some(running)),
        Ok(Ok(ended)) => (serde_json::to_vec(&ended).unwrap_or_default().into(), None),
        Ok(Err(error)) => (serde_json::to_vec(&json!({"error": error.to_string()})).unwrap_or_default().into(), None),
    }
}

fn ended(ran: Result<crate::runtime::ExecOutput, RuntimeError>) -> Ended {
    match ran {
        Ok(output) => Ended {
            exit_code: Some(output.code),
            stdout: encode(&output.stdout),
            stderr: encode(&output.stderr),
            error: None,
        },
        Err(error) => Ended { error: Some(error.to_string()), ..Ended::default() },
    }
}

/// A command as the runtime takes it.
fn command(body: &[u8]) -> Result<ExecRequest, ApiError> {
    let command: Command = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is no command: {error}")))?;
    if command.command.is_empty() {
        return Err(ApiError::bad_request("the command is empty"));
    }
    let stdin = command.stdin.as_deref().map(decode).transpose();
    let stdin = stdin.map_err(|error| ApiError::bad_request(format!("`stdin` is not base64: {error}")))?;
    let seconds = command.timeout_seconds.unwrap_or(EXEC_SECONDS);
    if !(1..=EXEC_SECONDS_MAX).contains(&seconds) {
        return Err(ApiError::bad_request(format!("`timeoutSeconds` must be between 1 and {EXEC_SECONDS_MAX}")));
    }
    Ok(ExecRequest { command: command.command, stdin, timeout: Duration::from_secs(seconds) })
}

/// `tailLines=N`.
fn lines(query: &str) -> Result<usize, ApiError> {
    let mut lines = LOG_LINES;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let number = pair.strip_prefix("tailLines=").and_then(|number| number.parse::<usize>().ok());
        let wrong =
            || ApiError::bad_request(format!("the query parameter \"{pair}\" is not supported for this request"));
        lines = number.ok_or_else(wrong)?.min(LOG_LINES_MAX);
    }
    Ok(lines)
}

/// What a runtime refuses, in the API's terms.
pub(super) fn refused(error: RuntimeError) -> ApiError {
    let (code, reason) = match error.cause {
        Cause::NotFound | Cause::NotRunning => (StatusCode::CONFLICT, "Conflict"),
        Cause::Timeout | Cause::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
    };
    ApiError::new(code, reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_subresources_that_are_answered_here_are_taken() {
        let path = |rest: &str| format!("{MACHINES_PATH}{rest}");
        assert_eq!(Asked::of(&path("dev-a-0/log")), Some(Asked::Log("dev-a-0".into())));
        assert_eq!(Asked::of(&path("dev-a-0/exec")), Some(Asked::Exec("dev-a-0".into())));
        for other in ["dev-a-0", "dev-a-0/status", "/log", "dev-a-0/log/x", ""] {
            assert_eq!(Asked::of(&path(other)), None, "{other}");
        }
        assert_eq!(Asked::of("/apis/kina.dev/v1alpha1/clusters/dev/log"), None);
        assert_eq!(Asked::of("/apis/kina.dev/v1alpha1/clusters/dev/images"), Some(Asked::Load("dev".into())));
    }

    #[test]
    fn commands_and_queries_are_read_and_what_is_wrong_with_them_is_told() {
        let read = command(br#"{"command": ["cat"], "stdin": "aGk=", "timeoutSeconds": 5}"#).unwrap();
        assert_eq!((read.stdin.as_deref(), read.timeout), (Some(&b"hi"[..]), Duration::from_secs(5)));
        for (body, told) in [
            (r#"{"command": []}"#, "the command is empty"),
            (r#"{"command": ["a"], "tty": true}"#, "unknown field `tty`"),
            (r#"{"command": ["a"], "stdin": "?"}"#, "is not base64"),
            (r#"{"command": ["a"], "timeoutSeconds": 0}"#, "between 1 and 3600"),
        ] {
            let message = command(body.as_bytes()).unwrap_err().to_body();
            assert!(message.contains(told), "{message}");
        }
        assert_eq!(lines("").unwrap(), LOG_LINES);
        assert_eq!(lines("tailLines=7").unwrap(), 7);
        assert_eq!(lines("tailLines=1000000").unwrap(), LOG_LINES_MAX);
        assert!(lines("follow=true").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_command_runs_its_client_hears_of_it() {
        let running = tokio::spawn(async {
            tokio::time::sleep(Duration::from_secs(25)).await;
            Ended { exit_code: Some(3), ..Ended::default() }
        });
        let (mut next, mut heard) = (Some(running), Vec::new());
        while let Some(running) = next {
            let (piece, rest) = sign(running).await;
            heard.extend(piece);
            next = rest;
        }
        assert_eq!(String::from_utf8(heard).unwrap(), r#"  {"exitCode":3}"#);
    }
}

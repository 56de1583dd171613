//! What is in machines, for people: their logs, and commands in them. Subresources of Machine that the store knows nothing
//! of, answered by who has the runtimes.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::Api;
use tokio::task::JoinHandle;

use crate::api::Machine;
use crate::api::inside::{
    Command, EXEC_SECONDS, EXEC_SECONDS_MAX, Ended, LOG_LINES, LOG_LINES_MAX, MACHINES_PATH, decode, encode,
};
use crate::apiserver::body::Body;
use crate::apiserver::status::ApiError;
use crate::apiserver::user::User;
use crate::controllers::Runtimes;
use crate::runtime::{Cause, ContainerId, ExecRequest, InstallationId, Runtime, RuntimeError};

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
}

impl Asked {
    /// What a path asks for, if it asks for something here.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let (machine, what) = path.strip_prefix(MACHINES_PATH)?.split_once('/')?;
        let machine = Some(machine.to_owned()).filter(|machine| !machine.is_empty())?;
        match what {
            "log" => Some(Self::Log(machine)),
            "exec" => Some(Self::Exec(machine)),
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
            Asked::Log(_) | Asked::Exec(_) => Err(ApiError::method_not_allowed()),
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
        let body = Limited::new(body, BODY_BYTES).collect().await;
        let body = body.map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}")))?;
        let request = command(&body.to_bytes())?;
        let (runtime, id) = self.container(machine).await?;
        let running = tokio::spawn(async move { ended(runtime.exec(&id, &request).await) });
        let signs = futures::stream::unfold(Some(running), |running| async move { Some(sign(running?).await) });
        Ok(("application/json", Body::stream(signs)))
    }

    /// The container of a Machine, as far as it is ours.
    async fn container(&self, machine: &str) -> Result<(std::sync::Arc<dyn Runtime>, ContainerId), ApiError> {
        let unavailable = |message: String| ApiError::new(StatusCode::CONFLICT, "Conflict", message);
        let found = Api::<Machine>::all(self.client.clone()).get_opt(machine).await.map_err(ApiError::internal)?;
        let Some(found) = found else {
            let message = format!("machines.kina.dev \"{machine}\" not found");
            return Err(ApiError::new(StatusCode::NOT_FOUND, "NotFound", message));
        };
        let name = found.spec.runtime;
        let runtime = self.runtimes.usable.get(&name);
        let runtime = runtime.ok_or_else(|| unavailable(format!("the runtime {} is not there", name.as_str())))?;
        let id = found.status.and_then(|status| status.container_id);
        let id = id.ok_or_else(|| unavailable(format!("machine {machine} has no container yet")))?;
        let listing = runtime.list().await.map_err(refused)?;
        let is_ours = |labelled: Option<InstallationId>| labelled.as_ref() == Some(&self.installation);
        let container = listing.containers.into_iter().find(|container| container.id.to_string() == id);
        let container = container.filter(|container| is_ours(container.owner().map(|owner| owner.installation)));
        let container = container.ok_or_else(|| unavailable(format!("the container of machine {machine} is gone")))?;
        Ok((runtime.clone(), container.id.clone()))
    }
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").field("runtimes", &self.runtimes).finish_non_exhaustive()
    }
}

/// The next piece of an answer: a space, which is nothing in JSON, or how the command ended.
async fn sign(mut running: JoinHandle<Ended>) -> (Bytes, Option<JoinHandle<Ended>>) {
    match tokio::time::timeout(SIGN, &mut running).await {
        Err(_) => (Bytes::from_static(b" "), Some(running)),
        Ok(ended) => {
            let ended = ended.unwrap_or_else(|error| Ended { error: Some(error.to_string()), ..Ended::default() });
            (serde_json::to_vec(&ended).unwrap_or_default().into(), None)
        }
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
fn refused(error: RuntimeError) -> ApiError {
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

//! What an engine's refusal means. Docker and Podman say it in prose: the words are theirs, and pinned by tests.

use bollard::errors::Error;

use crate::runtime::{Cause, RuntimeError};

/// A failed call, with its cause.
pub fn failed(operation: &'static str, object: &str, error: Error) -> RuntimeError {
    let (cause, message) = match error {
        Error::DockerResponseServerError { status_code, message } => (cause(status_code, &message), message),
        Error::RequestTimeoutError => (Cause::Timeout, "the engine does not answer".to_owned()),
        Error::DockerStreamError { error } => (cause(500, &error), error),
        Error::DockerContainerWaitError { error, .. } => (Cause::Unknown, error),
        error @ (Error::IOError { .. }
        | Error::HyperResponseError { .. }
        | Error::HyperLegacyError { .. }
        | Error::SocketNotFoundError(_)) => (Cause::Unavailable, reasons(&error)),
        error => (Cause::Unknown, reasons(&error)),
    };
    RuntimeError::new(operation, short(object), cause, message.trim().replace(object, short(object)))
}

/// As the engine shows ids to people: their first twelve digits tell as much as all sixty-four.
fn short(object: &str) -> &str {
    let is_id = object.len() == 64 && object.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { &object[..12] } else { object }
}

/// An error with what caused it, down to the operating system: the outermost says only "client error (Connect)".
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

/// What a status and its message mean.
fn cause(status: u16, message: &str) -> Cause {
    // Words first: a 500 of Docker's may be anything, and Podman gives 500 for most.
    let words: [(&str, Cause); 21] = [
        ("already in use by container", Cause::AlreadyExists),
        ("is already in use by", Cause::AlreadyExists),
        ("already exists", Cause::AlreadyExists),
        ("Pool overlaps", Cause::Conflict),
        ("is already used on the host", Cause::Conflict),
        ("invalid pool request", Cause::Conflict),
        ("port is already allocated", Cause::Conflict),
        ("ddress already in use", Cause::Conflict),
        ("ports are not available", Cause::Conflict),
        ("requested address is not available", Cause::Conflict),
        ("requested ip address", Cause::Conflict),
        ("has active endpoints", Cause::InUse),
        ("volume is in use", Cause::InUse),
        ("volume is being used", Cause::InUse),
        ("has associated containers", Cause::InUse),
        ("is not running", Cause::NotRunning),
        ("can only create exec sessions on running containers", Cause::NotRunning),
        ("is paused", Cause::NotRunning),
        ("is already in progress", Cause::Unavailable),
        ("no space left on device", Cause::Exhausted),
        ("cannot allocate memory", Cause::Exhausted),
    ];
    let lower = message.to_lowercase();
    if let Some((_, cause)) = words.iter().find(|(words, _)| lower.contains(&words.to_lowercase())) {
        return *cause;
    }
    match status {
        400 | 405 | 501 => Cause::Invalid,
        404 => Cause::NotFound,
        503 => Cause::Unavailable,
        500 if lower.contains("no such") || lower.contains("not found") => Cause::NotFound,
        _ => Cause::Unknown,
    }
}

/// A failed pull. Where the registry answers that there is no such image, none will come.
pub fn failed_pull(image: &str, error: Error) -> RuntimeError {
    let error = failed("pull image", image, error);
    let lower = error.message.to_lowercase();
    let never = [
        "manifest unknown",
        "manifest for",
        "not found: ",
        "name unknown",
        "repository does not exist",
        "invalid reference",
    ];
    let cause = match error.cause {
        Cause::Invalid => Cause::Invalid,
        Cause::Unavailable | Cause::Timeout | Cause::Exhausted => error.cause,
        _ if never.iter().any(|words| lower.contains(words)) => Cause::Invalid,
        _ => Cause::ImagePull,
    };
    RuntimeError { cause, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status_code: u16, message: &str) -> Cause {
        let message = message.to_owned();
        failed("do", "it", Error::DockerResponseServerError { status_code, message }).cause
    }

    #[test]
    fn what_docker_says_has_a_cause() {
        for (status, message, cause) in [
            (404, "No such container: abc", Cause::NotFound),
            (404, "No such image: x:1", Cause::NotFound),
            (
                409,
                r#"Conflict. The container name "/a" is already in use by container "4f…". You have to remove (or rename) that container to be able to reuse that name."#,
                Cause::AlreadyExists,
            ),
            (409, "network with name x already exists", Cause::AlreadyExists),
            (403, "error while removing network: network x id 1 has active endpoints", Cause::InUse),
            (403, "Pool overlaps with other one on this address space", Cause::Conflict),
            (403, "Address already in use", Cause::Conflict),
            (409, "remove x: volume is in use - [4f]", Cause::InUse),
            (409, "Container 4f is not running", Cause::NotRunning),
            (409, "removal of container 4f is already in progress", Cause::Unavailable),
            (
                500,
                "driver failed programming external connectivity on endpoint a (4f): Bind for 127.0.0.1:1 failed: port is already allocated",
                Cause::Conflict,
            ),
            (
                500,
                "driver failed programming external connectivity on endpoint a: Error starting userland proxy: listen tcp4 127.0.0.1:1: bind: address already in use",
                Cause::Conflict,
            ),
            (500, "write /var/lib/docker/x: no space left on device", Cause::Exhausted),
            (400, "invalid reference format", Cause::Invalid),
            (500, "something new", Cause::Unknown),
        ] {
            assert_eq!(said(status, message), cause, "{status} {message}");
        }
    }

    #[test]
    fn what_podman_says_has_a_cause() {
        for (status, message, cause) in [
            (404, r#"no container with name or ID "a" found: no such container"#, Cause::NotFound),
            (404, "volume with name a not found: no such volume", Cause::NotFound),
            (500, "container create: unable to find network with name or ID a: network not found", Cause::NotFound),
            (
                500,
                r#"container create: creating container storage: the container name "a" is already in use by 4f. You have to remove that container to be able to reuse that name: that name is already in use"#,
                Cause::AlreadyExists,
            ),
            (500, "network name a already used: network already exists", Cause::AlreadyExists),
            (500, "subnet 10.1.0.0/24 is already used on the host or by another config", Cause::Conflict),
            (
                500,
                "cannot listen on the TCP port: listen tcp4 127.0.0.1:1: bind: address already in use",
                Cause::Conflict,
            ),
            (
                500,
                "IPAM error: requested ip address 10.1.0.10 is already allocated to container ID 4f",
                Cause::Conflict,
            ),
            (
                500,
                r#""a" has associated containers with it. Use -f to forcibly delete containers and pods: network is being used"#,
                Cause::InUse,
            ),
            (409, "volume a is being used by the following container(s): 4f: volume is being used", Cause::InUse),
            (500, "can only create exec sessions on running containers: container state improper", Cause::NotRunning),
        ] {
            assert_eq!(said(status, message), cause, "{status} {message}");
        }
    }

    #[test]
    fn an_image_that_no_registry_has_is_not_asked_for_again() {
        let pull = |status_code, message: &str| {
            failed_pull("i", Error::DockerResponseServerError { status_code, message: message.to_owned() }).cause
        };
        assert_eq!(
            pull(404, "manifest for kindest/node:v0.0.1 not found: manifest unknown: manifest unknown"),
            Cause::Invalid
        );
        assert_eq!(
            pull(404, "pull access denied for nobody/nothing, repository does not exist or may require 'docker login'"),
            Cause::Invalid
        );
        assert_eq!(
            pull(500, "Get \"https://registry/v2/\": dial tcp: lookup registry: no such host"),
            Cause::ImagePull
        );
        assert_eq!(pull(500, "Get \"https://registry/v2/\": net/http: TLS handshake timeout"), Cause::ImagePull);
        assert_eq!(pull(500, "write /var/lib/docker/tmp/x: no space left on device"), Cause::Exhausted);
    }
}

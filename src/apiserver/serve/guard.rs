//! Who is not answered: a request too many, and browsers: a page on the web can make a browser send requests to loopback,
//! under a name of its own (DNS rebinding) or with an `Origin`.

use std::convert::Infallible;
use std::future::Future;

use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;

use super::Limits;
use super::patience::RequestBody;
use crate::apiserver::service::refusal as refusal_of;
use crate::apiserver::status::ApiError;
use crate::apiserver::user::User;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Answers a request, unless it is refused.
pub(super) async fn guarded<A, F, B>(
    user: User,
    request: Request<Incoming>,
    answer: A,
    limits: Limits,
) -> Result<Response<UnsyncBoxBody<Bytes, Error>>, Infallible>
where
    A: Fn(User, Request<RequestBody>) -> F,
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    if let Some(message) = refusal(&request) {
        return Ok(refused(&ApiError::new(StatusCode::FORBIDDEN, "Forbidden", message)));
    }
    let Some(place) = limits.request() else { return Ok(refused(&ApiError::too_many_requests())) };
    let of_body = if request.body().is_end_stream() { None } else { limits.body().await };
    let response = answer(user, request.map(|body| RequestBody::new(body, of_body))).await?;
    // The request has its place until its answer is sent, or given up.
    let held = move |frame| {
        let _ = &place;
        frame
    };
    Ok(response.map(|body| body.map_frame(held).map_err(Into::into).boxed_unsync()))
}

/// Why a request is refused, if it is.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<String> {
    if request.headers().contains_key(ORIGIN) {
        return Some("requests of web pages are not served (they carry an Origin header)".into());
    }
    let host = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(HOST).and_then(|host| host.to_str().ok()),
    };
    if request.headers().get_all(HOST).iter().count() > 1 || !host.is_some_and(is_loopback) {
        return Some("this server is asked for as 127.0.0.1, localhost or [::1] only".into());
    }
    None
}

/// Whether a `HOST[:PORT]` is loopback by its name.
fn is_loopback(host: &str) -> bool {
    ["127.0.0.1", "localhost", "[::1]"].into_iter().any(|name| {
        let port = host.get(..name.len()).filter(|head| head.eq_ignore_ascii_case(name)).and(host.get(name.len()..));
        port.is_some_and(|port| {
            port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
        })
    })
}

fn refused(error: &ApiError) -> Response<UnsyncBoxBody<Bytes, Error>> {
    refusal_of(error).map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_served() {
        for host in ["127.0.0.1", "127.0.0.1:6443", "localhost:1", "LOCALHOST", "[::1]:443", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in
            ["", "evil.dev", "127.0.0.1.evil.dev", "localhost:", "localhost:99999", "127.0.0.2", "::1", "[::1]x"]
        {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_request_with_an_origin_or_a_foreign_or_second_host_is_refused() {
        let request = |headers: &[(&str, &str)], uri: &str| {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            refusal(&request.body(()).unwrap()).is_some()
        };
        assert!(!request(&[("host", "localhost:1")], "/api"));
        assert!(!request(&[], "https://127.0.0.1:1/api"));
        assert!(request(&[], "/api"));
        assert!(request(&[("host", "localhost")], "https://evil.dev/api"));
        assert!(request(&[("host", "localhost"), ("host", "evil.dev")], "/api"));
        assert!(request(&[("host", "localhost"), ("origin", "null")], "/api"));
    }
}

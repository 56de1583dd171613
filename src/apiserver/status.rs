//! Errors as Kubernetes words them: every refusal is a `Status` object.

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::admission::Denied;
use super::kind::{FieldFault, Kind};
use super::request::path::ObjectPath;
use super::request::query::Verb;
use super::store::StoreError;
use super::user::User;

/// An error of the API, ready to be sent as a `Status`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Reason in CamelCase, such as `NotFound`.
    pub reason: &'static str,
    /// Whole sentence for a person.
    pub message: String,
    /// What it is about.
    pub details: Option<Box<Details>>,
    /// A token with which a list that expired can go on, at a newer revision.
    pub continue_token: Option<String>,
}

/// What an error is about. The order of fields is that in which Kubernetes writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Name of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its resource, or its kind where the object is invalid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Single causes: field, reason, message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One cause of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Reason in CamelCase, such as `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// Path of the field, empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// A `Status` as it is sent. Clients show refusals as they come, and some compare them: the order is Kubernetes'.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    kind: &'a str,
    api_version: &'a str,
    metadata: ListMeta<'a>,
    status: &'a str,
    message: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    code: u16,
}

#[derive(Serialize)]
struct ListMeta<'a> {
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    continue_token: Option<&'a str>,
}

impl From<FieldFault> for Cause {
    fn from(fault: FieldFault) -> Self {
        Self { reason: fault.reason.to_owned(), message: fault.message, field: fault.field }
    }
}

impl ApiError {
    /// Any error without details.
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.as_u16(), reason, message: message.into(), details: None, continue_token: None }
    }

    fn about(mut self, kind: &Kind, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: kind.resource.group.clone(),
            kind: kind.resource.plural.clone(),
            ..Details::default()
        }));
        self
    }

    fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 404 for an object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource);
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// 404 for a path.
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 406, with what could be had.
    pub fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        )
    }

    /// 409 for a name already taken.
    pub fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource);
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    /// 409 for a write that does not fit the stored object.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource);
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    /// 409 for a write based on an older state of the object.
    pub fn modified(kind: &Kind, name: &str) -> Self {
        Self::conflict(
            kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 403.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let message = if name.is_empty() {
            format!("{} is forbidden: {why}", kind.resource)
        } else {
            format!("{} \"{name}\" is forbidden: {why}", kind.resource)
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(kind, name)
    }

    /// 403 for a user who may do nothing.
    pub(crate) fn not_permitted(user: &User, verb: Verb, path: &ObjectPath) -> Self {
        let resource = &path.resource;
        let what = match path.subresource.as_deref() {
            None => resource.plural.clone(),
            Some(subresource) => format!("{}/{subresource}", resource.plural),
        };
        let place = match path.namespace.as_deref() {
            None => "at the cluster scope".to_owned(),
            Some(namespace) => format!("in the namespace {namespace:?}"),
        };
        let name = path.name.as_deref().unwrap_or_default();
        let named = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let message = format!(
            "{resource}{named} is forbidden: User {:?} cannot {} resource {what:?} in API group {:?} {place}",
            user.name,
            verb.as_str(),
            resource.group
        );
        let mut error = Self::new(StatusCode::FORBIDDEN, "Forbidden", message);
        error.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: resource.group.clone(),
            kind: resource.plural.clone(),
            ..Details::default()
        }));
        error
    }

    /// 422 with the faults of an object.
    pub fn invalid(kind: &Kind, name: &str, faults: Vec<FieldFault>) -> Self {
        Self::invalid_named(&kind.kind, &kind.resource.group, name, faults)
    }

    /// 422 for options: `options` is their kind, such as `ListOptions`.
    pub fn invalid_options(options: &str, faults: Vec<FieldFault>) -> Self {
        Self::invalid_named(options, "meta.k8s.io", "", faults)
    }

    /// 422 with the faults of an object of a kind that is not registered, such as a subresource's.
    pub(crate) fn invalid_named(kind: &str, group: &str, name: &str, faults: Vec<FieldFault>) -> Self {
        let each: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
        let list = if each.len() == 1 { each.concat() } else { format!("[{}]", each.join(", ")) };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let message = format!("{qualified} \"{name}\" is invalid: {list}");
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        error.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            ..Details::default()
        }));
        error.with_causes(faults.into_iter().map(Cause::from).collect())
    }

    /// 410 for a revision that is no longer known.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 415, with what is accepted.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
        )
    }

    /// 504 for a revision that does not exist yet.
    pub fn too_large_revision(wanted: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let cause = Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        let mut error =
            Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", format!("Timeout: {message}")).with_causes(vec![cause]);
        error.details.get_or_insert_default().retry_after_seconds = Some(1);
        error
    }

    /// 429: a budget forbids an eviction for now.
    pub(crate) fn budget_spent(message: &str, cause: String, retry_after_seconds: Option<u32>) -> Self {
        let cause = Cause { reason: "DisruptionBudget".to_owned(), message: cause, field: String::new() };
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).with_causes(vec![cause]);
        error.details.get_or_insert_default().retry_after_seconds = retry_after_seconds;
        error
    }

    /// 429: as many requests are being answered as may be at a time.
    pub(crate) fn too_many_requests() -> Self {
        let message = "too many requests are being answered, please try again later";
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        error.details.get_or_insert_default().retry_after_seconds = Some(1);
        error
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 503: the server is going away.
    pub fn shutting_down() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "the server is shutting down")
    }

    /// What an admission function refused.
    pub fn denied(kind: &Kind, name: &str, denied: Denied) -> Self {
        match denied {
            Denied::Forbidden { message, causes } => {
                Self::forbidden(kind, name, &message).with_causes(causes.into_iter().map(Cause::from).collect())
            }
            Denied::Invalid { faults } => Self::invalid(kind, name, faults),
            Denied::Conflict { message } => Self::conflict(kind, name, &message),
        }
    }

    /// The HTTP status code.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn status(&self) -> Status<'_> {
        Status {
            kind: "Status",
            api_version: "v1",
            metadata: ListMeta { continue_token: self.continue_token.as_deref() },
            status: "Failure",
            message: &self.message,
            reason: self.reason,
            details: self.details.as_deref(),
            code: self.code,
        }
    }

    /// The `Status` object.
    pub fn to_status(&self) -> Value {
        // Text and numbers always have a form in JSON.
        serde_json::to_value(self.status()).unwrap_or_default()
    }

    /// The `Status` object as a server sends it: a line.
    pub fn to_body(&self) -> String {
        let mut text = serde_json::to_string(&self.status()).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        match error {
            StoreError::Closed => Self::shutting_down(),
            StoreError::Full(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage", text),
            _ => Self::internal(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_as_kubernetes_writes_it() {
        let kind = crate::apiserver::core::workload().into_iter().find(|kind| kind.kind == "Deployment").unwrap();
        let expected = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#.to_owned()
            + r#""message":"deployments.apps \"web\" already exists","reason":"AlreadyExists","#
            + r#""details":{"name":"web","group":"apps","kind":"deployments"},"code":409}"#
            + "\n";
        assert_eq!(ApiError::already_exists(&kind, "web").to_body(), expected);
    }
}

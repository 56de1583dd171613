//! Reading an object from a request's body.

use bytes::Bytes;
use serde_json::Value;

use crate::apiserver::protobuf;
use crate::apiserver::status::ApiError;

/// Bytes of one request body (apiserver's default MaxRequestBodyBytes).
pub(crate) const LIMIT: usize = 3 * 1024 * 1024;

const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The media type of a header, without parameters; JSON where there is none.
pub(crate) fn media_type(header: Option<&str>) -> &str {
    let header = header.unwrap_or_default();
    let media = header.split(';').next().unwrap_or_default().trim();
    if media.is_empty() { "application/json" } else { media }
}

/// Reads an object.
pub(crate) fn object(content_type: Option<&str>, body: &Bytes) -> Result<Value, ApiError> {
    let value = match media_type(content_type) {
        "application/json" | "*/*" => serde_json::from_slice(body)
            .map_err(|error| ApiError::bad_request(format!("the body is no JSON: {error}")))?,
        "application/yaml" => {
            let text = std::str::from_utf8(body).map_err(|error| ApiError::bad_request(error.to_string()))?;
            from_yaml(text)?
        }
        "application/vnd.kubernetes.protobuf" => {
            protobuf::decode(body).map_err(|error| ApiError::bad_request(error.to_string()))?
        }
        _ => return Err(ApiError::unsupported_media_type(ACCEPTED)),
    };
    check_shape(&value)?;
    Ok(value)
}

fn check_shape(value: &Value) -> Result<(), ApiError> {
    if !value.is_object() {
        return Err(ApiError::bad_request("the body is no object"));
    }
    match value.get("metadata") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err(ApiError::bad_request("metadata is no object")),
    }
}

/// Reads YAML, of which JSON is a part.
pub(crate) fn from_yaml(text: &str) -> Result<Value, ApiError> {
    if let Ok(value) = serde_json::from_str(text) {
        check_shape(&value)?;
        return Ok(value);
    }
    let value: Value =
        serde_saphyr::from_str(text).map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
    check_shape(&value)?;
    Ok(value)
}

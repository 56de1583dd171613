//! Which form of the answer a client accepts.

use crate::apiserver::status::ApiError;

/// Form of an answer with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    Object,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata, or a list of them.
    Metadata,
}

/// The first form in the header that can be served. Without a header, JSON.
pub(crate) fn negotiate(header: Option<&str>) -> Result<Form, ApiError> {
    let Some(header) = header.filter(|header| !header.trim().is_empty()) else { return Ok(Form::Object) };
    header.split(',').find_map(form).ok_or_else(ApiError::not_acceptable)
}

fn form(range: &str) -> Option<Form> {
    let mut parts = range.split(';').map(str::trim);
    if !matches!(parts.next()?, "application/json" | "application/*" | "*/*") {
        return None;
    }
    let mut wanted = None;
    for part in parts {
        match part.split_once('=')? {
            ("as", "Table") => wanted = Some(Form::Table),
            ("as", "PartialObjectMetadata" | "PartialObjectMetadataList") => wanted = Some(Form::Metadata),
            ("as", _) => return None,
            ("g", group) if group != "meta.k8s.io" => return None,
            ("v", version) if version != "v1" => return None,
            _ => {}
        }
    }
    Some(wanted.unwrap_or(Form::Object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_can_be_served_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(Some(kubectl)), Ok(Form::Table));
        assert_eq!(
            negotiate(Some("application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json")),
            Ok(Form::Object)
        );
        assert_eq!(negotiate(Some("application/vnd.kubernetes.protobuf, */*;q=0.5")), Ok(Form::Object));
        assert_eq!(
            negotiate(Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")),
            Ok(Form::Metadata)
        );
        assert_eq!(negotiate(None), Ok(Form::Object));
        assert_eq!(negotiate(Some("text/html")).unwrap_err().code, 406);
    }
}

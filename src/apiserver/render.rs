//! Objects in the form that a client accepts.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::object::from_bytes;
use super::registry::Served;
use super::request::accept::Form;
use super::status::ApiError;
use super::verbs::list::Listed;

/// Writes objects of one kind in one form.
#[derive(Clone, Debug)]
pub(crate) struct Renderer {
    pub served: Served,
    pub form: Form,
}

impl Renderer {
    /// One object.
    pub fn object(&self, bytes: Bytes) -> Result<Bytes, ApiError> {
        match self.form {
            Form::Object | Form::Table => Ok(bytes),
            Form::Metadata => Ok(Bytes::from(partial(&bytes)?.to_string())),
        }
    }

    /// A list: the stored bytes are joined, not parsed.
    pub fn list(&self, listed: &Listed) -> Result<Bytes, ApiError> {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion".to_owned(), json!(listed.revision.to_string()));
        if let Some(token) = &listed.continue_token {
            metadata.insert("continue".to_owned(), json!(token));
        }
        if let Some(remaining) = listed.remaining {
            metadata.insert("remainingItemCount".to_owned(), json!(remaining));
        }
        let (kind, version) = match self.form {
            Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned()),
            Form::Object | Form::Table => {
                (format!("{}List", self.served.kind.kind), self.served.kind.resource.api_version())
            }
        };
        let metadata = Value::Object(metadata);
        let head =
            format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[", json!(kind), json!(version));
        let size = listed.items.iter().map(|item| item.len() + 1).sum::<usize>();
        let mut out = BytesMut::with_capacity(head.len() + size + 2);
        out.put_slice(head.as_bytes());
        for (index, item) in listed.items.iter().enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            match self.form {
                Form::Metadata => out.put_slice(partial(item)?.to_string().as_bytes()),
                Form::Object | Form::Table => out.put_slice(item),
            }
        }
        out.put_slice(b"]}");
        Ok(out.freeze())
    }

    /// One line of a watch.
    pub fn event(&self, out: &mut BytesMut, change: &str, object: &Bytes) {
        let partial = match self.form {
            Form::Metadata => partial(object).ok().map(|object| object.to_string()),
            Form::Object | Form::Table => None,
        };
        out.put_slice(b"{\"type\":\"");
        out.put_slice(change.as_bytes());
        out.put_slice(b"\",\"object\":");
        out.put_slice(partial.as_ref().map_or(object, String::as_bytes));
        out.put_slice(b"}\n");
    }

    /// The line of a bookmark.
    pub fn bookmark(&self, object: &Value) -> Bytes {
        Bytes::from(format!("{}\n", json!({ "type": "BOOKMARK", "object": object })))
    }
}

fn partial(bytes: &[u8]) -> Result<Value, ApiError> {
    let object = from_bytes(bytes)?;
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    Ok(json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata }))
}

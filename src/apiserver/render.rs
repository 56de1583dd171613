//! Objects in the form that a client accepts.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value, json};

use super::object::{from_bytes, meta, to_bytes};
use super::raw::{around_managers, from_bytes_without_managers, without_managers};
use super::registry::Served;
use super::request::accept::Form;
use super::status::ApiError;
use super::table::{self, IncludeObject};
use super::verbs::list::Listed;
use crate::world::Clock;

/// Writes objects of one kind in one form.
#[derive(Clone, Debug)]
pub(crate) struct Renderer {
    served: Served,
    form: Form,
    include: IncludeObject,
    clock: Arc<dyn Clock>,
    /// Column definitions go with the first event of a watch alone.
    headers: bool,
    /// Objects go without their managed fields.
    lean: bool,
}

impl Renderer {
    pub fn new(served: Served, form: Form, include: IncludeObject, clock: Arc<dyn Clock>) -> Self {
        Self { served, form, include, clock, headers: true, lean: false }
    }

    /// Leaves out objects' managed fields, where they go as a whole.
    #[must_use]
    pub fn lean(mut self, lean: bool) -> Self {
        self.lean = lean;
        self
    }

    /// One object, from its bytes.
    pub fn stored(&self, bytes: Bytes) -> Result<Bytes, ApiError> {
        if self.form == Form::Object { Ok(self.sent(bytes)) } else { self.object(&from_bytes(&bytes)?) }
    }

    /// One object that was just written, and its bytes.
    pub fn written(&self, bytes: Bytes, object: &Value) -> Result<Bytes, ApiError> {
        if self.form == Form::Object { Ok(self.sent(bytes)) } else { self.object(object) }
    }

    fn sent(&self, bytes: Bytes) -> Bytes {
        if self.lean { without_managers(bytes) } else { bytes }
    }

    /// One object.
    pub fn object(&self, object: &Value) -> Result<Bytes, ApiError> {
        match self.form {
            Form::Object => to_bytes(object).map(|bytes| self.sent(bytes)),
            Form::Metadata => to_bytes(&partial(object)),
            Form::Table => to_bytes(&self.table(&[object], version_of(object), true)),
        }
    }

    fn table(&self, objects: &[&Value], metadata: Value, headers: bool) -> Value {
        let objects = objects.iter().copied();
        table::table(&self.served.kind, objects, metadata, self.include, headers, self.clock.now())
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
        if self.form == Form::Table {
            let parse = |item: &Bytes| match self.include {
                IncludeObject::None => from_bytes_without_managers(item),
                IncludeObject::Metadata | IncludeObject::Object => from_bytes(item),
            };
            let objects = listed.items.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
            let objects: Vec<&Value> = objects.iter().collect();
            return to_bytes(&self.table(&objects, Value::Object(metadata), true));
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
                Form::Metadata => out.put_slice(partial(&from_bytes(item)?).to_string().as_bytes()),
                Form::Object | Form::Table => self.put(&mut out, item),
            }
        }
        out.put_slice(b"]}");
        Ok(out.freeze())
    }

    /// One line of a watch.
    pub fn event(&mut self, out: &mut BytesMut, change: &str, object: &Bytes) -> Result<(), ApiError> {
        let rendered = match self.form {
            Form::Object => None,
            Form::Metadata => Some(partial(&from_bytes(object)?).to_string()),
            Form::Table => {
                let object = from_bytes(object)?;
                let headers = std::mem::replace(&mut self.headers, false);
                Some(self.table(&[&object], version_of(&object), headers).to_string())
            }
        };
        out.put_slice(b"{\"type\":\"");
        out.put_slice(change.as_bytes());
        out.put_slice(b"\",\"object\":");
        match rendered {
            Some(rendered) => out.put_slice(rendered.as_bytes()),
            None => self.put(out, object),
        }
        out.put_slice(b"}\n");
        Ok(())
    }

    fn put(&self, out: &mut BytesMut, object: &Bytes) {
        let (before, after) = if self.lean { around_managers(object) } else { (&**object, &[][..]) };
        out.put_slice(before);
        out.put_slice(after);
    }

    /// The line of a bookmark.
    pub fn bookmark(&self, object: &Value) -> Bytes {
        Bytes::from(format!("{}\n", json!({ "type": "BOOKMARK", "object": object })))
    }
}

fn partial(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata })
}

fn version_of(object: &Value) -> Value {
    json!({ "resourceVersion": meta(object, "resourceVersion") })
}

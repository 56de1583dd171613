//! An OpenAPI v2 document as protobuf (`openapiv2/OpenAPIv2.proto` of `gnostic-models`): the only form in which kubectl
//! before 1.27 reads it. The numbers are those of the fields there; only what `v2` writes is known here.

use serde_json::Value;

/// The document as bytes.
pub(crate) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.message(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    out.message(8, |paths| named(paths, 2, &document["paths"], path_item));
    out.message(9, |definitions| named(definitions, 1, &document["definitions"], schema));
    out.0
}

/// One message as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            // Seven bits, and a bit that says that more follow.
            self.0.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or_default());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.number(field << 3 | 2);
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A string, where there is one.
    fn text(&mut self, field: u64, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, values: &Value) {
        values.as_array().into_iter().flatten().for_each(|value| self.text(field, value));
    }

    fn flag(&mut self, field: u64, value: &Value) {
        if value == true {
            self.number(field << 3);
            self.number(1);
        }
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// `NamedAny` of each extension.
    fn extensions(&mut self, field: u64, of: &Value) {
        for (name, value) in of.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-")) {
            self.message(field, |named| {
                named.bytes(1, name.as_bytes());
                // JSON is YAML.
                named.message(2, |any| any.bytes(2, value.to_string().as_bytes()));
            });
        }
    }
}

/// The entries of an object as messages of a name and a value.
fn named(out: &mut Message, field: u64, object: &Value, write: fn(&mut Message, &Value)) {
    for (name, value) in object.as_object().into_iter().flatten() {
        out.message(field, |entry| {
            entry.bytes(1, name.as_bytes());
            entry.message(2, |inner| write(inner, value));
        });
    }
}

fn path_item(out: &mut Message, item: &Value) {
    for (field, verb) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(found) = item.get(verb) {
            out.message(field, |inner| operation(inner, found));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut Message, operation: &Value) {
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    parameters(out, 8, &operation["parameters"]);
    let code = |out: &mut Message, response: &Value| {
        out.message(1, |inner| {
            inner.text(1, &response["description"]);
            inner.message(2, |item| item.message(1, |inner| schema(inner, &response["schema"])));
        });
    };
    out.message(9, |responses| named(responses, 1, &operation["responses"], code));
    out.extensions(13, operation);
}

fn parameters(out: &mut Message, field: u64, list: &Value) {
    for found in list.as_array().into_iter().flatten() {
        out.message(field, |item| item.message(1, |inner| parameter(inner, found)));
    }
}

fn parameter(out: &mut Message, found: &Value) {
    // The numbers of `type` and `uniqueItems` differ with where a parameter stands.
    let (place, type_, unique) = match found["in"].as_str() {
        Some("query") => (3, 6, 20),
        Some("path") => (4, 5, 19),
        _ => {
            return out.message(1, |body| {
                body.text(2, &found["name"]);
                body.text(3, &found["in"]);
                body.flag(4, &found["required"]);
                body.message(5, |inner| schema(inner, &found["schema"]));
            });
        }
    };
    out.message(2, |other| {
        other.message(place, |inner| {
            inner.flag(1, &found["required"]);
            inner.text(2, &found["in"]);
            inner.text(4, &found["name"]);
            inner.text(type_, &found["type"]);
            inner.flag(unique, &found["uniqueItems"]);
        });
    });
}

fn schema(out: &mut Message, found: &Value) {
    out.text(1, &found["$ref"]);
    out.text(2, &found["format"]);
    out.text(4, &found["description"]);
    out.texts(19, &found["required"]);
    if found["additionalProperties"].is_object() {
        out.message(21, |item| item.message(1, |inner| schema(inner, &found["additionalProperties"])));
    }
    if found["type"].is_string() {
        out.message(22, |item| item.text(1, &found["type"]));
    }
    if found["items"].is_object() {
        out.message(23, |item| item.message(1, |inner| schema(inner, &found["items"])));
    }
    if found["properties"].is_object() {
        out.message(25, |properties| named(properties, 1, &found["properties"], schema));
    }
    out.extensions(31, found);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_written_field_by_field() {
        let document = json!({"swagger": "2.0", "info": {"title": "T"}, "paths": {}, "definitions":
            {"D": {"type": "object", "required": ["a"], "x-kubernetes-list-type": "map"}}});
        let schema =
            b"\x9a\x01\x01a\xb2\x01\x08\x0a\x06object\xfa\x01\x21\x0a\x16x-kubernetes-list-type\x12\x07\x12\x05\"map\"";
        let entry = [b"\x0a\x01D\x12", &[u8::try_from(schema.len()).unwrap()][..], schema].concat();
        let definitions = [b"\x0a", &[u8::try_from(entry.len()).unwrap()][..], &entry].concat();
        let wanted = [
            b"\x0a\x032.0\x12\x03\x0a\x01T\x42\x00\x4a",
            &[u8::try_from(definitions.len()).unwrap()][..],
            &definitions,
        ]
        .concat();
        assert_eq!(encode(&document), wanted);
    }

    #[test]
    fn numbers_over_seven_bits_take_more_bytes() {
        let mut message = Message::default();
        message.number(300);
        assert_eq!(message.0, [0xac, 0x02]);
    }
}

//! Objects as bytes: what can be told and left out without parsing them, for clients of Kina's own that read thousands.
//!
//! Who set which field is half of an object, and of no use to a client that neither shows nor hands it over. One that says
//! so in the header [`OMIT`] is spared reading it, and one that shows what happened last asks with [`NEWEST`] for no more
//! than that. Other servers do not know these headers, and send everything.

use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use super::object::from_bytes;
use super::status::ApiError;

/// The header that says what is to be left out of objects: [`MANAGERS`], or nothing.
pub const OMIT: &str = "kina-omit";
/// What can be left out.
pub const MANAGERS: &str = "managedFields";

/// The header of a list that shall have no more than so many objects: those that were written last.
pub const NEWEST: &str = "kina-newest";

/// The revision that wrote an object; 0 where it does not say so.
pub(crate) fn revision(object: &[u8]) -> u64 {
    let metadata = field(object, 0, "metadata");
    let version = metadata.and_then(|metadata| field(object, metadata.value.start, "resourceVersion"));
    let text = version.and_then(|version| std::str::from_utf8(object.get(version.value)?).ok());
    text.and_then(|text| text.trim_matches('"').parse().ok()).unwrap_or_default()
}

/// What stands before an object's managed fields, and after them: together the object without them.
pub(crate) fn around_managers(object: &[u8]) -> (&[u8], &[u8]) {
    let cut = field(object, 0, "metadata").and_then(|metadata| field(object, metadata.value.start, MANAGERS));
    match cut {
        Some(Field { with_comma, .. }) => {
            (object.get(..with_comma.start).unwrap_or(object), object.get(with_comma.end..).unwrap_or_default())
        }
        None => (object, &[]),
    }
}

/// An object without its managed fields.
pub(crate) fn without_managers(object: Bytes) -> Bytes {
    match around_managers(&object) {
        (_, []) => object,
        (before, after) => [before, after].concat().into(),
    }
}

/// Parses an object that the store holds, without its managed fields.
pub(crate) fn from_bytes_without_managers(object: &Bytes) -> Result<Value, ApiError> {
    from_bytes(&without_managers(object.clone()))
}

struct Field {
    value: Range<usize>,
    /// Name and value, with the comma that has to go with them.
    with_comma: Range<usize>,
}

/// The field of a name in the map that begins at `at`. `None` where there is no such field, and where this is no JSON.
fn field(json: &[u8], at: usize, wanted: &str) -> Option<Field> {
    let mut scan = Scan { json, at };
    scan.take(b'{')?;
    let mut comma = None;
    loop {
        let start = scan.at;
        let name = scan.string()?;
        scan.take(b':')?;
        let value = scan.value()?;
        let end = scan.at;
        let follows = scan.take(b',').is_some();
        // Names with escapes are not those that are looked for.
        if name == wanted.as_bytes() {
            let with_comma = match (follows, comma) {
                (true, _) => start..scan.at,
                (false, Some(comma)) => comma..end,
                (false, None) => start..end,
            };
            return Some(Field { value, with_comma });
        }
        if !follows {
            return None;
        }
        comma = Some(scan.at - 1);
    }
}

/// A walk over JSON that is known to be well-formed: what a parser has read or written.
struct Scan<'j> {
    json: &'j [u8],
    at: usize,
}

impl<'j> Scan<'j> {
    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        while self.json.get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        self.json.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// A string, as it is written between its quotes.
    fn string(&mut self) -> Option<&'j [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.json.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.json.get(start..self.at - 1)
    }

    /// Passes over a number, or a word such as `true`.
    fn word(&mut self) -> Option<()> {
        let start = self.at;
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        while self.json.get(self.at).is_some_and(is_part) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// Passes over a value.
    fn value(&mut self) -> Option<Range<usize>> {
        self.peek()?;
        let (start, mut depth) = (self.at, 0_usize);
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' => {
                    self.at += 1;
                    continue;
                }
                _ => self.word()?,
            }
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lean(object: &Value) -> Value {
        for text in [object.to_string(), serde_json::to_string_pretty(object).unwrap()] {
            let cut = without_managers(Bytes::from(text));
            let mut expected = object.clone();
            if let Some(metadata) = expected.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove(MANAGERS);
            }
            assert_eq!(serde_json::from_slice::<Value>(&cut).unwrap(), expected);
        }
        serde_json::from_slice(&without_managers(Bytes::from(object.to_string()))).unwrap()
    }

    #[test]
    fn managed_fields_are_cut_out_wherever_they_stand() {
        let managers =
            json!([{"manager": "a \"quoted\" \\", "fieldsV1": {"f:x": {".": {}, "k:{\"a\":1}": {}}}}, -1.5e3, null]);
        for rest in [json!({}), json!({"a": 1}), json!({"name": "x"}), json!({"a": [1, {}], "name": "}]\\\""})] {
            let mut metadata = rest.clone();
            metadata[MANAGERS] = managers.clone();
            let object = json!({"apiVersion": "v1", "metadata": metadata, "spec": {"metadata": {MANAGERS: 1}}});
            assert_eq!(
                lean(&object),
                json!({"apiVersion": "v1", "metadata": rest, "spec": {"metadata": {MANAGERS: 1}}})
            );
        }
    }

    #[test]
    fn what_has_none_stays_as_it_is() {
        for object in [
            json!({}),
            json!({"metadata": {}}),
            json!({"metadata": {"name": "x"}}),
            json!({"metadata": null}),
            json!(3),
        ] {
            assert_eq!(lean(&object), object);
        }
    }

    #[test]
    fn an_object_says_which_revision_wrote_it() {
        let object = json!({"metadata": {"name": "x", "resourceVersion": "417", "uid": "u"}});
        assert_eq!([revision(object.to_string().as_bytes()), revision(b"{}")], [417, 0]);
    }

    #[test]
    fn what_is_no_json_stays_as_it_is() {
        for text in
            ["", "{", "{\"metadata\":{\"managedFields\":[", "{\"metadata\"", "nothing", "{\"metadata\":{\"a\":?}}"]
        {
            assert_eq!(without_managers(Bytes::from(text)), text);
        }
    }
}

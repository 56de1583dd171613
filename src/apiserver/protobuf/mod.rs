//! Reading Kubernetes' protobuf: kubectl sends it in `create deployment`, `create namespace`, `create configmap` and
//! their like, and does not fall back to JSON.
//!
//! `fields.txt` has a line for each message that the built-in kinds reach: its name, then `NUMBER=JSON_NAME:TYPE` for
//! each field, taken from the tags of the Go types of `k8s.io/api` v0.37 by reflection. `?` marks a field that Go leaves
//! out when it is zero and that is no pointer, so that zero means absent; an empty name means that the message's fields
//! belong to the outer one. Only reading is supported: answers are JSON, which these clients accept.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What such a body begins with (`apimachinery/pkg/runtime/serializer/protobuf`).
const MAGIC: &[u8] = b"k8s\0";
/// The deepest that messages of these kinds nest is 13; more is no such message.
const DEPTH: usize = 32;

/// A body that is no protobuf of a kind that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The bytes do not follow the format.
    #[error("the body is no protobuf of Kubernetes: {0}")]
    Malformed(&'static str),
    /// No built-in kind.
    #[error("no kind {kind:?} of {api_version:?} can be read from protobuf")]
    Kind {
        /// Its API version.
        api_version: String,
        /// Its kind.
        kind: String,
    },
}

struct Field {
    name: &'static str,
    type_: &'static str,
    /// Zero means absent.
    omits_zero: bool,
}

type Messages = BTreeMap<&'static str, BTreeMap<u64, Field>>;

fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let message = |line: &'static str| {
            let mut words = line.split(' ');
            let fields = words.clone().skip(1).filter_map(|word| {
                let (number, rest) = word.split_once('=')?;
                let (name, type_) = rest.split_once(':')?;
                let omits_zero = type_.ends_with('?');
                Some((number.parse().ok()?, Field { name, type_: type_.trim_end_matches('?'), omits_zero }))
            });
            Some((words.next()?, fields.collect()))
        };
        include_str!("fields.txt").lines().filter_map(message).collect()
    })
}

/// Reads an object, with its `apiVersion` and `kind`.
///
/// # Errors
/// See [`ProtobufError`].
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let unknown = body.strip_prefix(MAGIC).ok_or(ProtobufError::Malformed("it does not begin as one"))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(unknown) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(ProtobufError::Malformed("it has a content encoding"));
            }
            _ => {}
        }
    }
    let name = match api_version.split_once('/') {
        // Options are the same in every group, and clients name the group that they call.
        _ if kind == "DeleteOptions" => "meta.v1.DeleteOptions".to_owned(),
        None => format!("core.{api_version}.{kind}"),
        // The Go package of a group is named as its first part.
        Some((group, version)) => format!("{}.{version}.{kind}", group.split('.').next().unwrap_or_default()),
    };
    if !messages().contains_key(name.as_str()) {
        return Err(ProtobufError::Kind { api_version, kind });
    }
    let mut object = message(&name, raw, DEPTH)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, ProtobufError> {
    let known = messages().get(name).ok_or(ProtobufError::Malformed("a message is not known"))?;
    let depth = depth.checked_sub(1).ok_or(ProtobufError::Malformed("it nests too deep"))?;
    let mut object = Map::new();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        // As in Kubernetes, fields of newer clients are dropped: they always send what is zero, too.
        let Some(field) = known.get(&number) else { continue };
        if field.name.is_empty() {
            let Wire::Bytes(bytes) = wire else { return Err(ProtobufError::Malformed("a field has the wrong type")) };
            object.extend(message(field.type_, bytes, depth)?);
        } else if let Some(item) = field.type_.strip_prefix("[]") {
            let item = value(item, wire, depth)?.unwrap_or_default();
            if let Value::Array(items) = object.entry(field.name).or_insert_with(|| json!([])) {
                items.push(item);
            }
        } else if let Some(item) = field.type_.strip_prefix("{}") {
            let (key, item) = entry(item, wire, depth)?;
            if let Value::Object(entries) = object.entry(field.name).or_insert_with(|| json!({})) {
                entries.insert(key, item);
            }
        } else if let Some(value) = value(field.type_, wire, depth)?
            && !(field.omits_zero && is_zero(&value))
        {
            object.insert(field.name.into(), value);
        }
    }
    Ok(object)
}

/// One entry of a map.
fn entry(type_: &str, wire: Wire<'_>, depth: usize) -> Result<(String, Value), ProtobufError> {
    let Wire::Bytes(bytes) = wire else { return Err(ProtobufError::Malformed("a map has the wrong type")) };
    let (mut key, mut found) = (String::new(), None);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => found = value(type_, wire, depth)?,
            _ => {}
        }
    }
    let absent = if matches!(type_, "string" | "bytes") { json!("") } else { Value::Null };
    Ok((key, found.unwrap_or(absent)))
}

/// One value; `None` for a time or quantity that is not set.
fn value(type_: &str, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, ProtobufError> {
    Ok(Some(match (type_, wire) {
        ("int", Wire::Varint(number)) => json!(number.cast_signed()),
        ("bool", Wire::Varint(number)) => json!(number != 0),
        ("string", Wire::Bytes(bytes)) => json!(text(bytes)?),
        ("bytes", Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        ("meta.v1.Time", Wire::Bytes(bytes)) => return time(bytes, "%Y-%m-%dT%H:%M:%SZ"),
        ("meta.v1.MicroTime", Wire::Bytes(bytes)) => return time(bytes, "%Y-%m-%dT%H:%M:%S%.6fZ"),
        ("api.resource.Quantity", Wire::Bytes(bytes)) => {
            let quantity = first_text(bytes, 1)?;
            return Ok((!quantity.is_empty()).then(|| json!(quantity)));
        }
        ("util.intstr.IntOrString", Wire::Bytes(bytes)) => int_or_string(bytes)?,
        ("meta.v1.FieldsV1", Wire::Bytes(bytes)) => serde_json::from_str(&first_text(bytes, 1)?)
            .map_err(|_| ProtobufError::Malformed("managed fields are no JSON"))?,
        ("int" | "bool" | "string" | "bytes", _) | (_, Wire::Varint(_) | Wire::Fixed) => {
            return Err(ProtobufError::Malformed("a field has the wrong type"));
        }
        (name, Wire::Bytes(bytes)) => Value::Object(message(name, bytes, depth)?),
    }))
}

/// A time in the form in which Go writes it in JSON, and reads it: no other number of digits will do.
fn time(bytes: &[u8], form: &str) -> Result<Option<Value>, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(number)) => seconds = number.cast_signed(),
            (2, Wire::Varint(number)) => nanos = i32::try_from(number).unwrap_or_default(),
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(None);
    }
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed("a time is out of range"))?;
    Ok(Some(json!(time.strftime(form).to_string())))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut content) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(found)) => number = found.cast_signed(),
            (3, Wire::Bytes(bytes)) => content = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(content) } else { json!(number) })
}

fn first_text(bytes: &[u8], wanted: u64) -> Result<String, ProtobufError> {
    for field in Fields(bytes) {
        match field? {
            (number, Wire::Bytes(bytes)) if number == wanted => return text(bytes),
            _ => {}
        }
    }
    Ok(String::new())
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ProtobufError::Malformed("a text is no UTF-8"))
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(set) => !set,
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[derive(Clone, Copy)]
enum Wire<'b> {
    Varint(u64),
    Bytes(&'b [u8]),
    /// 32 or 64 bits: no field of these kinds.
    Fixed,
}

/// The fields of a message, in order.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(ProtobufError::Malformed("it ends early"))?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(ProtobufError::Malformed("a number is too long"))
    }

    fn take(&mut self, length: u64) -> Result<&'b [u8], ProtobufError> {
        let length = usize::try_from(length).ok().filter(|length| *length <= self.0.len());
        let (taken, rest) = self.0.split_at(length.ok_or(ProtobufError::Malformed("it ends early"))?);
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Wire<'b>), ProtobufError> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            _ => return Err(ProtobufError::Malformed("a field has an unknown form")),
        };
        Ok((tag >> 3, wire))
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Wire<'b>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A field with bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &type_meta), field(2, raw), field(3, b""), field(4, b"")].concat()
    }

    #[test]
    fn a_secret_is_read_with_its_data_and_without_what_is_zero() {
        let metadata = [field(1, b"s"), field(2, b""), field(3, b"default"), vec![7 << 3, 0], field(8, b"")].concat();
        let data = [field(1, b"a"), field(2, b"b")].concat();
        let raw = [field(1, &metadata), field(2, &data), field(3, b"Opaque")].concat();
        let expected = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
            "data": {"a": "Yg=="}, "type": "Opaque"});
        assert_eq!(decode(&body("v1", "Secret", &raw)), Ok(expected));
    }

    #[test]
    fn fields_of_an_embedded_message_belong_to_the_outer_one_and_set_zeros_stay() {
        // A Deployment with replicas 0, and a volume with its source inline.
        let volume = [field(1, b"v"), field(2, &field(2, &field(1, b"")))].concat();
        let spec = field(2, &field(1, &volume));
        let raw = field(2, &[vec![1 << 3, 0], field(3, &spec)].concat());
        let found = decode(&body("apps/v1", "Deployment", &raw)).unwrap();
        assert_eq!(found["spec"]["replicas"], 0);
        assert_eq!(found["spec"]["template"]["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(matches!(decode(b"{}"), Err(ProtobufError::Malformed(_))));
        let review = body("authorization.k8s.io/v1", "SubjectAccessReview", b"");
        assert!(matches!(decode(&review), Err(ProtobufError::Kind { .. })));
        assert!(matches!(decode(&body("v1", "Pod", &[0x0a, 0x7f])), Err(ProtobufError::Malformed(_))));
    }

    #[test]
    fn options_of_deletions_are_read_alone_and_in_evictions() {
        let options =
            [vec![1 << 3, 0], field(2, &field(1, b"u-1")), field(4, b"Background"), field(5, b"All")].concat();
        let expected = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "u-1"},
            "propagationPolicy": "Background", "dryRun": ["All"]});
        for group in ["v1", "apps/v1", "meta.k8s.io/v1"] {
            let mut found = decode(&body(group, "DeleteOptions", &options)).unwrap();
            assert_eq!(found.as_object_mut().and_then(|found| found.remove("apiVersion")), Some(json!(group)));
            assert_eq!(found.as_object_mut().and_then(|found| found.remove("kind")), Some(json!("DeleteOptions")));
            assert_eq!(found, expected);
        }
        let metadata = [field(1, b"web-1"), field(3, b"default")].concat();
        let eviction = [field(1, &metadata), field(2, &options)].concat();
        let found = decode(&body("policy/v1", "Eviction", &eviction)).unwrap();
        assert_eq!(found["metadata"], json!({"name": "web-1", "namespace": "default"}));
        assert_eq!(found["deleteOptions"], expected);
    }

    #[test]
    fn times_have_the_digits_that_go_reads() {
        // 2026-11-21T16:25:40.3413Z: a microsecond that ends in zeros, and a nanosecond that a MicroTime cannot have.
        let time = [vec![1 << 3], varint(1_795_278_340), vec![2 << 3], varint(341_300_007)].concat();
        let lease = field(2, &field(4, &time));
        let found = decode(&body("coordination.k8s.io/v1", "Lease", &lease)).unwrap();
        assert_eq!(found["spec"]["renewTime"], "2026-11-21T16:25:40.341300Z");
        let node = field(3, &field(4, &[field(1, b"Ready"), field(3, &time)].concat()));
        let found = decode(&body("v1", "Node", &node)).unwrap();
        assert_eq!(found["status"]["conditions"][0]["lastHeartbeatTime"], "2026-11-21T16:25:40Z");
    }

    fn varint(mut number: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
        bytes
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fall(raw in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = decode(&body("v1", "Pod", &raw));
            let _ = decode(&[MAGIC, &raw].concat());
        }
    }
}

//! Query parameters: one table of what each verb knows. What is not in it is refused, since a parameter that is
//! ignored (`labelSelector`, `dryRun`) turns a narrow request into a wide one.

use crate::apiserver::kind::FieldFault;
use crate::apiserver::status::ApiError;

/// What a request asks to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// As authorizers name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// Parameters by the verbs that know them. `pretty` and `timeout` change no meaning: answers are the same, and the
/// server is never slower than a client's timeout.
const KNOWN: &[(&str, &[Verb])] = {
    use Verb::{Create, Delete, DeleteCollection, Get, List, Patch, Update, Watch};
    &[
        ("pretty", &[Get, List, Watch, Create, Update, Patch, Delete, DeleteCollection]),
        ("timeout", &[Get, List, Watch, Create, Update, Patch, Delete, DeleteCollection]),
        ("includeObject", &[Get, List, Watch]),
        ("resourceVersion", &[Get, List, Watch, DeleteCollection]),
        ("resourceVersionMatch", &[List, Watch, DeleteCollection]),
        // One object is named already: selectors change nothing there, in Kubernetes neither.
        ("labelSelector", &[Get, List, Watch, DeleteCollection]),
        ("fieldSelector", &[Get, List, Watch, DeleteCollection]),
        ("limit", &[List, Watch, DeleteCollection]),
        ("continue", &[List, DeleteCollection]),
        ("watch", &[Get, List, Watch]),
        ("timeoutSeconds", &[List, Watch, DeleteCollection]),
        ("allowWatchBookmarks", &[List, Watch]),
        ("sendInitialEvents", &[List, Watch]),
        ("dryRun", &[Create, Update, Patch, Delete, DeleteCollection]),
        ("fieldManager", &[Create, Update, Patch]),
        ("fieldValidation", &[Create, Update, Patch]),
        ("force", &[Patch]),
        ("gracePeriodSeconds", &[Delete, DeleteCollection]),
        ("propagationPolicy", &[Delete, DeleteCollection]),
        ("orphanDependents", &[Delete, DeleteCollection]),
    ]
};

/// Decoded parameters, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads a query leniently: empty pairs (`?&limit=500`, a bare `?`) are no parameters.
    pub fn parse(query: &str) -> Self {
        let pairs = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (form_decode(key), form_decode(value))
            })
            .filter(|(key, _)| !key.is_empty())
            .collect();
        Self { pairs }
    }

    /// Refuses parameters that `verb` does not know.
    pub fn check(&self, verb: Verb) -> Result<(), ApiError> {
        for (key, _) in &self.pairs {
            if !KNOWN.iter().any(|(name, verbs)| name == key && verbs.contains(&verb)) {
                return Err(ApiError::bad_request(format!(
                    "the query parameter {key:?} is not supported for this request"
                )));
            }
        }
        Ok(())
    }

    /// The value of a parameter; an empty one counts as absent.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of a parameter that may be repeated.
    pub fn all(&self, key: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, ApiError> {
        // Go's conversion: anything but these is an error there; `watch=` and `watch` mean false.
        match self.get(key) {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(ApiError::bad_request(format!("invalid value {other:?} for {key}: expected a boolean"))),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        self.get(key)
            .map(|text| {
                text.parse().map_err(|_| {
                    ApiError::bad_request(format!("invalid value {text:?} for {key}: expected a whole number"))
                })
            })
            .transpose()
    }
}

/// How strictly unknown and duplicate fields are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub field_manager: Option<String>,
    pub field_validation: FieldValidation,
    pub force: Option<bool>,
}

impl WriteOptions {
    /// `options` is the kind that faults name: `CreateOptions`, `UpdateOptions`, `PatchOptions`.
    pub fn parse(query: &Query, options: &str) -> Result<Self, ApiError> {
        let field_validation = match query.get("fieldValidation") {
            // Kubernetes' default since 1.27.
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(unsupported(options, "fieldValidation", other, "\"Ignore\", \"Strict\", \"Warn\""));
            }
        };
        let field_manager = query.get("fieldManager").map(str::to_owned);
        if field_manager.as_ref().is_some_and(|name| name.chars().count() > 128) {
            return Err(option_fault(
                options,
                "fieldManager",
                "FieldValueTooLong",
                "Too long: may not be more than 128 bytes",
            ));
        }
        Ok(Self {
            dry_run: dry_run(&query.all("dryRun"), options)?,
            field_manager,
            field_validation,
            force: query.flag("force")?,
        })
    }
}

impl WriteOptions {
    /// Options of a deletion, which has no field manager.
    pub fn for_deletion(dry_run: bool) -> Self {
        Self { dry_run, field_manager: None, field_validation: FieldValidation::Ignore, force: None }
    }
}

/// `All` or nothing.
pub(crate) fn dry_run(values: &[&str], options: &str) -> Result<bool, ApiError> {
    let mut dry = false;
    for value in values {
        match *value {
            "All" => dry = true,
            "" => {}
            other => return Err(unsupported(options, "dryRun", other, "\"All\"")),
        }
    }
    Ok(dry)
}

pub(crate) fn unsupported(options: &str, field: &str, found: &str, known: &str) -> ApiError {
    let message = format!("Unsupported value: {found:?}: supported values: {known}");
    option_fault(options, field, "FieldValueNotSupported", &message)
}

pub(crate) fn option_fault(options: &str, field: &str, reason: &'static str, message: &str) -> ApiError {
    let fault = FieldFault { field: field.to_owned(), reason, message: message.to_owned() };
    ApiError::invalid_options(options, vec![fault])
}

fn form_decode(text: &str) -> String {
    if text.contains('+') { percent_decode(&text.replace('+', " ")) } else { percent_decode(text) }
}

/// Percent-decoding; what is no escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'%', Some(byte)) = (first, tail.get(..2).and_then(hex)) {
            out.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            out.push(first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_style_queries_are_read_leniently() {
        let query = Query::parse("&watch=true&labelSelector=a%3Db%2Cc+in+%28d%29&");
        assert_eq!(query.flag("watch").unwrap(), Some(true));
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert!(Query::parse("").check(Verb::Get).is_ok());
        assert_eq!(Query::parse("limit=").get("limit"), None);
        assert_eq!(percent_decode("a%zzb%4"), "a%zzb%4");
    }

    #[test]
    fn a_parameter_that_a_verb_does_not_know_is_refused() {
        assert_eq!(Query::parse("labelSelecter=a").check(Verb::List).unwrap_err().code, 400);
        assert_eq!(Query::parse("labelSelector=a").check(Verb::Create).unwrap_err().code, 400);
        assert_eq!(Query::parse("dryRun=All").check(Verb::List).unwrap_err().code, 400);
        assert!(Query::parse("dryRun=All&pretty=true").check(Verb::Delete).is_ok());
    }

    #[test]
    fn values_that_change_meaning_are_checked() {
        let parse = |text: &str| WriteOptions::parse(&Query::parse(text), "PatchOptions");
        assert!(parse("dryRun=All").unwrap().dry_run);
        assert_eq!(parse("dryRun=Some").unwrap_err().code, 422);
        assert_eq!(parse("fieldValidation=Loose").unwrap_err().code, 422);
        assert_eq!(parse("force=maybe").unwrap_err().code, 400);
    }
}

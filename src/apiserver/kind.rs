//! A kind that the server serves: its names, its schema, and the functions that guard it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::admission::Admission;
use super::jsonpath::{JsonPath, JsonPathError};
use super::schema::{self, Schema};
use super::user::User;

/// Group, version and plural name of a resource: what a request path names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// API group, empty for the core group.
    pub group: String,
    /// API version, such as `v1` or `v1alpha1`.
    pub version: String,
    /// Plural name in lower case, such as `clusters`.
    pub plural: String,
}

impl ResourceId {
    /// The `apiVersion` of objects of this resource, `GROUP/VERSION` or `VERSION` in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.plural) } else { write!(f, "{}.{}", self.plural, self.group) }
    }
}

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One name in the whole server.
    Cluster,
    /// One name in each namespace.
    Namespaced,
}

/// How much of Kubernetes' object handling a kind gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// As a custom resource: `PUT` needs a resourceVersion, unknown fields are pruned, no strategic merge patch.
    Custom,
    /// As a built-in kind: unconditional `PUT` is allowed, unknown fields are pruned by the schema.
    BuiltIn,
}

/// One column of `kubectl get`, as in `additionalPrinterColumns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrinterColumn {
    /// Heading.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: String,
    /// OpenAPI format, mostly empty.
    pub format: String,
    /// Text for `kubectl get -o wide` help.
    pub description: String,
    /// 0 is always shown, above 0 only in wide output.
    pub priority: i32,
    /// Simple JSONPath, relative to the object, with a leading dot.
    pub json_path: String,
}

/// Prints the rows of a kind whose columns JSONPath cannot express, as the built-in kinds have them.
#[derive(Clone)]
pub struct Printer {
    /// All columns, NAME among them; their `json_path` is not used.
    pub columns: Vec<PrinterColumn>,
    /// The cells of one object at a time, as many as there are columns.
    pub row: fn(&Value, jiff::Timestamp) -> Vec<Value>,
}

/// A semantic check over a whole object, after its schema held: returns every fault found.
pub type Validation = Arc<dyn Fn(&Value) -> Vec<FieldFault> + Send + Sync>;

/// One fault of an object, at one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// Path in dotted form, such as `spec.workers[0].name`.
    pub field: String,
    /// Kubernetes' cause types: `FieldValueInvalid`, `FieldValueRequired`, `FieldValueDuplicate`, …
    pub reason: &'static str,
    /// What is wrong and what was expected, lower case, no full stop.
    pub message: String,
}

/// Seconds of grace by default for the deletion of this object, such as `spec.terminationGracePeriodSeconds`.
pub type GracePeriod = Arc<dyn Fn(&Value) -> u32 + Send + Sync>;

/// Changes an object of a tenant as readers see it, after it was read and before it is selected: for fields that would
/// otherwise have to be written all the time, such as heartbeats. What is stored, and its resourceVersion, stay.
pub type View = Arc<dyn Fn(&str, &mut Value) + Send + Sync>;

/// Where objects keep what `/scale` shows and sets, as `subresources.scale` of a definition says: simple paths with a
/// leading dot, such as `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// The number that is wanted.
    pub spec_replicas: String,
    /// The number that there is.
    pub status_replicas: String,
    /// Which Pods are counted: a selector as text, or as an object with `matchLabels` and `matchExpressions`.
    pub selector: Option<String>,
}

/// Answers an object that is created instead of storing it, for the user who asks: reviews are such objects. The flag
/// says whether this user may do anything here.
pub type Answer = fn(&User, bool, &mut Value) -> Result<(), FieldFault>;

/// Another kind's objects, seen in another form: `events.k8s.io/v1` over core `v1` Events.
#[derive(Clone, Debug)]
pub struct StoredAs {
    /// The kind that is stored.
    pub resource: ResourceId,
    /// Turns an object of this kind into one of the stored kind.
    pub to_stored: fn(&mut Value),
    /// Turns a stored object into one of this kind.
    pub from_stored: fn(&mut Value),
}

/// Everything the server needs to know of a kind. Made from a `CustomResourceDefinition` with [`Kind::from_crd`], or
/// by hand for the built-in kinds in [`super::core`].
#[derive(Clone)]
pub struct Kind {
    /// Where requests name it.
    pub resource: ResourceId,
    /// Kind name in CamelCase, such as `Cluster`.
    pub kind: String,
    /// Singular name, such as `cluster`.
    pub singular: String,
    /// Short names, such as `cl`.
    pub short_names: Vec<String>,
    /// Categories such as `all`.
    pub categories: Vec<String>,
    /// Namespaced or not.
    pub scope: Scope,
    /// Custom or built in.
    pub flavor: Flavor,
    /// OpenAPI v3 schema of the object, structural, without `$ref`.
    pub schema: Arc<Schema>,
    /// Whether `/status` is a subresource.
    pub has_status: bool,
    /// Whether and how `/scale` is a subresource.
    pub scale: Option<ScalePaths>,
    /// Whether `/eviction` is a subresource: a deletion that a PodDisruptionBudget may forbid, where these are served.
    pub evictable: bool,
    /// Set where objects are answered and not stored: they can only be created.
    pub answer: Option<Answer>,
    /// Columns besides NAME; AGE is added where there are none.
    pub columns: Vec<PrinterColumn>,
    /// Prints whole rows where JSONPath cannot express the columns; replaces `columns`.
    pub printer: Option<Printer>,
    /// JSON paths (`.spec.x`) usable as field selectors besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<String>,
    /// Called in order before a write; the first refusal ends it.
    pub admission: Vec<Arc<dyn Admission>>,
    /// Called after the schema held.
    pub validation: Option<Validation>,
    /// Set where objects of this kind are another view of another kind's objects.
    pub stored_as: Option<StoredAs>,
    /// How long an object lives after its last write; `None` for ever.
    pub ttl: Option<Duration>,
    /// Seconds of grace for an object whose deletion names none; without it, or at 0, deletion is immediate.
    pub grace: Option<GracePeriod>,
    /// Keep the status that a creation brings, as for Node; otherwise it is dropped where `/status` is a subresource.
    pub status_on_create: bool,
    /// The status that an object has from its creation on, where one that is brought is dropped. Clients of built-in
    /// kinds rely on what Go always writes.
    pub first_status: Option<Value>,
    /// The end of an object is answered with the object as it was last, and not with a `Status`.
    pub returns_deleted: bool,
    /// What readers see in place of what is stored.
    pub view: Option<View>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("resource", &self.resource).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A definition that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum KindError {
    /// No version of the definition is served and stored.
    #[error("the definition of {name} has no served version")]
    NoVersion {
        /// Name of the definition.
        name: String,
    },
    /// The schema demands what this server does not enforce.
    #[error("the definition of {name} has rules that are not enforced: {}", .rules.join(", "))]
    Unsupported {
        /// Name of the definition.
        name: String,
        /// Each with its path.
        rules: Vec<String>,
    },
    /// A column or selectable field has a path that is not understood.
    #[error("the definition of {name} has a path that is not understood")]
    Path {
        /// Name of the definition.
        name: String,
        /// Which, and where.
        source: JsonPathError,
    },
    /// The version carries no schema.
    #[error("the definition of {name} has no schema")]
    NoSchema {
        /// Name of the definition.
        name: String,
    },
}

impl Kind {
    /// Takes names, schema, columns and subresources from a definition's storage version.
    pub fn from_crd(crd: &CustomResourceDefinition) -> Result<Self, KindError> {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let version = crd
            .spec
            .versions
            .iter()
            .find(|version| version.storage && version.served)
            .ok_or_else(|| KindError::NoVersion { name: name.clone() })?;
        let schema = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref())
            .and_then(|schema| serde_json::to_value(schema).ok())
            .ok_or_else(|| KindError::NoSchema { name: name.clone() })?;
        let rules = schema::unsupported(&schema);
        if !rules.is_empty() {
            return Err(KindError::Unsupported { name, rules });
        }
        let columns = version.additional_printer_columns.iter().flatten().map(|column| &column.json_path);
        let selectable = version.selectable_fields.iter().flatten().map(|field| &field.json_path);
        for path in columns.chain(selectable) {
            JsonPath::parse(path).map_err(|source| KindError::Path { name: name.clone(), source })?;
        }
        let names = &crd.spec.names;
        Ok(Self {
            resource: ResourceId {
                group: crd.spec.group.clone(),
                version: version.name.clone(),
                plural: names.plural.clone(),
            },
            kind: names.kind.clone(),
            singular: names.singular.clone().unwrap_or_else(|| names.kind.to_lowercase()),
            short_names: names.short_names.clone().unwrap_or_default(),
            categories: names.categories.clone().unwrap_or_default(),
            scope: if crd.spec.scope == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
            flavor: Flavor::Custom,
            schema: Arc::new(Schema::of(schema)),
            has_status: version.subresources.as_ref().is_some_and(|subresources| subresources.status.is_some()),
            scale: version.subresources.as_ref().and_then(|subresources| subresources.scale.as_ref()).map(|scale| {
                ScalePaths {
                    spec_replicas: scale.spec_replicas_path.clone(),
                    status_replicas: scale.status_replicas_path.clone(),
                    selector: scale.label_selector_path.clone(),
                }
            }),
            evictable: false,
            answer: None,
            columns: version
                .additional_printer_columns
                .iter()
                .flatten()
                .map(|column| PrinterColumn {
                    name: column.name.clone(),
                    type_: column.type_.clone(),
                    format: column.format.clone().unwrap_or_default(),
                    description: column.description.clone().unwrap_or_default(),
                    priority: column.priority.unwrap_or_default(),
                    json_path: column.json_path.clone(),
                })
                .collect(),
            printer: None,
            selectable_fields: version
                .selectable_fields
                .iter()
                .flatten()
                .map(|field| field.json_path.clone())
                .collect(),
            admission: Vec::new(),
            validation: None,
            stored_as: None,
            ttl: None,
            grace: None,
            status_on_create: false,
            first_status: None,
            returns_deleted: false,
            view: None,
        })
    }

    /// Adds an admission function after those already there.
    #[must_use]
    pub fn with_admission(mut self, admission: Arc<dyn Admission>) -> Self {
        self.admission.push(admission);
        self
    }

    /// Sets the semantic check.
    #[must_use]
    pub fn with_validation(mut self, validation: Validation) -> Self {
        self.validation = Some(validation);
        self
    }
}

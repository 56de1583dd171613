//! How a schema says that values merge (`kube-openapi/pkg/schemaconv`): the three shapes a value may have.

use serde_json::{Map, Value};

use super::set::Step;
use crate::apiserver::schema::{self, Additional, ListType, Node, Schema};

/// The type of a place in an object.
#[derive(Clone, Copy)]
pub(super) enum Type<'s> {
    /// What a schema node says; `preserve` is inherited from `x-kubernetes-preserve-unknown-fields` above.
    Node { node: Node<'s>, preserve: bool },
    /// Not described: maps merge, lists are replaced.
    Deduced,
    /// Not described: replaced as a whole.
    Untyped,
    /// Not declared: nothing may stand here.
    Undeclared,
}

/// What may stand at a place.
pub(super) struct Shapes<'s> {
    pub(super) scalar: Option<Scalar>,
    pub(super) list: Option<List<'s>>,
    pub(super) map: Option<MapType<'s>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Numeric,
    String,
    Boolean,
    Any,
}

pub(super) struct List<'s> {
    /// Items have an identity; otherwise the list is replaced as a whole.
    pub(super) associative: bool,
    /// The keys that identify an item; none: items are scalars that identify themselves.
    pub(super) keys: Vec<&'s str>,
    pub(super) element: Type<'s>,
}

pub(super) struct MapType<'s> {
    node: Option<Node<'s>>,
    preserve: bool,
    /// The map is replaced as a whole.
    pub(super) atomic: bool,
    element: Type<'s>,
}

/// The shape that a value has, out of those that may stand at its place.
pub(super) enum Shape<'s> {
    Map(MapType<'s>),
    Scalar(Scalar),
    List(List<'s>),
    Nothing,
}

impl<'s> Type<'s> {
    pub(super) fn root(schema: &'s Schema) -> Self {
        Self::of(Node::root(schema), false)
    }

    fn of(node: Node<'s>, preserve: bool) -> Self {
        Self::Node { node, preserve: preserve || node.preserves_unknown() }
    }

    pub(super) fn shapes(self) -> Shapes<'s> {
        match self {
            Self::Undeclared => Shapes { scalar: None, list: None, map: None },
            Self::Untyped | Self::Deduced => {
                let deduced = matches!(self, Self::Deduced);
                Shapes {
                    scalar: Some(Scalar::Any),
                    list: Some(List { associative: false, keys: Vec::new(), element: Self::Untyped }),
                    map: Some(MapType { node: None, preserve: false, atomic: !deduced, element: self }),
                }
            }
            Self::Node { node, preserve } => {
                let none = Shapes { scalar: None, list: None, map: None };
                match node.of_type() {
                    schema::Type::Object => Shapes { map: Some(map_of(node, preserve)), ..none },
                    schema::Type::Array => Shapes { list: Some(list_of(node, preserve)), ..none },
                    schema::Type::Any if node.is_resource() => Shapes { map: Some(map_of(node, preserve)), ..none },
                    schema::Type::Any => Shapes {
                        scalar: Some(Scalar::Any),
                        list: Some(list_of(node, preserve)),
                        map: Some(map_of(node, preserve)),
                    },
                    scalar => Shapes { scalar: Some(scalar_of(node, scalar)), ..none },
                }
            }
        }
    }

    /// The shape of a value here. A value of a shape that may not stand here, and null, get the first that may.
    pub(super) fn shape(self, value: Option<&Value>) -> Shape<'s> {
        let shapes = self.shapes();
        match value {
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if shapes.scalar.is_some() => {
                shapes.scalar.map_or(Shape::Nothing, Shape::Scalar)
            }
            Some(Value::Array(_)) if shapes.list.is_some() => shapes.list.map_or(Shape::Nothing, Shape::List),
            _ => shapes
                .map
                .map(Shape::Map)
                .or(shapes.scalar.map(Shape::Scalar))
                .or(shapes.list.map(Shape::List))
                .unwrap_or(Shape::Nothing),
        }
    }
}

fn scalar_of(node: Node<'_>, of_type: &schema::Type) -> Scalar {
    match (of_type, node.format()) {
        (schema::Type::Integer | schema::Type::Number, _) => Scalar::Numeric,
        (schema::Type::Boolean, _) => Scalar::Boolean,
        (schema::Type::String, "" | "byte") => Scalar::String,
        _ => Scalar::Any,
    }
}

fn list_of(node: Node<'_>, preserve: bool) -> List<'_> {
    let element = node.items().map_or(Type::Untyped, |items| Type::of(items, preserve));
    let list = node.list_type();
    let keys = if list == Some(ListType::Map) { node.list_map_keys().collect() } else { Vec::new() };
    List { associative: list.is_some(), keys, element }
}

fn map_of(node: Node<'_>, preserve: bool) -> MapType<'_> {
    let named = node.is_resource() || node.names_properties();
    let element = match node.additional() {
        Additional::Unspecified if preserve || !named => Type::Deduced,
        Additional::Unspecified | Additional::Nothing => Type::Undeclared,
        Additional::Anything => Type::Deduced,
        Additional::Schema(schema) => Type::of(schema, preserve),
    };
    MapType { node: Some(node), preserve, atomic: node.map_is_atomic(), element }
}

impl<'s> MapType<'s> {
    /// The type of a field that the schema names.
    pub(super) fn named(&self, name: &str) -> Option<Type<'s>> {
        self.node.and_then(|node| node.property(name)).map(|node| Type::of(node, self.preserve))
    }

    /// The type of any field.
    pub(super) fn field(&self, name: &str) -> Type<'s> {
        self.named(name).unwrap_or(self.element)
    }
}

impl List<'_> {
    /// What identifies an item, or why nothing does.
    pub(super) fn identity(&self, item: &Value) -> Result<Step, String> {
        if self.keys.is_empty() {
            return match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".into()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
                scalar => Ok(Step::item(scalar)),
            };
        }
        let fields = match item {
            Value::Object(fields) => fields,
            Value::Null => return Err("associative list with keys may not have a null element".into()),
            _ => return Err("associative list with keys may not have non-map elements".into()),
        };
        let mut keys = Map::new();
        for key in &self.keys {
            if let Some(value) = fields.get(*key).cloned().or_else(|| self.key_default(key)) {
                keys.insert((*key).to_owned(), value);
            }
        }
        if keys.is_empty() {
            return Err(format!(
                "associative list with keys has an element that omits all key fields {:?} (and doesn't have default \
                 values for any key fields)",
                self.keys
            ));
        }
        Ok(Step::keys(keys))
    }

    fn key_default(&self, key: &str) -> Option<Value> {
        match self.element {
            Type::Node { node, .. } => node.property(key)?.default().cloned(),
            _ => None,
        }
    }
}

//! Label selectors as objects hold them: `matchLabels` and `matchExpressions`.

use serde_json::Value;

use super::request::selector::LabelSelector;
use super::status::ApiError;

/// The selector as requests and `/scale` have it, such as `app=web,tier in (a,b)`. An empty one selects everything.
///
/// # Errors
/// 400 where an operator is not known.
pub fn as_text(selector: &Value) -> Result<String, ApiError> {
    let pairs = selector.get("matchLabels").and_then(Value::as_object);
    let mut parts: Vec<String> = pairs
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            other => return Err(ApiError::bad_request(format!("{other:?} is not a valid label selector operator"))),
        });
    }
    Ok(parts.join(","))
}

/// Whether the selector selects an object.
///
/// # Errors
/// 400 where the selector is none.
pub fn selects(selector: &Value, object: &Value) -> Result<bool, ApiError> {
    Ok(LabelSelector::parse(&as_text(selector)?)?.matches(object))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_in_objects_select_as_those_in_requests() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        let expression =
            |operator: &str, values: &[&str]| json!({"key": "tier", "operator": operator, "values": values});
        let selector =
            json!({"matchLabels": {"app": "web"}, "matchExpressions": [expression("In", &["front", "back"])]});
        assert_eq!(as_text(&selector).unwrap(), "app=web,tier in (front,back)");
        assert!(selects(&selector, &object).unwrap());
        assert!(selects(&json!({}), &object).unwrap());
        assert!(!selects(&json!({"matchExpressions": [expression("DoesNotExist", &[])]}), &object).unwrap());
        assert!(selects(&json!({"matchExpressions": [expression("NotIn", &["back"])]}), &object).unwrap());
        assert!(selects(&json!({"matchExpressions": [expression("Near", &[])]}), &object).is_err());
    }
}

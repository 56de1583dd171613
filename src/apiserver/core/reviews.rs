//! Reviews: objects by which users ask a server what they may do and who they are. They are answered, never stored.

use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authorization::v1 as authorization;
use k8s_openapi::schemars::JsonSchema;
use serde_json::{Value, json};

use super::{built_in, columns};
use crate::apiserver::kind::{Answer, FieldFault, Kind, Scope};
use crate::apiserver::user::User;

/// The reviews that users make of themselves.
pub(super) fn kinds() -> [Kind; 3] {
    const AUTHORIZATION: &str = "authorization.k8s.io";
    [
        review::<authorization::SelfSubjectAccessReview>(AUTHORIZATION, "SelfSubjectAccessReview", may_i),
        review::<authorization::SelfSubjectRulesReview>(AUTHORIZATION, "SelfSubjectRulesReview", what_may_i),
        review::<authentication::SelfSubjectReview>("authentication.k8s.io", "SelfSubjectReview", who_am_i),
    ]
}

fn review<T: JsonSchema>(group: &str, name: &str, answer: Answer) -> Kind {
    let mut kind = built_in::<T>(group, name, Scope::Cluster, &[], columns::review());
    kind.answer = Some(answer);
    kind
}

/// There are no roles: a user may do everything or nothing.
fn may_i(user: &User, may: bool, review: &mut Value) -> Result<(), FieldFault> {
    let asked = |name: &str| review["spec"].get(name).is_some_and(Value::is_object);
    if asked("resourceAttributes") == asked("nonResourceAttributes") {
        return Err(FieldFault {
            field: "spec.resourceAttributes".into(),
            reason: "FieldValueInvalid",
            message: "Invalid value: exactly one of nonResourceAttributes or resourceAttributes must be specified"
                .into(),
        });
    }
    let reason = match may {
        true => format!("{:?} may do everything here", user.name),
        false => format!("{:?} is in none of the groups that may do anything here", user.name),
    };
    review["status"] = json!({"allowed": may, "reason": reason});
    Ok(())
}

fn what_may_i(_: &User, may: bool, review: &mut Value) -> Result<(), FieldFault> {
    let (resources, others) = match may {
        true => (
            json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]),
            json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]),
        ),
        false => (json!([]), json!([{"verbs": ["get"], "nonResourceURLs": ["*"]}])),
    };
    review["status"] = json!({"incomplete": false, "resourceRules": resources, "nonResourceRules": others});
    Ok(())
}

fn who_am_i(user: &User, _: bool, review: &mut Value) -> Result<(), FieldFault> {
    // Every authenticator of Kubernetes adds this group.
    let groups: Vec<&str> = user.groups.iter().map(String::as_str).chain(["system:authenticated"]).collect();
    review["status"] = json!({"userInfo": {"username": user.name, "groups": groups}});
    Ok(())
}

//! Families and addresses of Services, as an API server defaults them
//! (<https://kubernetes.io/docs/concepts/services-networking/dual-stack/>).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::families::name;
use crate::api::cidr::AnyCidr;
use crate::apiserver::kind::FieldFault;

/// How many families a Service is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Single,
    Prefer,
    Require,
}

/// Sets families, policy and addresses in the spec of a Service that is created, or changed from an old one. `subnets` are
/// the cluster's, the primary one first; `free` gives an address of one of them.
///
/// # Errors
/// What an API server refuses, in its words.
pub(super) fn place(
    spec: &mut Value,
    old: Option<&Value>,
    subnets: &[AnyCidr],
    mut free: impl FnMut(AnyCidr) -> Option<String>,
) -> Result<(), FieldFault> {
    if spec["type"] == "ExternalName" {
        return Ok(());
    }
    // What is left out of a change stays.
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if is_unset(spec.get(field))
            && let Some(before) = old.and_then(|old| old.get(field)).filter(|before| !is_unset(Some(before)))
        {
            spec[field] = before.clone();
        }
    }
    let named = texts(&spec["clusterIPs"]);
    let named = if named.is_empty() { texts(&json!([spec["clusterIP"]])) } else { named };
    let is_headless = named.first().is_some_and(|address| address == "None");
    let policy = policy(spec, &named, is_headless)?;
    let families = families(spec, &named, policy, subnets, is_headless)?;
    let addresses =
        if is_headless { vec!["None".to_owned()] } else { addresses(&families, &named, subnets, &mut free)? };
    let policy = match policy {
        Policy::Single => "SingleStack",
        Policy::Prefer => "PreferDualStack",
        Policy::Require => "RequireDualStack",
    };
    spec["clusterIP"] = json!(addresses.first());
    spec["clusterIPs"] = json!(addresses);
    spec["ipFamilies"] = json!(families);
    spec["ipFamilyPolicy"] = json!(policy);
    Ok(())
}

/// The lowest address of a service subnet that no Service has. The first ten are left to the cluster's own.
pub(super) fn free_address(subnet: AnyCidr, taken: &mut BTreeSet<String>) -> Option<String> {
    // A /16, the usual size, has that many; smaller subnets run out on other clusters too.
    let mut addresses = (11..65_000).map_while(|nth| subnet.address(nth)).map(|address| address.to_string());
    let found = addresses.find(|address| !taken.contains(address))?;
    taken.insert(found.clone());
    Some(found)
}

fn is_unset(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    }
}

fn texts(list: &Value) -> Vec<String> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

fn invalid(field: impl Into<String>, message: impl Into<String>) -> FieldFault {
    FieldFault { field: field.into(), reason: "FieldValueInvalid", message: message.into() }
}

fn policy(spec: &Value, named: &[String], is_headless: bool) -> Result<Policy, FieldFault> {
    let selects = spec["selector"].as_object().is_some_and(|selector| !selector.is_empty());
    let policy = match spec["ipFamilyPolicy"].as_str().unwrap_or_default() {
        // Whoever writes its endpoints knows their families.
        "" if is_headless && !selects => Policy::Require,
        "" | "SingleStack" => Policy::Single,
        "PreferDualStack" => Policy::Prefer,
        "RequireDualStack" => Policy::Require,
        other => {
            let known = "supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"";
            return Err(invalid("spec.ipFamilyPolicy", format!("Unsupported value: \"{other}\": {known}")));
        }
    };
    // One that was taken back to a single family leaves the first of both.
    let is_default = spec["ipFamilyPolicy"] != "SingleStack" && policy == Policy::Single;
    if is_default && (texts(&spec["ipFamilies"]).len() > 1 || named.len() > 1) {
        let message = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        return Err(invalid("spec.ipFamilyPolicy", message));
    }
    Ok(policy)
}

fn families(
    spec: &Value,
    named: &[String],
    policy: Policy,
    subnets: &[AnyCidr],
    is_headless: bool,
) -> Result<Vec<&'static str>, FieldFault> {
    let selects = spec["selector"].as_object().is_some_and(|selector| !selector.is_empty());
    // One without endpoints of the cluster's own finding may be of any family.
    let is_any = is_headless && !selects;
    let configured: Vec<&'static str> = subnets.iter().copied().map(name).collect();
    let of_address = |address: &String| Some(if address.contains(':') { "IPv6" } else { "IPv4" });
    let mut found: Vec<&'static str> = Vec::new();
    for (index, family) in texts(&spec["ipFamilies"]).iter().enumerate() {
        let known = ["IPv4", "IPv6"].into_iter().find(|known| known == family);
        let known = known.filter(|known| configured.contains(known) || is_any);
        let message = || format!("Invalid value: \"{family}\": not configured on this cluster");
        found.push(known.ok_or_else(|| invalid(format!("spec.ipFamilies[{index}]"), message()))?);
    }
    if found.is_empty() && !is_headless {
        found = named.iter().filter_map(of_address).collect();
    }
    if found.is_empty() {
        found.extend(configured.first());
    }
    let other = ["IPv4", "IPv6"].into_iter().find(|family| !found.contains(family));
    match policy {
        Policy::Single => found.truncate(1),
        Policy::Prefer => found.extend(other.filter(|other| configured.contains(other))),
        Policy::Require if configured.len() < 2 && !is_any => {
            let message = "Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services";
            return Err(invalid("spec.ipFamilyPolicy", message));
        }
        Policy::Require => found.extend(other),
    }
    Ok(found)
}

/// An address of each family: the one that is named, or a free one.
fn addresses(
    families: &[&'static str],
    named: &[String],
    subnets: &[AnyCidr],
    free: &mut impl FnMut(AnyCidr) -> Option<String>,
) -> Result<Vec<String>, FieldFault> {
    let each = families.iter().map(|family| {
        let own = named.iter().find(|address| address.contains(':') == (*family == "IPv6"));
        let subnet = || subnets.iter().copied().find(|subnet| name(*subnet) == *family);
        own.cloned()
            .or_else(|| free(subnet()?))
            .ok_or_else(|| invalid("spec.clusterIPs", "failed to allocate IP: range is full"))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: &str = "10.96.0.0/16";
    const SIX: &str = "fd00:10:96::/112";

    /// `POLICY FAMILIES ADDRESSES`, or the fault.
    fn placed(mut spec: Value, old: Option<&Value>, subnets: &[&str]) -> String {
        let subnets: Vec<AnyCidr> = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
        let mut taken = BTreeSet::new();
        match place(&mut spec, old, &subnets, |subnet| free_address(subnet, &mut taken)) {
            Ok(()) => {
                assert_eq!(spec["clusterIP"], spec["clusterIPs"][0]);
                format!("{} {} {}", spec["ipFamilyPolicy"], spec["ipFamilies"], spec["clusterIPs"])
            }
            Err(fault) => format!("{}: {}", fault.field, fault.message),
        }
    }

    #[test]
    fn a_service_has_the_primary_family_and_both_where_it_asks_for_them() {
        let told: Vec<String> = [
            (json!({}), &[FOUR][..]),
            (json!({}), &[SIX]),
            (json!({}), &[SIX, FOUR]),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), &[FOUR]),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), &[SIX, FOUR]),
            (json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}), &[FOUR, SIX]),
            (json!({"ipFamilies": ["IPv6"]}), &[FOUR, SIX]),
            (json!({"clusterIP": "fd00:10:96::7"}), &[FOUR, SIX]),
            (json!({"clusterIP": "None"}), &[SIX]),
            (json!({"clusterIP": "None", "selector": {"a": "b"}}), &[FOUR, SIX]),
            (json!({"ipFamilyPolicy": "RequireDualStack"}), &[SIX]),
            (json!({"ipFamilies": ["IPv6"]}), &[FOUR]),
            (json!({"ipFamilies": ["IPv4", "IPv6"]}), &[FOUR, SIX]),
            (json!({"ipFamilyPolicy": "Both"}), &[FOUR, SIX]),
        ]
        .into_iter()
        .map(|(spec, subnets)| placed(spec, None, subnets))
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        "SingleStack" ["IPv4"] ["10.96.0.11"]
        "SingleStack" ["IPv6"] ["fd00:10:96::b"]
        "SingleStack" ["IPv6"] ["fd00:10:96::b"]
        "PreferDualStack" ["IPv4"] ["10.96.0.11"]
        "PreferDualStack" ["IPv6","IPv4"] ["fd00:10:96::b","10.96.0.11"]
        "RequireDualStack" ["IPv6","IPv4"] ["fd00:10:96::b","10.96.0.11"]
        "SingleStack" ["IPv6"] ["fd00:10:96::b"]
        "SingleStack" ["IPv6"] ["fd00:10:96::7"]
        "RequireDualStack" ["IPv6","IPv4"] ["None"]
        "SingleStack" ["IPv4"] ["None"]
        spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
        spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster
        spec.ipFamilyPolicy: must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified
        spec.ipFamilyPolicy: Unsupported value: "Both": supported values: "PreferDualStack", "RequireDualStack", "SingleStack"
        "#);
    }

    #[test]
    fn what_a_service_has_it_keeps_and_a_second_family_comes_and_goes() {
        let single = json!({"clusterIP": "10.96.0.40", "clusterIPs": ["10.96.0.40"], "ipFamilies": ["IPv4"],
                            "ipFamilyPolicy": "SingleStack"});
        let both = json!({"clusterIP": "10.96.0.40", "clusterIPs": ["10.96.0.40", "fd00:10:96::9"],
                          "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"});
        let told = [
            placed(json!({}), Some(&single), &[FOUR, SIX]),
            placed(json!({"ipFamilyPolicy": "PreferDualStack"}), Some(&single), &[FOUR, SIX]),
            placed(both.clone(), Some(&both), &[FOUR, SIX]),
            placed(json!({"ipFamilyPolicy": "SingleStack"}), Some(&both), &[FOUR, SIX]),
        ];
        insta::assert_snapshot!(told.join("\n"), @r#"
        "SingleStack" ["IPv4"] ["10.96.0.40"]
        "PreferDualStack" ["IPv4","IPv6"] ["10.96.0.40","fd00:10:96::b"]
        "PreferDualStack" ["IPv4","IPv6"] ["10.96.0.40","fd00:10:96::9"]
        "SingleStack" ["IPv4"] ["10.96.0.40"]
        "#);
    }

    #[test]
    fn a_subnet_runs_out() {
        let tiny: AnyCidr = "10.96.0.0/28".parse().unwrap();
        let mut taken = BTreeSet::new();
        let given: Vec<_> = std::iter::from_fn(|| free_address(tiny, &mut taken)).collect();
        assert_eq!(given.first().map(String::as_str), Some("10.96.0.11"));
        assert_eq!((given.len(), given.last().map(String::as_str)), (5, Some("10.96.0.15")));
    }
}

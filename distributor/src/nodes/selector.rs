//! Label selectors in the syntax of `kubectl -l` (Kubernetes' "Labels and Selectors"). They are parsed here so that one
//! choice of nodes applies to a push, to a rollout's node affinity and to verification.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeSelectorRequirement;

/// Returns the requirements of a selector, all of which must hold.
///
/// # Errors
/// Returns what is wrong with the text if it is not a selector.
pub(crate) fn requirements(selector: &str) -> Result<Vec<NodeSelectorRequirement>, String> {
    parts(selector).into_iter().map(str::trim).filter(|part| !part.is_empty()).map(requirement).collect()
}

/// Whether labels meet a requirement. As in Kubernetes, a missing label is not in any list.
pub(crate) fn meets(labels: &BTreeMap<String, String>, requirement: &NodeSelectorRequirement) -> bool {
    let value = labels.get(&requirement.key);
    let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|one| one == value));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        _ => value.is_none(),
    }
}

/// Splits at commas outside of parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0;
    text.split(move |character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        character == ',' && depth == 0
    })
    .collect()
}

fn requirement(part: &str) -> Result<NodeSelectorRequirement, String> {
    let of = |key: &str, operator: &str, values: Vec<&str>| {
        let key = key.trim();
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
        };
        let values: Vec<&str> = values.into_iter().map(str::trim).collect();
        if !plain(key) || !values.iter().all(|value| value.is_empty() || plain(value)) {
            return Err(format!(
                "{part:?} is not a valid requirement: write KEY, !KEY, KEY=VALUE, KEY!=VALUE or KEY in (VALUE,…)"
            ));
        }
        let values = values.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let (key, operator) = (key.to_owned(), operator.to_owned());
        Ok(NodeSelectorRequirement { key, operator, values: Some(values).filter(|values| !values.is_empty()) })
    };
    if let Some(key) = part.strip_prefix('!') {
        return of(key, "DoesNotExist", Vec::new());
    }
    if let Some((head, list)) = part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        let values = list.split(',').collect();
        return match head.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => of(key, "In", values),
            Some((key, "notin")) => of(key, "NotIn", values),
            _ => of("", "In", Vec::new()),
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return of(key, "NotIn", vec![value]);
    }
    match part.split_once("==").or_else(|| part.split_once('=')) {
        Some((key, value)) => of(key, "In", vec![value]),
        None => of(part, "Exists", Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{meets, requirements};

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        requirements(selector).expect("a selector").iter().all(|one| meets(&labels, one))
    }

    #[test]
    fn selectors_mean_what_kubectl_takes_them_for() {
        let labels = [("zone", "a"), ("example.com/gpu", ""), ("size", "big")];
        for yes in [
            "",
            "zone=a",
            "zone==a,size != small",
            "zone in (a, b)",
            "zone notin (b,c),!absent",
            "example.com/gpu",
            "absent!=x",
            "example.com/gpu=",
        ] {
            assert!(selects(yes, &labels), "{yes}");
        }
        for no in ["zone=b", "absent", "!zone", "zone in (b,c)", "zone notin (a)", "zone!=a", "absent=x"] {
            assert!(!selects(no, &labels), "{no}");
        }
    }

    #[test]
    fn what_is_not_a_selector_is_refused() {
        for bad in ["zone like (a)", "=a", "zone=a b", "(a)", "zone in", "zone in (a", "a b"] {
            assert!(requirements(bad).is_err(), "{bad}");
        }
    }
}

//! What an API server lets a user do, which pods it admits, and its clock.

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};

use super::refusal;

/// Its rules. By default it allows and admits everything, and its clock stands still in 2024.
#[derive(Debug, Default)]
pub(super) struct Admission {
    pub(super) denied: Vec<String>,
    pub(super) refuses_pods: Option<String>,
    pub(super) unreadable: Option<String>,
    pub(super) has_clock: bool,
}

impl Admission {
    /// Its answer to what is created, if these rules have one.
    pub(super) fn answer(&self, path: &str, body: &Value) -> Option<(u16, String)> {
        if path.ends_with("/selfsubjectaccessreviews") {
            let mut review = body.clone();
            review["status"] = json!({ "allowed": !self.denied.contains(&right(&body["spec"]["resourceAttributes"])) });
            return Some((201, review.to_string()));
        }
        let message = self.refuses_pods.as_ref().filter(|_| path.ends_with("/pods"))?;
        Some(refusal(403, "Forbidden", message))
    }

    /// The time that its answers have.
    pub(super) fn date(&self) -> String {
        let now = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).expect("a time");
        if self.has_clock { now } else { "Mon, 01 Jan 2024 00:00:00 GMT".to_owned() }
    }
}

fn right(attributes: &Value) -> String {
    let text = |key: &str| attributes[key].as_str().unwrap_or_default();
    let part = |separator: &str, key: &str| match text(key) {
        "" => String::new(),
        text => format!("{separator}{text}"),
    };
    format!("{} {}{}{}", text("verb"), text("resource"), part("/", "subresource"), part(".", "group"))
}

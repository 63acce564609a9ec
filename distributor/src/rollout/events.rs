//! What an Event says: about what, when last, how often. Old and new forms of Events are read alike.

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;

/// When it last happened. Newer writers fill `series` or `eventTime`, older ones `lastTimestamp`.
#[must_use]
pub fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let times = [
        series,
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.first_timestamp.as_ref().map(|time| time.0),
        event.metadata.creation_timestamp.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().max()
}

/// Characters of an event's message that are shown: some runtimes repeat an image's name in it four times over.
const MESSAGE: usize = 240;

/// The event in one line: `FailedMount of pod/vc-manager-x, 3 times: the reason`.
#[must_use]
pub fn describe(event: &Event) -> String {
    let object = &event.involved_object;
    let kind = object.kind.as_deref().unwrap_or("object").to_lowercase();
    let name = object.name.as_deref().unwrap_or_default();
    let count = event.series.as_ref().and_then(|series| series.count).or(event.count).unwrap_or(1);
    let times = if count > 1 { format!(", {count} times") } else { String::new() };
    let reason = event.reason.as_deref().unwrap_or("Warning");
    let mut message = event.message.as_deref().unwrap_or_default().trim().replace('\n', " ");
    if let Some((end, _)) = message.char_indices().nth(MESSAGE) {
        message.truncate(end);
        message.push('…');
    }
    format!("{reason} of {kind}/{name}{times}: {message}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Event;
    use serde_json::{Value, json};

    use super::{describe, last_seen};

    fn event(fields: &Value) -> Event {
        let mut event = json!({ "metadata": {}, "involvedObject": { "kind": "Pod", "name": "p" }, "reason": "Failed",
            "message": "Error:\nno image" });
        for (name, value) in fields.as_object().unwrap() {
            event[name] = value.clone();
        }
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn the_latest_time_counts_whoever_wrote_it() {
        let old = event(
            &json!({ "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:05:00Z", "count": 3 }),
        );
        assert_eq!(last_seen(&old).unwrap().to_string(), "2024-01-01T00:05:00Z");
        assert_eq!(describe(&old), "Failed of pod/p, 3 times: Error: no image");
        let new = event(&json!({ "eventTime": "2024-01-01T00:00:00.000000Z",
            "series": { "count": 7, "lastObservedTime": "2024-01-01T00:09:00.500000Z" } }));
        assert_eq!(last_seen(&new).unwrap().to_string(), "2024-01-01T00:09:00.5Z");
        assert_eq!(describe(&new), "Failed of pod/p, 7 times: Error: no image");
        assert_eq!(describe(&event(&json!({}))), "Failed of pod/p: Error: no image");
        assert_eq!(last_seen(&event(&json!({}))), None);
        let long = describe(&event(&json!({ "message": "ü".repeat(300) })));
        assert_eq!(long, format!("Failed of pod/p: {}…", "ü".repeat(240)));
    }
}

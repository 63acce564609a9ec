//! Durations in the syntax of the command line. Uses nothing else of this crate.

use std::time::Duration;

use k8s_openapi::jiff::SignedDuration;

/// Parses `90s`, `5m` or `1h30m`. Rejects a number without a unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let read: Result<SignedDuration, _> = text.parse();
    read.ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "write a number and a unit, as in 90s, 5m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_are_not_negative() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        for bad in ["", "5", "5 parsecs", "-5m"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}

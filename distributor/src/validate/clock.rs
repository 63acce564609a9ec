//! How far a clock may differ from this machine's, and what follows if it differs more.

use super::Finding;

/// Where a difference begins to matter, in seconds: leases of leaders last fifteen.
const WARNING: i64 = 5;

/// Where certificates that were just issued are not valid yet for the other side, in seconds.
const ERROR: i64 = 60;

/// The finding about a clock that is `seconds` ahead of this machine's, or behind it where negative.
pub(super) fn finding(whose: &str, seconds: i64) -> Option<Finding> {
    let (effect, remedy) = (
        "certificates that vc-manager issues are not valid yet on machines whose clock is behind; leases and ages of events are \
         misread",
        "synchronise the clocks (`timedatectl set-ntp true`, chrony)",
    );
    let finding = Finding::error(whose, format!("its clock is {}", text(seconds)), effect, remedy);
    match seconds.abs() {
        ..WARNING => None,
        WARNING..ERROR => Some(finding.warning()),
        _ => Some(finding),
    }
}

/// The difference in words.
pub(super) fn text(seconds: i64) -> String {
    match seconds {
        0 => "equal to this machine's".to_owned(),
        1.. => format!("{seconds} s ahead of this machine's"),
        _ => format!("{} s behind this machine's", -seconds),
    }
}

/// How far a clock is off that showed `theirs` at some moment from `before` to `after` by this machine's, in seconds since
/// 1970; it shows whole seconds.
pub(super) fn difference(theirs: i64, before: i64, after: i64) -> i64 {
    if theirs > after {
        theirs - after
    } else if theirs + 1 < before {
        theirs - before
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::{difference, finding};
    use crate::validate::Severity;

    #[test]
    fn a_clock_is_right_within_the_time_that_the_question_took() {
        assert_eq!((difference(100, 95, 105), difference(99, 100, 105), difference(105, 100, 105)), (0, 0, 0));
        assert_eq!((difference(200, 95, 105), difference(50, 95, 105)), (95, -45));
    }

    #[test]
    fn a_small_difference_is_a_warning_and_a_large_one_an_error() {
        let severity = |seconds| finding("worker1", seconds).map(|finding| finding.severity);
        assert_eq!((severity(4), severity(-5)), (None, Some(Severity::Warning)));
        assert_eq!((severity(59), severity(-60)), (Some(Severity::Warning), Some(Severity::Error)));
        assert_eq!(finding("worker1", -90).unwrap().problem, "its clock is 90 s behind this machine's");
    }
}

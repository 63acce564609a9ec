//! Waiting for a condition, never for some time: within a bound that a busy machine keeps too.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a condition may take to come about where a test does not say otherwise.
pub const WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked at.
const TICK: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; panics after [`WITHIN`], naming `what` was waited for.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(WITHIN, condition, || what.to_owned());
}

/// Waits until `condition` holds; panics after `limit` with what `describe` then says.
#[track_caller]
pub fn until_within(limit: Duration, condition: impl FnMut() -> bool, describe: impl FnOnce() -> String) {
    until_every(TICK, limit, condition, describe);
}

/// The same, looking again after each `tick`.
#[track_caller]
pub fn until_every(
    tick: Duration,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
    describe: impl FnOnce() -> String,
) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {} s: {}", limit.as_secs_f32(), describe());
        sleep(tick);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::until_every;

    #[test]
    fn a_condition_is_looked_at_again_until_it_holds() {
        let mut looks = 0;
        let third = || {
            looks += 1;
            looks == 3
        };
        until_every(Duration::ZERO, Duration::from_secs(60), third, || unreachable!("it holds"));
        assert_eq!(looks, 3);
    }

    #[test]
    #[should_panic(expected = "not within 0 s: the end")]
    fn a_condition_that_never_holds_ends_the_test() {
        until_every(Duration::ZERO, Duration::ZERO, || false, || "the end".to_owned());
    }
}

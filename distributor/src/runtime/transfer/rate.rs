//! Rate limits for blobs: one for each node, one for all nodes together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rate(u64);

impl std::str::FromStr for Rate {
    type Err = &'static str;

    /// Parses `500k`, `10M`, `1G` (bytes per second, decimal units) and `100Mbit` (bits per second).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HOW: &str = "write bytes a second as 500k, 10M or 1G, or bits as 100Mbit";
        let (text, bits) = match text.strip_suffix("bit") {
            Some(text) => (text, 8),
            None => (text, 1),
        };
        let (number, unit) = match text.trim_end_matches(['k', 'K', 'M', 'G']) {
            number if number.len() == text.len() => (number, 1),
            number => match &text[number.len()..] {
                "k" | "K" => (number, 1_000),
                "M" => (number, 1_000_000),
                "G" => (number, 1_000_000_000),
                _ => return Err(HOW),
            },
        };
        let count: u64 = number.parse().map_err(|_| HOW)?;
        match count.saturating_mul(unit) / bits {
            0 => Err(HOW),
            rate => Ok(Self(rate)),
        }
    }
}

/// Rate limits. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits(Vec<Arc<Limiter>>);

#[derive(Debug)]
struct Limiter {
    rate: Rate,
    /// When the next byte may be sent.
    next: Mutex<Option<Instant>>,
}

impl Limits {
    /// Returns these limits and a further one that belongs to the result alone.
    pub(crate) fn and(&self, rate: Option<Rate>) -> Self {
        let more = rate.map(|rate| Arc::new(Limiter { rate, next: Mutex::new(None) }));
        Self(self.0.iter().cloned().chain(more).collect())
    }

    /// Whether there is any limit.
    pub(crate) fn is_limited(&self) -> bool {
        !self.0.is_empty()
    }

    /// Blocks the thread until `bytes` may be sent.
    pub(crate) fn wait(&self, bytes: usize) {
        for limiter in &self.0 {
            std::thread::sleep(limiter.reserve(bytes, Instant::now()));
        }
    }
}

impl Limiter {
    /// Reserves the next turn for `bytes`. Returns the time until then.
    fn reserve(&self, bytes: usize, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = next.map_or(now, |next| next.max(now));
        let nanoseconds = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.rate.0);
        *next = Some(begin + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)));
        begin - now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_read_with_their_units() {
        let read = |text: &str| text.parse::<Rate>().map(|rate| rate.0);
        assert_eq!(read("500k"), Ok(500_000));
        assert_eq!(read("10M"), Ok(10_000_000));
        assert_eq!(read("100Mbit"), Ok(12_500_000));
        assert_eq!(read("4096"), Ok(4096));
        for bad in ["", "0", "M", "10 M", "-1k", "10MM", "7bit", "10Mb"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_more_goes_than_the_rate_allows(rate in 1u64..1_000_000, chunks in prop::collection::vec(1usize..300_000, 1..40)) {
            let limiter = Limiter { rate: Rate(rate), next: Mutex::new(None) };
            let now = Instant::now();
            let mut before = 0u64;
            for chunk in chunks {
                // A chunk is due when all chunks before it have had their time.
                let waited = limiter.reserve(chunk, now).as_secs_f64();
                let due = before as f64 / rate as f64;
                prop_assert!((waited - due).abs() < 1e-3 * (1.0 + due), "{} {}", waited, due);
                before += chunk as u64;
            }
        }
    }
}

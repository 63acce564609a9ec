//! Responses: whether a retry may help, how long to wait before it, and the limits for reading one.

use std::time::{Duration, SystemTime};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::time::Instant;
use tokio_util::bytes::Bytes;

use crate::causes;

/// The maximum waiting time that a server may request with `Retry-After`.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// The minimum average rate of a response in bytes per second: a server that sends a byte now and then would take
/// longer than any build. Eight downloads that share a line of 128 kbit/s are faster.
const LEAST_RATE: u64 = 1 << 10;

/// Whether the same request may succeed a moment later.
pub fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// Returns the pause after the attempt with this number.
pub fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(250) * 2u32.saturating_pow(attempt.min(6))
}

/// Returns the waiting time that a server requests (RFC 9110, section 10.2.3), in seconds or until a time, which is
/// relative to the `Date` header if there is one.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(RETRY_AFTER)?;
    let wait = match asked.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(asked).ok()?;
            let now = text(DATE).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
            until.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(WAIT_LIMIT))
}

/// Returns the time limit for `size` bytes from a server that may be silent for `silence`.
fn time_limit(size: u64, silence: Duration) -> Duration {
    silence * 2 + Duration::from_secs(size / LEAST_RATE)
}

/// Returns the bytes of a response. They end with an error, in one line, if no data arrives for `silence`, or if the
/// average rate is too low. The time that the reader spends in between does not count.
pub fn paced(response: Response, silence: Duration) -> BoxStream<'static, Result<Bytes, String>> {
    pace(response.bytes_stream().map_err(|error| causes(&error)).boxed(), silence)
}

fn pace(
    bytes: BoxStream<'static, Result<Bytes, String>>,
    silence: Duration,
) -> BoxStream<'static, Result<Bytes, String>> {
    let state = (bytes, 0u64, Duration::ZERO);
    futures::stream::unfold(Some(state), move |state| async move {
        let (mut bytes, mut size, mut waited) = state?;
        let left = time_limit(size, silence).saturating_sub(waited);
        let start = Instant::now();
        let piece = match tokio::time::timeout(left.min(silence), bytes.next()).await {
            Ok(piece) => piece?,
            Err(_) if left < silence => Err(format!("it sends less than {} per second", vcterminal::bytes(LEAST_RATE))),
            Err(_) => Err(format!("no data arrived for {} s", silence.as_secs_f32())),
        };
        waited += start.elapsed();
        Some(match piece {
            Ok(piece) => {
                size += piece.len() as u64;
                (Ok(piece), Some((bytes, size, waited)))
            }
            Err(why) => (Err(why), None),
        })
    })
    .boxed()
}

/// Reads a response of at most `limit` bytes. Returns `None` if it is longer.
///
/// # Errors
/// Returns the reason in one line if the response ends prematurely or is too slow.
pub async fn read(response: Response, limit: u64, silence: Duration) -> Result<Option<Vec<u8>>, String> {
    let mut bytes = Vec::new();
    let mut stream = paced(response, silence);
    while let Some(piece) = stream.try_next().await? {
        if (bytes.len() + piece.len()) as u64 > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{StreamExt, TryStreamExt};
    use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
    use tokio_util::bytes::Bytes;

    use super::{pace, retry_after};

    #[test]
    fn a_server_says_how_long_to_wait_in_seconds_or_by_a_date() {
        let wait = |after: &str, date: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            headers.extend(date.map(|date| (DATE, date.parse().unwrap())));
            retry_after(&headers)
        };
        let at = |second: u32| format!("Sun, 06 Nov 1994 08:49:{second:02} GMT");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(wait("7", None), seconds(7));
        assert_eq!(wait("86400", None), seconds(60), "no longer than a minute");
        assert_eq!(wait(&at(37), Some(&at(30))), seconds(7));
        assert_eq!(wait("Sunday, 06-Nov-94 08:49:37 GMT", Some(&at(30))), seconds(7), "the obsolete form of a date");
        assert_eq!(wait("Sun Nov  6 08:49:37 1994", Some(&at(30))), seconds(7), "and the other");
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT", Some(&at(30))), seconds(60));
        assert_eq!(wait(&at(30), Some(&at(37))), seconds(0), "a time that is over");
        assert_eq!(wait(&at(30), None), seconds(0), "by this machine's clock, where the server does not say its own");
        for nothing in ["", "soon", "-1", "99999999999999999999999"] {
            assert_eq!(wait(nothing, None), None, "{nothing:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_drip_is_no_answer() {
        let silence = Duration::from_millis(500);
        let drip = futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok(Bytes::from_static(b"x")), ()))
        });
        let drip: Result<Vec<_>, _> = run(pace(drip.boxed(), silence).try_collect());
        // On a busy machine, a drop may be late; without a minimum rate, the stream would never end.
        let why = drip.unwrap_err();
        assert!(why == "it sends less than 1.02 kB per second" || why.starts_with("no data arrived"), "{why}");
        let silent = futures::stream::pending().boxed();
        let silent: Result<Vec<_>, _> = run(pace(silent, silence).try_collect());
        assert_eq!(silent.unwrap_err(), "no data arrived for 0.5 s");
    }

    #[test]
    fn a_reader_may_take_its_time() {
        let bytes = futures::stream::iter((0..5).map(|_| Ok(Bytes::from_static(b"x")))).boxed();
        let count = run(async {
            let mut paced = pace(bytes, Duration::from_millis(20));
            let mut count = 0;
            while paced.try_next().await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(30)).await;
                count += 1;
            }
            count
        });
        assert_eq!(count, 5);
    }
}

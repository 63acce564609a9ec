//! Retries requests while the API server is temporarily unavailable, for example while its static pod restarts. The
//! same rule applies to every request of every command: a temporary failure is retried for a limited time and reported
//! once.
//!
//! All requests here can be repeated safely: objects are applied, revisions have numbers of their own, and pods are
//! deleted by UID.

use std::error::Error as StdError;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, DATE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822;
use kube::Client;
use kube::client::Body;

use super::fence::Gate;
use super::token::TokenFile;

/// The default time limit for retries: as long as a kubelet needs to restart an API server.
pub(super) const DEFAULT: Duration = Duration::from_secs(30);

/// The pause before the first retry; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Failures within this interval belong to one outage.
const ONE_OUTAGE: Duration = Duration::from_secs(60);

/// Sends requests to one API server. Clones share its state.
#[derive(Clone)]
pub(super) struct RetryClient {
    client: Client,
    server: String,
    token: Option<Arc<TokenFile>>,
    within: Duration,
    state: Arc<Mutex<State>>,
}

/// The state of the API server.
#[derive(Debug, Default)]
struct State {
    /// The deadline for retries, once the server has answered.
    until: Option<Instant>,
    /// Whether it has answered.
    has_answered: bool,
    /// The time of the last failure, for which a warning was printed or suppressed.
    warned: Option<Instant>,
    /// The server's time in its last answer, and the local time of that answer.
    clock: Option<(Timestamp, Instant)>,
    /// What changes wait for, while this process holds the lock on the cluster.
    gate: Option<Gate>,
}

impl RetryClient {
    pub(super) fn new(client: Client, server: String, token: Option<TokenFile>, within: Duration) -> Self {
        Self { client, server, token: token.map(Arc::new), within, state: Arc::default() }
    }

    /// Returns a client that sends its requests through this one. If `is_fenced`, changes wait for the gate.
    pub(super) fn client(&self, is_fenced: bool) -> Client {
        let (this, namespace) = (self.clone(), self.client.default_namespace().to_owned());
        Client::new(tower::service_fn(move |request| this.clone().send(request, is_fenced)), namespace)
    }

    /// Sets what changes wait for.
    pub(super) fn set_gate(&self, gate: Option<Gate>) {
        self.lock().gate = gate;
    }

    /// Returns the same without retries.
    pub(super) fn once(&self) -> Self {
        Self { within: Duration::ZERO, state: Arc::default(), ..self.clone() }
    }

    /// Makes requests be retried until this time, once the server has answered.
    pub(super) fn until(&self, moment: Instant) {
        self.lock().until = Some(moment);
    }

    /// Returns the API server's present time, or `None` before its first answer.
    pub(super) fn clock(&self) -> Option<Timestamp> {
        let (then, seen) = self.lock().clock?;
        then.checked_add(seen.elapsed()).ok()
    }

    async fn send(self, request: Request<Body>, is_fenced: bool) -> Result<Response<Body>, kube::Error> {
        let begun = Instant::now();
        let (mut parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        // A watch, and a log that is followed, are streamed; every other answer is read to its end, because the
        // connection may break before that.
        let is_stream = parts
            .uri
            .query()
            .is_some_and(|query| query.split('&').any(|one| ["watch=true", "watch=1", "follow=true"].contains(&one)));
        let waits = is_fenced && is_change(&parts);
        let mut pause = FIRST_PAUSE;
        loop {
            let gate = self.lock().gate.clone().filter(|_| waits);
            if let Some(gate) = gate {
                gate.pass().await;
            }
            if let Some(token) = &self.token {
                parts.headers.insert(AUTHORIZATION, token.header());
            }
            let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
            let (answer, is_final) = match once(&self.client, request, is_stream).await {
                Ok((response, is_final)) => (Ok(response), is_final),
                Err(error) => (Err(error), false),
            };
            let (why, asked_for) = match &answer {
                Ok(response)
                    if is_transient_status(response.status()) && !is_final && !is_proxied(parts.uri.path()) =>
                {
                    (format!("it answers {}", response.status()), retry_after(response.headers()))
                }
                Ok(response) => {
                    self.answered(response.headers());
                    return answer;
                }
                Err(error) => match transient_cause(error) {
                    Some(why) => (why, None),
                    None => return answer,
                },
            };
            // The server may ask for a longer pause.
            let rest = asked_for.unwrap_or_default().max(pause);
            let deadline = self.deadline(begun);
            if Instant::now() + rest >= deadline {
                return answer;
            }
            self.warn_once(&why, deadline);
            tokio::time::sleep(rest).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn deadline(&self, begun: Instant) -> Instant {
        let State { until, has_answered, .. } = *self.lock();
        match until {
            Some(until) if has_answered => until,
            // If a server has never answered, its address is more likely to be wrong.
            Some(until) => until.min(begun + self.within),
            None => begun + self.within,
        }
    }

    fn answered(&self, headers: &HeaderMap) {
        let date = headers.get(DATE).and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
        let mut state = self.lock();
        state.has_answered = true;
        if let Some(date) = date {
            state.clock = Some((date.timestamp(), Instant::now()));
        }
    }

    fn warn_once(&self, why: &str, deadline: Instant) {
        let rest = deadline.saturating_duration_since(Instant::now()).as_secs_f64().ceil();
        let before = self.lock().warned.replace(Instant::now());
        // Concurrent requests fail one after another, while others succeed in between: they are all one outage with a
        // single warning.
        if before.is_none_or(|before| before.elapsed() > ONE_OUTAGE) {
            tracing::warn!("the API server {} does not serve: {why}; trying again for up to {rest} s", self.server);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a request changes something.
fn is_change(parts: &Parts) -> bool {
    let is_dry = parts.uri.query().is_some_and(|query| query.split('&').any(|one| one == "dryRun=All"));
    parts.method != Method::GET && !is_dry
}

/// Sends a request. Reads the answer to its end, unless it is a stream; returns also whether the answer will stay the same.
async fn once(client: &Client, request: Request<Body>, is_stream: bool) -> Result<(Response<Body>, bool), kube::Error> {
    let response = client.send(request).await?;
    if is_stream && response.status().is_success() {
        return Ok((response, false));
    }
    let (parts, body) = response.into_parts();
    let body = body.collect_bytes().await?;
    let is_final = is_about_the_object(parts.status, &body);
    Ok((Response::from_parts(parts, Body::from(body)), is_final))
}

/// Whether a server that answers "internal error" speaks of the object that is applied: a field of it is not in the definition.
fn is_about_the_object(status: StatusCode, body: &[u8]) -> bool {
    const WORDS: &[u8] = b"failed to create typed patch object";
    status == StatusCode::INTERNAL_SERVER_ERROR && body.windows(WORDS.len()).any(|words| words == WORDS)
}

/// Whether the status is one of an API server that is starting, overloaded, or waiting for an unavailable backend.
fn is_transient_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

/// Whether somebody else answers the request through the API server.
fn is_proxied(path: &str) -> bool {
    path.contains("/proxy/")
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Returns the cause of a failure that a retry may overcome, or `None` for a permanent failure: an untrusted
/// certificate, an unknown host name, a proxy that refuses.
fn transient_cause(error: &kube::Error) -> Option<String> {
    let mut causes = vec![];
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(this) = cause {
        causes.push(this);
        cause = this.source();
    }
    let io = causes.iter().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let kinds: Vec<ErrorKind> = io.map(std::io::Error::kind).collect();
    let is_away = kinds.iter().any(|kind| {
        use ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
            NotConnected, TimedOut, UnexpectedEof,
        };
        matches!(
            kind,
            BrokenPipe
                | ConnectionAborted
                | ConnectionRefused
                | ConnectionReset
                | HostUnreachable
                | NetworkUnreachable
                | NotConnected
                | TimedOut
                | UnexpectedEof
        )
    });
    let messages = causes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let broke = ["connection closed before message completed", "connection was not ready", "operation was canceled"];
    let is_broken = messages.iter().any(|messages| {
        broke.iter().any(|known| messages.contains(known)) || messages.contains("Temporary failure in name resolution")
    });
    (is_away || is_broken).then(|| messages.last().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::is_about_the_object;

    #[test]
    fn a_server_that_cannot_read_the_applied_object_is_not_asked_again() {
        let body = br#"{"message": "failed to create typed patch object (/a; b/v1, Kind=C): .spec.d: field not declared in schema"}"#;
        assert!(is_about_the_object(StatusCode::INTERNAL_SERVER_ERROR, body));
        assert!(!is_about_the_object(StatusCode::SERVICE_UNAVAILABLE, body));
        assert!(!is_about_the_object(StatusCode::INTERNAL_SERVER_ERROR, b"etcdserver: leader changed"));
        assert!(!is_about_the_object(StatusCode::INTERNAL_SERVER_ERROR, b""));
    }
}

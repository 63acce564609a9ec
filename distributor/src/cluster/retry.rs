//! An API server that is away for a moment, as while its static pod is started anew, ends nothing: one rule for every
//! request of every command. A transient failure is retried for a bounded time, and reported once.
//!
//! Whatever is asked of the API server here can be asked twice: objects are applied, revisions have a number of their own, and
//! pods are deleted by their UID.

use std::error::Error as StdError;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, DATE, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822;
use kube::Client;
use kube::client::Body;

use super::token::TokenFile;

/// How long a request is retried by default: as long as a kubelet takes to restart an API server.
pub(super) const DEFAULT: Duration = Duration::from_secs(30);

/// How long to wait before a request is tried again, the first time; twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// How long to wait at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Failures that are no further apart are of one outage.
const ONE_OUTAGE: Duration = Duration::from_secs(60);

/// Sends requests to one API server. Clones share what is known of it.
#[derive(Clone)]
pub(super) struct RetryClient {
    client: Client,
    server: String,
    token: Option<Arc<TokenFile>>,
    within: Duration,
    state: Arc<Mutex<State>>,
}

/// What is known of the API server.
#[derive(Debug, Default)]
struct State {
    /// Until when requests are tried again once it has answered at all.
    until: Option<Instant>,
    /// Whether it has answered.
    has_answered: bool,
    /// When a failure was last reported, or could have been.
    warned: Option<Instant>,
    /// Its clock when it last answered, and ours.
    clock: Option<(Timestamp, Instant)>,
}

impl RetryClient {
    pub(super) fn new(client: Client, server: String, token: Option<TokenFile>, within: Duration) -> Self {
        Self { client, server, token: token.map(Arc::new), within, state: Arc::default() }
    }

    /// A client whose requests are sent so.
    pub(super) fn client(&self) -> Client {
        let (this, namespace) = (self.clone(), self.client.default_namespace().to_owned());
        Client::new(tower::service_fn(move |request| this.clone().send(request)), namespace)
    }

    /// Has requests be tried again until then, once the server has answered.
    pub(super) fn until(&self, moment: Instant) {
        self.lock().until = Some(moment);
    }

    /// What the API server's clock shows now; none before its first answer.
    pub(super) fn clock(&self) -> Option<Timestamp> {
        let (then, seen) = self.lock().clock?;
        then.checked_add(seen.elapsed()).ok()
    }

    async fn send(self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let begun = Instant::now();
        let (mut parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        // A watch and a log that is followed go on; everything else is read to its end, for it may break off there.
        let is_stream = parts
            .uri
            .query()
            .is_some_and(|query| query.split('&').any(|one| ["watch=true", "watch=1", "follow=true"].contains(&one)));
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(token) = &self.token {
                parts.headers.insert(AUTHORIZATION, token.header());
            }
            let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
            let answer = once(&self.client, request, is_stream).await;
            let (why, asked_for) = match &answer {
                Ok(response) if is_transient_status(response.status()) => {
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
            // Only the server knows how long one of many clients should wait.
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
            // A server that never answered is more likely to have another address.
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
        // Concurrent requests fail one after another, and others succeed in between: one warning covers them.
        if before.is_none_or(|before| before.elapsed() > ONE_OUTAGE) {
            tracing::warn!("the API server {} does not serve: {why}; trying again for up to {rest} s", self.server);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request. Unless it goes on, the answer has come whole.
async fn once(client: &Client, request: Request<Body>, is_stream: bool) -> Result<Response<Body>, kube::Error> {
    let response = client.send(request).await?;
    if is_stream && response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, Body::from(body.collect_bytes().await?)))
}

/// What an API server answers that is starting, has too much to do or asks somebody who is away.
fn is_transient_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Why a request failed that may well succeed in a moment; none where it will not: a certificate that is not trusted, a name
/// that nobody knows, a proxy that refuses.
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

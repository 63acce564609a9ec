//! A repository at one host: requests that log in where they are asked to, and are made again when that may help.

use std::time::Duration;

use futures::TryStreamExt;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::Mutex;

use super::Error;
use super::challenge::{Challenge, Token};
use super::credentials::{self, Credentials, Login};
use super::error::{Cause, is_tls};
use super::host::{Host, Patience};
use crate::network::causes;

/// The most of an error's or a token server's answer that is read.
const WORDS_LIMIT: u64 = 64 << 10;

/// The longest that a server may make its clients wait by `Retry-After`.
const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// What may be done with a token: `pull`, or `pull,push`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// A repository at one host.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    repository: String,
    client: Client,
    patience: Patience,
    access: Access,
    /// A repository of the same registry that blobs are mounted from.
    mounted: Option<String>,
    credentials: Option<Credentials>,
    /// What the last challenge was answered with.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Endpoint {
    /// Prepares for requests; none is made yet.
    pub(super) fn new(host: Host, repository: &str, patience: Patience, access: Access) -> Result<Self, Error> {
        let client = host.client(patience)?;
        let repository = format!("{}{repository}", host.prefix);
        let credentials = credentials::find(&host.name, &repository)?;
        let (mounted, authorization) = (None, Mutex::default());
        Ok(Self { host, repository, client, patience, access, mounted, credentials, authorization })
    }

    /// Asks for the right to mount blobs from this repository, too.
    pub(super) fn mounting(self, mounted: Option<&str>) -> Self {
        Self { mounted: mounted.map(str::to_owned), ..self }
    }

    /// How patient it is.
    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// The address of something in the repository.
    pub(super) fn url(&self, below: &str) -> Result<Url, Error> {
        let url = format!("{}{}/{below}", self.host.api(), self.repository);
        url.parse().map_err(|_| self.answer("reaching", format!("{url} is no address")))
    }

    /// Makes a request; `dress` adds what it needs besides the login, and is called once an attempt. An answer that is no
    /// success is an error.
    ///
    /// # Errors
    /// As [`Error`] has them; `attempt` says what was asked for, as "pulling a from".
    pub(super) async fn send(
        &self,
        attempt: &str,
        method: Method,
        url: &Url,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        self.attempts(self.patience.attempts, attempt, method, url, dress).await
    }

    /// Makes a request that cannot be repeated as it is.
    ///
    /// # Errors
    /// As [`Endpoint::send`].
    pub(super) async fn send_once(
        &self,
        attempt: &str,
        method: Method,
        url: &Url,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        self.attempts(1, attempt, method, url, dress).await
    }

    async fn attempts(
        &self,
        attempts: u32,
        attempt: &str,
        method: Method,
        url: &Url,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let mut count = 1;
        let mut asked = false;
        loop {
            let mut request = dress(self.client.request(method.clone(), url.clone()));
            // An upload may go on at another host, whom this login does not concern.
            let authorization = self.authorization.lock().await.clone();
            let ours = url.as_str().starts_with(&self.host.api());
            if let Some(authorization) = authorization.filter(|_| ours) {
                request = request.header(AUTHORIZATION, authorization);
            }
            let again = match request.send().await {
                Ok(response) => match response.status() {
                    status if status.is_success() => return Ok(response),
                    StatusCode::UNAUTHORIZED if ours && !asked => {
                        asked = true;
                        self.log_in(attempt, &response).await?;
                        continue;
                    }
                    status if is_passing(status) && count < attempts => {
                        tracing::debug!(%url, %status, "asking again");
                        retry_after(&response)
                    }
                    _ => return Err(self.refused(attempt, count, response).await),
                },
                Err(error) if is_tls(&error) => return Err(self.no_tls(attempt, &error)),
                Err(error) if error.is_builder() || count >= attempts => {
                    return Err(self.unreachable(attempt, count, &error));
                }
                Err(error) => {
                    tracing::debug!(%url, why = causes(&error), "asking again");
                    None
                }
            };
            tokio::time::sleep(again.unwrap_or_else(|| backoff(count))).await;
            count += 1;
        }
    }

    /// Reads an answer of at most `limit` bytes.
    pub(super) async fn body(&self, attempt: &str, response: Response, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(piece) = stream.try_next().await.map_err(|error| self.unreachable(attempt, 1, &error))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > limit {
                return Err(self.answer(attempt, format!("it answers with more than {limit} bytes")));
            }
        }
        Ok(bytes)
    }

    /// An answer that no registry gives.
    pub(super) fn answer(&self, attempt: &str, why: impl Into<String>) -> Error {
        Error::Answer { attempt: attempt.to_owned(), host: self.host.name.clone(), why: why.into() }
    }

    fn unreachable(&self, attempt: &str, attempts: u32, error: &reqwest::Error) -> Error {
        let (attempt, host) = (attempt.to_owned(), self.host.name.clone());
        Error::Unreachable { attempt, host, attempts, source: Box::new(Cause(causes(error))) }
    }

    fn no_tls(&self, attempt: &str, error: &reqwest::Error) -> Error {
        let (attempt, host) = (attempt.to_owned(), self.host.name.clone());
        Error::Tls { attempt, host, source: Box::new(Cause(causes(error))) }
    }

    /// The error of an answer that is no success.
    async fn refused(&self, attempt: &str, attempts: u32, response: Response) -> Error {
        let status = response.status();
        let body = self.body(attempt, response, WORDS_LIMIT).await.unwrap_or_default();
        let (said_by, host, attempt) = (words(&body), self.host.name.clone(), attempt.to_owned());
        let from = self.credentials.as_ref().map(|credentials| credentials.from.clone());
        match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized { attempt, host, from, said_by },
            StatusCode::FORBIDDEN => Error::Forbidden { attempt, host, from, said_by },
            StatusCode::NOT_FOUND => Error::NotFound { attempt, host, said_by },
            status if is_passing(status) => {
                let why = Cause(format!("it answered {status} {said_by}").trim_end().to_owned());
                Error::Unreachable { attempt, host, attempts, source: Box::new(why) }
            }
            status => Error::Answer { attempt, host, why: format!("it answered {status} {said_by}").trim_end().into() },
        }
    }

    /// Answers the challenge of a 401.
    async fn log_in(&self, attempt: &str, response: &Response) -> Result<(), Error> {
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge = Challenge::among(challenges)
            .ok_or_else(|| self.answer(attempt, "it wants a login of a kind that is not known here"))?;
        let authorization = match (challenge, self.credentials.as_ref().map(|credentials| &credentials.login)) {
            (Challenge::Basic, Some(Login::Password(name, password))) => {
                use base64::Engine;
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
                Some(format!("Basic {pair}"))
            }
            (Challenge::Basic, _) => None,
            (Challenge::Bearer { realm, service }, login) => {
                Some(format!("Bearer {}", self.token(attempt, &realm, service.as_deref(), login).await?))
            }
        };
        // Without a login the request is made once more, and its 401 is the error.
        let mut header = authorization.and_then(|text| HeaderValue::from_str(&text).ok());
        if let Some(header) = &mut header {
            header.set_sensitive(true);
        }
        *self.authorization.lock().await = header;
        Ok(())
    }

    /// Gets a token from the server that the registry names.
    async fn token(
        &self,
        attempt: &str,
        realm: &str,
        service: Option<&str>,
        login: Option<&Login>,
    ) -> Result<String, Error> {
        let bad = |why: String| self.answer(attempt, why);
        let mut url: Url = realm.parse().map_err(|_| bad(format!("it names {realm:?} for a login")))?;
        if url.scheme() != "https" && self.host.scheme == "https" && login.is_some() {
            return Err(bad(format!("it wants the login sent to {realm} in the clear")));
        }
        let actions = if self.access == Access::Push { "pull,push" } else { "pull" };
        let scopes = [format!("repository:{}:{actions}", self.repository)];
        let mounted = self.mounted.iter().map(|repository| format!("repository:{repository}:pull"));
        let scopes: Vec<_> = scopes.into_iter().chain(mounted).collect();
        let request = match login {
            Some(Login::Identity(token)) => {
                let mut form = url.clone();
                form.query_pairs_mut()
                    .clear()
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("refresh_token", token)
                    .append_pair("client_id", "vcbuild")
                    .append_pair("service", service.unwrap_or_default())
                    .append_pair("scope", &scopes.join(" "));
                let body = form.query().unwrap_or_default().to_owned();
                self.client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body)
            }
            other => {
                {
                    let mut query = url.query_pairs_mut();
                    query.extend_pairs(service.map(|service| ("service", service)));
                    query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                }
                let request = self.client.get(url);
                match other {
                    Some(Login::Password(name, password)) => request.basic_auth(name, Some(password)),
                    _ => request,
                }
            }
        };
        let attempt = format!("logging in for {attempt}");
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if is_tls(&error) => return Err(self.no_tls(&attempt, &error)),
            Err(error) => return Err(self.unreachable(&attempt, 1, &error)),
        };
        if !response.status().is_success() {
            return Err(self.refused(&attempt, 1, response).await);
        }
        let body = self.body(&attempt, response, WORDS_LIMIT).await?;
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        token.and_then(Token::text).ok_or_else(|| self.answer(&attempt, "its token server gives no token"))
    }
}

/// Whether the same question may be answered a moment later.
fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
}

/// How long to wait after the attempt of this number.
pub(crate) fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(250) * 2u32.saturating_pow(attempt.min(6))
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(WAIT_LIMIT))
}

/// What a registry says of an error (distribution specification, "Error Codes"), in one line of plain letters.
fn words(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        code: Option<String>,
        message: Option<String>,
    }
    let Ok(said) = serde_json::from_slice::<Said>(body) else { return String::new() };
    let one = |one: One| one.message.filter(|text| !text.is_empty()).or(one.code);
    let words = said.errors.into_iter().filter_map(one).collect::<Vec<_>>().join("; ");
    words.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

//! A repository at one host: requests authenticate when challenged, and are retried if that may help.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::Mutex;
use vcnetwork::causes;
use vcnetwork::http::{self, Moved, SendError};

use super::Error;
use super::challenge::{Challenge, Token};
use super::credentials::{self, Login, LoginLookup};
use super::error::{Cause, is_tls};
use super::host::{Host, Patience};

/// The maximum size of an error response that is read, in bytes.
const WORDS_LIMIT: u64 = 64 << 10;

/// The maximum size of a token server's response, in bytes: some include all permissions of the user in a token.
const TOKEN_LIMIT: u64 = 1 << 20;

/// The permissions of a token: `pull`, or `pull,push`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// A repository at one host.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) host: Host,
    repository: String,
    client: Client,
    /// The client for token requests, which follows no redirect to another host.
    logins: Client,
    patience: Patience,
    access: Access,
    /// The repository of the same registry from which blobs may be mounted.
    mounted: Option<String>,
    /// Whether the registry has refused to mount blobs.
    mounts_nothing: AtomicBool,
    found: LoginLookup,
    /// The answer to the last challenge.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Endpoint {
    /// Prepares for requests; sends none yet.
    pub(super) fn new(host: Host, repository: &str, patience: Patience, access: Access) -> Result<Self, Error> {
        let (client, logins) = (host.client(patience, false)?, host.client(patience, true)?);
        let repository = format!("{}{repository}", host.prefix);
        let found = credentials::find(&host.name, &repository)?;
        let (mounted, mounts_nothing, authorization) = (None, AtomicBool::new(false), Mutex::default());
        Ok(Self { host, repository, client, logins, patience, access, mounted, mounts_nothing, found, authorization })
    }

    /// Also requests the permission to mount blobs from this repository.
    pub(super) fn mounting(self, mounted: Option<&str>) -> Self {
        Self { mounted: mounted.map(str::to_owned), ..self }
    }

    /// Returns the repository from which blobs may be mounted, unless the registry has refused that before.
    pub(super) fn mounted(&self) -> Option<&str> {
        self.mounted.as_deref().filter(|_| !self.mounts_nothing.load(Ordering::Relaxed))
    }

    /// Disables mounting, because the registry refused it. The upload that replaces it may still be permitted.
    pub(super) fn mount_nothing(&self, why: &str) {
        tracing::debug!(from = self.mounted, why, "sending blobs, because they cannot be mounted");
        self.mounts_nothing.store(true, Ordering::Relaxed);
    }

    /// Its limits for time and attempts.
    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// Returns the URL of something in the repository.
    pub(super) fn url(&self, below: &str) -> Result<Url, Error> {
        let url = format!("{}{}/{below}", self.host.api(), self.repository);
        url.parse().map_err(|_| self.answer("reaching", format!("{url} is not a valid URL")))
    }

    /// Sends a request; `dress` adds everything except the authentication, and is called once for each attempt. An
    /// unsuccessful response is an error.
    ///
    /// # Errors
    /// Returns an [`Error`]; `attempt` describes the request, such as "pulling a from".
    pub(super) async fn send(
        &self,
        attempt: &str,
        method: Method,
        url: &Url,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        self.attempts(self.patience.attempts, attempt, method, url, &Moved::default(), dress).await
    }

    /// Sends a request that cannot be repeated; `moved` counts its body.
    ///
    /// # Errors
    /// Returns an error like [`Endpoint::send`].
    pub(super) async fn send_once(
        &self,
        attempt: &str,
        method: Method,
        url: &Url,
        moved: &Moved,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        self.attempts(1, attempt, method, url, moved, dress).await
    }

    async fn attempts(
        &self,
        attempts: u32,
        attempt: &str,
        method: Method,
        url: &Url,
        moved: &Moved,
        dress: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let ours = self.is_ours(url);
        let mut asked = false;
        loop {
            // An upload may continue at another host, which must not receive the credentials.
            let authorization = self.authorization.lock().await.clone().filter(|_| ours);
            let build = || {
                let request = dress(self.client.request(method.clone(), url.clone()));
                match &authorization {
                    Some(authorization) => request.header(AUTHORIZATION, authorization),
                    None => request,
                }
            };
            let (response, count) = self.persist(attempts, attempt, moved, build).await?;
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::UNAUTHORIZED if ours && !asked => {
                    asked = true;
                    self.log_in(attempt, &response).await?;
                }
                _ => return Err(self.refused(attempt, count, response).await),
            }
        }
    }

    /// Repeats a request as long as that may help. Returns the last response and the number of attempts.
    async fn persist(
        &self,
        attempts: u32,
        attempt: &str,
        moved: &Moved,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<(Response, u32), Error> {
        let mut count = 1;
        loop {
            let again = match http::send(build(), self.patience.silence, moved).await {
                Ok(response) if http::is_passing(response.status()) && count < attempts => {
                    tracing::debug!(host = self.host.name, status = %response.status(), "asking again");
                    http::retry_after(response.headers())
                }
                Ok(response) => return Ok((response, count)),
                Err(SendError::Request(error)) if is_tls(&error) => return Err(self.no_tls(attempt, &error)),
                Err(SendError::Request(error)) if error.is_redirect() => {
                    return Err(self.answer(attempt, causes(&error)));
                }
                Err(error) if error.is_final() || count >= attempts => {
                    return Err(self.unreachable(attempt, count, &error.to_string()));
                }
                Err(error) => {
                    tracing::debug!(host = self.host.name, why = %error, "asking again");
                    None
                }
            };
            tokio::time::sleep(again.unwrap_or_else(|| http::backoff(count))).await;
            count += 1;
        }
    }

    /// Whether a URL belongs to the registry itself, so that credentials may be sent there.
    fn is_ours(&self, url: &Url) -> bool {
        let api = self.host.api().parse::<Url>();
        api.is_ok_and(|api| api.origin() == url.origin() && url.path().starts_with(api.path()))
    }

    /// Reads a response of at most `limit` bytes.
    pub(super) async fn body(&self, attempt: &str, response: Response, limit: u64) -> Result<Vec<u8>, Error> {
        let bytes = http::read(response, limit, self.patience.silence).await;
        let bytes = bytes.map_err(|why| self.unreachable(attempt, 1, &why))?;
        bytes.ok_or_else(|| self.answer(attempt, format!("its response is longer than {limit} bytes")))
    }

    /// Returns the error for a response that does not conform to the protocol.
    pub(super) fn answer(&self, attempt: &str, why: impl Into<String>) -> Error {
        Error::Answer { attempt: attempt.to_owned(), host: self.host.name.clone(), why: why.into() }
    }

    fn unreachable(&self, attempt: &str, attempts: u32, why: &str) -> Error {
        let (attempt, host) = (attempt.to_owned(), self.host.name.clone());
        Error::Unreachable { attempt, host, attempts, source: Box::new(Cause(why.to_owned())) }
    }

    fn no_tls(&self, attempt: &str, error: &reqwest::Error) -> Error {
        let (attempt, host) = (attempt.to_owned(), self.host.name.clone());
        Error::Tls { attempt, host, source: Box::new(Cause(causes(error))) }
    }

    /// The error for a response without success.
    async fn refused(&self, attempt: &str, attempts: u32, response: Response) -> Error {
        let status = response.status();
        let body = self.body(attempt, response, WORDS_LIMIT).await.unwrap_or_default();
        let (message, host, attempt) = (error_message(&body), self.host.name.clone(), attempt.to_owned());
        let login = self.found.login_source();
        match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized { attempt, host, login, message },
            StatusCode::FORBIDDEN => Error::Forbidden { attempt, host, login, message },
            StatusCode::NOT_FOUND => Error::NotFound { attempt, host, login, message },
            StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge { attempt, host, message },
            status if http::is_passing(status) => {
                let why = format!("it answered {status} {message}");
                let source = Box::new(Cause(why.trim_end().to_owned()));
                Error::Unreachable { attempt, host, attempts, source }
            }
            status => Error::Answer { attempt, host, why: format!("it answered {status} {message}").trim_end().into() },
        }
    }

    /// Answers the challenge of a 401 response.
    async fn log_in(&self, attempt: &str, response: &Response) -> Result<(), Error> {
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge = Challenge::among(challenges)
            .ok_or_else(|| self.answer(attempt, "it requires an authentication scheme that is not supported"))?;
        let authorization = match (challenge, self.found.login()) {
            (Challenge::Basic, Some(Login::Password(name, password))) => {
                use base64::Engine;
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
                Some(format!("Basic {pair}"))
            }
            (Challenge::Basic, _) => None,
            (Challenge::Bearer { realm, service }, login) => {
                let token = match self.mounted() {
                    None => self.token(attempt, &realm, service.as_deref(), login, None).await?,
                    mounted => match self.token(attempt, &realm, service.as_deref(), login, mounted).await {
                        // Some token servers reject the whole request instead of only the missing permission.
                        Err(error) if error.is_refusal() => {
                            self.mount_nothing(&causes(&error));
                            self.token(attempt, &realm, service.as_deref(), login, None).await?
                        }
                        token => token?,
                    },
                };
                Some(format!("Bearer {token}"))
            }
        };
        // Without credentials, the request is sent once more, and its 401 response is the error.
        let mut header = authorization.and_then(|text| HeaderValue::from_str(&text).ok());
        if let Some(header) = &mut header {
            header.set_sensitive(true);
        }
        *self.authorization.lock().await = header;
        Ok(())
    }

    /// Requests a token from the registry's token server, including the permission to mount from the repository
    /// `mounted`.
    async fn token(
        &self,
        attempt: &str,
        realm: &str,
        service: Option<&str>,
        login: Option<&Login>,
        mounted: Option<&str>,
    ) -> Result<String, Error> {
        let url = self.token_server(attempt, realm, login.is_some())?;
        let actions = if self.access == Access::Push { "pull,push" } else { "pull" };
        let scopes = [format!("repository:{}:{actions}", self.repository)];
        let mounted = mounted.iter().map(|repository| format!("repository:{repository}:pull"));
        let scopes: Vec<_> = scopes.into_iter().chain(mounted).collect();
        let build = || match login {
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
                let request = self.logins.post(url.clone());
                request.header("content-type", "application/x-www-form-urlencoded").body(body)
            }
            other => {
                let mut url = url.clone();
                {
                    let mut query = url.query_pairs_mut();
                    query.extend_pairs(service.map(|service| ("service", service)));
                    query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                }
                let request = self.logins.get(url);
                match other {
                    Some(Login::Password(name, password)) => request.basic_auth(name, Some(password)),
                    _ => request,
                }
            }
        };
        let attempt = format!("logging in for {attempt}");
        let (response, count) = self.persist(self.patience.attempts, &attempt, &Moved::default(), build).await?;
        if !response.status().is_success() {
            return Err(self.refused(&attempt, count, response).await);
        }
        let body = self.body(&attempt, response, TOKEN_LIMIT).await?;
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        token.and_then(Token::text).ok_or_else(|| self.answer(&attempt, "its token server returned no token"))
    }

    /// Returns the URL of the token server, if credentials may be sent there.
    fn token_server(&self, attempt: &str, realm: &str, with_login: bool) -> Result<Url, Error> {
        let bad = |why: String| self.answer(attempt, why);
        let url: Url =
            realm.parse().map_err(|_| bad("the address of its token server is not a valid URL".to_owned()))?;
        let api: Url = self.host.api().parse().map_err(|_| bad("it is not a valid URL".to_owned()))?;
        // Without credentials the request contains no secret, and the response need not be trusted.
        let strict = with_login || url.scheme() != "http" || api.scheme() != "https";
        let mut from = api.clone();
        if !strict && from.set_scheme("http").is_err() {
            return Err(bad("it is not a valid URL".to_owned()));
        }
        http::check_redirect(&from, &url).map_err(|why| bad(format!("its token server is at {why}")))?;
        let in_clear = url.scheme() == "http" && !http::is_loopback(&url) && url.host_str() != api.host_str();
        if with_login && in_clear {
            let server = url.host_str().unwrap_or_default();
            return Err(bad(format!(
                "it requests that the credentials be sent to another server, http://{server}, without TLS"
            )));
        }
        Ok(url)
    }
}

/// Returns the message of an error response (distribution specification, "Error Codes"), in one line without control
/// characters.
fn error_message(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct ErrorBody {
        errors: Vec<ErrorEntry>,
    }
    #[derive(serde::Deserialize)]
    struct ErrorEntry {
        code: Option<String>,
        message: Option<String>,
    }
    let Ok(said) = serde_json::from_slice::<ErrorBody>(body) else { return String::new() };
    let one = |one: ErrorEntry| one.message.filter(|text| !text.is_empty()).or(one.code);
    let message = said.errors.into_iter().filter_map(one).collect::<Vec<_>>().join("; ");
    message.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

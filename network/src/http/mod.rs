//! The HTTP client for all of vcbuild: it uses the user's proxies, never follows a server to an address where its
//! clients must not be sent, and limits everything that a server can send or delay.

mod answer;
mod proxies;
mod redirects;
mod send;

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Proxy, redirect};

pub use self::answer::{backoff, is_passing, paced, read, retry_after};
use self::proxies::Proxies;
pub use self::proxies::{BadProxy, of_programs};
use self::redirects::is_link_local;
pub use self::redirects::{check_redirect, is_loopback};
pub use self::send::{Moved, SendError, send};

/// The maximum number of redirects of one request.
const REDIRECT_LIMIT: usize = 10;
const TOO_MANY: &str = "it redirects more than 10 times";

/// Creates a client that uses the user's proxies, and follows redirects only as far as [`check_redirect()`] permits.
///
/// # Errors
/// Returns an error if the environment names a proxy that cannot be used.
pub fn client() -> Result<ClientBuilder, BadProxy> {
    let proxies = Proxies::of_environment()?;
    Ok(with(proxies))
}

fn with(proxies: Proxies) -> ClientBuilder {
    // If a provider is already installed, that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let follow = redirect::Policy::custom(|attempt| match attempt.previous() {
        [first, .., last] | [first @ last] => {
            if attempt.previous().len() > REDIRECT_LIMIT {
                return attempt.error(TOO_MANY);
            }
            match check_redirect(first, attempt.url()).and_then(|()| check_redirect(last, attempt.url())) {
                Ok(()) => attempt.follow(),
                Err(why) => attempt.error(format!("it redirects to {why}")),
            }
        }
        [] => attempt.stop(),
    });
    Client::builder()
        .user_agent(concat!("vcbuild/", env!("CARGO_PKG_VERSION")))
        .proxy(Proxy::custom(move |url| proxies.of(url).cloned()))
        .redirect(follow)
        .dns_resolver(Arc::new(Names))
}

/// Follows redirects only within a host, and never from TLS to plain HTTP: for requests that contain credentials.
pub fn within_its_host() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let Some(from) = attempt.previous().last() else { return attempt.stop() };
        let to = attempt.url();
        let same = from.origin() == to.origin() || (from.host_str() == to.host_str() && to.scheme() == "https");
        if attempt.previous().len() > REDIRECT_LIMIT {
            return attempt.error(TOO_MANY);
        }
        let why = format!(
            "it redirects to {}, a different server, to which credentials are not sent",
            to.host_str().unwrap_or_default()
        );
        if same { attempt.follow() } else { attempt.error(why) }
    })
}

/// The system's resolver, without link-local addresses: services that trust every client that can reach them, such as a
/// cloud's metadata service, listen there. An IP address that the user gives is not resolved.
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let usable: Vec<SocketAddr> = found.iter().copied().filter(|one| !is_link_local(one.ip())).collect();
            if usable.is_empty() && !found.is_empty() {
                return Err(format!(
                    "{} resolves to a link-local address, which must be given as an IP address",
                    name.as_str()
                )
                .into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

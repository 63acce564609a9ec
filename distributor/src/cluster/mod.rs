//! The client for the Kubernetes API server of a cluster. The cluster is found as in kubectl: from `--kubeconfig`, else
//! from the files of `KUBECONFIG`, else from `~/.kube/config`, else from the service account of the pod in which this
//! program runs. A request that fails temporarily is retried. Uses only `crate::duration`.

mod error;
mod fence;
mod kubeconfig;
mod proxy;
mod retry;
mod token;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use clap::Args;
use k8s_openapi::jiff::Timestamp;
use kube::{Client, Config};

use crate::duration::parse_duration;
pub use error::Error;
pub(crate) use error::is_absent;
pub(crate) use fence::{Begun, Fence};
use kubeconfig::Access;
use proxy::Variables;
use retry::RetryClient;
use token::TokenFile;

/// The time limit for a connection to the API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is silent for this long in the middle of an answer is considered lost. Longer than any watch
/// lasts.
const READ_TIMEOUT: Duration = Duration::from_secs(40);

/// How long the API server keeps one watch open, in seconds. Less than the client's read timeout, so that a quiet watch
/// is not considered lost.
pub(crate) const WATCH_SECONDS: u32 = 25;

/// Which cluster: the options of every command that talks to one.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterArgs {
    /// The kubeconfig [default: $KUBECONFIG, else ~/.kube/config]
    ///
    /// In a pod without either, vcdist uses the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<Utf8PathBuf>,

    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Retry for so long without an answer of the API [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub api_timeout: Option<Duration>,
}

/// A cluster with its client. Nothing is sent before the first request.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    retry: RetryClient,
    server: String,
    /// The name of the server in errors, including the proxy if there is one.
    called: String,
    source: Source,
}

impl Cluster {
    /// Finds the cluster's configuration and creates a client for it.
    ///
    /// # Errors
    /// Returns an error if no configuration is found, or if it cannot be read or used.
    pub async fn connect(args: &ClusterArgs) -> Result<Self, Error> {
        // Fails only if a provider is already installed, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let environment = Environment::of_this_process();
        let (source, access) = Source::find(args, &environment)?.access(args, &environment)?;
        let Access { mut config, token_file, proxy, plugin } = access;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        // The library's own retries would not be reported.
        config.default_retry = false;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let called = match &proxy {
            Some(proxy) => format!("{server} through the proxy {proxy}"),
            None => server.clone(),
        };
        let failed = |cause: error::Cause| error::unusable(source.to_string(), plugin.clone(), cause);
        let token = token_file.map(TokenFile::open).transpose().map_err(|error| failed(Box::new(error)))?;
        let client = Client::try_from(config).map_err(|error| failed(error.into()))?;
        tracing::info!("using {called} of {source}");
        let retry = RetryClient::new(client, server.clone(), token, args.api_timeout.unwrap_or(retry::DEFAULT));
        Ok(Self { client: retry.client(true), retry, server, called, source })
    }

    /// Returns the client; clones share its connections.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Returns a client whose changes do not wait for the fence.
    pub(crate) fn unfenced_client(&self) -> Client {
        self.retry.client(false)
    }

    /// Makes changes wait until the fence is open; without one, they wait for nothing. Clones of this value share it.
    pub(crate) fn set_fence(&self, fence: Option<&Fence>) {
        self.retry.set_gate(fence.map(Fence::gate));
    }

    /// Returns a client that sends each request once, for questions to which a failure is an answer.
    pub(crate) fn client_without_retries(&self) -> Client {
        self.retry.once().client(false)
    }

    /// The API server's address, `https://HOST:PORT`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Makes requests that fail temporarily be retried until `moment`, once the API server has answered; otherwise,
    /// each is retried for the duration of `--api-timeout`.
    pub(crate) fn wait_until(&self, moment: Instant) {
        self.retry.until(moment);
    }

    /// Returns the API server's present time, or `None` before its first answer.
    pub(crate) fn clock(&self) -> Option<Timestamp> {
        self.retry.clock()
    }

    /// Converts the error of a failed request. `attempt` describes the request, as in "listing pods in vc-manager".
    #[must_use]
    pub fn failed(&self, attempt: impl Into<String>, error: kube::Error) -> Error {
        error::classify(attempt.into(), error, &self.called, &self.source.to_string())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server).field("source", &self.source).finish_non_exhaustive()
    }
}

/// The source of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Kubeconfig files, merged: the first that sets a value wins.
    Files(Vec<PathBuf>),
    /// The service account of the pod that this process runs in.
    Pod,
}

/// The inputs of the search other than the command line.
#[derive(Debug, Default)]
struct Environment {
    kubeconfig: Option<OsString>,
    home: Option<PathBuf>,
    in_pod: bool,
    proxies: Variables,
}

impl Environment {
    fn of_this_process() -> Self {
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG"),
            home: std::env::home_dir(),
            in_pod: ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"]
                .iter()
                .all(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())),
            proxies: Variables::of_this_process(),
        }
    }
}

impl Source {
    fn find(args: &ClusterArgs, environment: &Environment) -> Result<Self, Error> {
        let missing = |files: Vec<PathBuf>| Error::NoKubeconfig { searched: list(&files) };
        if let Some(file) = &args.kubeconfig {
            let file = file.clone().into_std_path_buf();
            return if file.exists() { Ok(Self::Files(vec![file])) } else { Err(missing(vec![file])) };
        }
        let named = environment.kubeconfig.iter().flat_map(std::env::split_paths);
        let named: Vec<PathBuf> = named.filter(|path| !path.as_os_str().is_empty()).collect();
        // Files in a list that do not exist are skipped.
        let searched = match (&named[..], &environment.home) {
            ([], home) => vec![home.as_deref().unwrap_or(Path::new("/")).join(".kube/config")],
            _ => named,
        };
        let there: Vec<PathBuf> = searched.iter().filter(|path| path.exists()).cloned().collect();
        match (there.is_empty(), environment.in_pod) {
            (false, _) => Ok(Self::Files(there)),
            (true, true) => Ok(Self::Pod),
            (true, false) => Err(missing(searched)),
        }
    }

    /// Returns the access to the cluster, and its final source: in a pod, an empty kubeconfig is ignored.
    fn access(self, args: &ClusterArgs, environment: &Environment) -> Result<(Self, Access), Error> {
        if let Self::Files(files) = &self {
            let kubeconfig = kubeconfig::read(files)?;
            let is_left_to_the_pod =
                args.kubeconfig.is_none() && environment.in_pod && kubeconfig::is_empty(&kubeconfig);
            if !is_left_to_the_pod {
                let access =
                    kubeconfig::access(&kubeconfig, &list(files), args.context.as_deref(), &environment.proxies)?;
                return Ok((self, access));
            }
        }
        let failed = |cause: error::Cause| Error::Pod { source: cause };
        let mut config = Config::incluster().map_err(|error| failed(error.into()))?;
        let proxy =
            proxy::choose(None, &config.cluster_url, &environment.proxies).map_err(|error| failed(error.into()))?;
        config.proxy_url = proxy.as_ref().map(|proxy| proxy.url.clone());
        let token_file = config.auth_info.token_file.take().map(PathBuf::from);
        Ok((Self::Pod, Access { config, token_file, proxy, plugin: None }))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(files) => f.write_str(&list(files)),
            Self::Pod => f.write_str("the pod's service account"),
        }
    }
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;

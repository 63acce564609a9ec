//! The cluster a command works on: found as kubectl finds it, reached through one client.
//! `--kubeconfig`, else the files of `KUBECONFIG`, else `~/.kube/config`, else the account of the pod this runs in.

mod error;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

pub use error::Error;

/// An API server that does not take a connection within this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is silent for this long in the middle of an answer is lost. Longer than any watch lasts.
const READ_TIMEOUT: Duration = Duration::from_secs(40);

/// How long the API server keeps one watch open, in seconds. Less than the client's own patience with a silent
/// connection, so that a quiet watch is not taken for a lost one.
pub(crate) const WATCH_SECONDS: u32 = 25;

/// Which cluster: the options of every command that talks to one.
#[derive(Debug, Clone, Default, Args)]
pub struct ClusterArgs {
    /// The kubeconfig to use [default: the files in $KUBECONFIG, then ~/.kube/config, then the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<Utf8PathBuf>,

    /// The context of the kubeconfig to use [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// A cluster that a client was made for. Nothing is sent before the first request.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    server: String,
    source: Source,
}

impl Cluster {
    /// Finds the cluster's configuration and makes a client for it.
    ///
    /// # Errors
    /// When no configuration is found, or it cannot be read or used.
    pub async fn connect(args: &ClusterArgs) -> Result<Self, Error> {
        // Fails only where a provider is installed already, which is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let source = Source::find(args, &Surroundings::of_this_process())?;
        let mut config = source.configuration(args.context.as_deref()).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config)
            .map_err(|error| Error::Unusable { configuration: source.to_string(), source: Box::new(error) })?;
        tracing::info!("using {server} of {source}");
        Ok(Self { client, server, source })
    }

    /// The client; clones share its connections.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The API server's address, `https://HOST:PORT`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What a failed request means: `attempt` says what the request was for, as in "listing pods in vc-manager".
    #[must_use]
    pub fn failed(&self, attempt: impl Into<String>, error: kube::Error) -> Error {
        error::classify(attempt.into(), error, &self.server, &self.source.to_string())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Kubeconfig files, merged: the first that sets a value wins.
    Files(Vec<PathBuf>),
    /// The service account of the pod that this process runs in.
    Pod,
}

/// What the search depends on beside the command line.
struct Surroundings {
    kubeconfig: Option<OsString>,
    home: Option<PathBuf>,
    in_pod: bool,
}

impl Surroundings {
    fn of_this_process() -> Self {
        Self {
            kubeconfig: std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()),
            home: std::env::home_dir(),
            in_pod: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }
}

impl Source {
    fn find(args: &ClusterArgs, around: &Surroundings) -> Result<Self, Error> {
        let missing = |files: Vec<PathBuf>| Error::NoKubeconfig { searched: list(&files) };
        if let Some(file) = &args.kubeconfig {
            let file = file.clone().into_std_path_buf();
            return if file.exists() { Ok(Self::Files(vec![file])) } else { Err(missing(vec![file])) };
        }
        if let Some(list) = &around.kubeconfig {
            // As kubectl, pass over files of the list that do not exist.
            let (there, gone): (Vec<PathBuf>, Vec<PathBuf>) =
                std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()).partition(|path| path.exists());
            return if there.is_empty() { Err(missing(gone)) } else { Ok(Self::Files(there)) };
        }
        let default = around.home.as_deref().unwrap_or(Path::new("/")).join(".kube/config");
        if default.exists() {
            return Ok(Self::Files(vec![default]));
        }
        if around.in_pod { Ok(Self::Pod) } else { Err(missing(vec![default])) }
    }

    async fn configuration(&self, context: Option<&str>) -> Result<Config, Error> {
        let files = match self {
            Self::Pod => {
                return Config::incluster().map_err(|error| Error::Pod { source: Box::new(error) });
            }
            Self::Files(files) => files,
        };
        let bad = |error: KubeconfigError| Error::BadKubeconfig { path: list(files), source: Box::new(error) };
        let kubeconfig = files
            .iter()
            .try_fold(Kubeconfig::default(), |merged, file| merged.merge(Kubeconfig::read_from(file)?))
            .map_err(bad)?;

        let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
        let wanted = context.or(kubeconfig.current_context.as_deref()).filter(|name| !name.is_empty());
        let Some(wanted) = wanted else {
            return Err(Error::NoContext { path: list(files), known: names(&known) });
        };
        if !known.iter().any(|name| name == wanted) {
            let context = wanted.to_owned();
            return Err(Error::NoSuchContext { context, path: list(files), known: names(&known) });
        }
        let options = KubeConfigOptions { context: Some(wanted.to_owned()), ..KubeConfigOptions::default() };
        Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(bad)
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

fn names(known: &[String]) -> String {
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

#[cfg(test)]
mod tests;

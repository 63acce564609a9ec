//! One lock for each cluster: a Lease that a command holds while it changes the cluster, so that two rollouts do not undo each
//! other's work. It is renewed in the background, and no change is sent once it may have expired. Uses [`crate::cluster`].

mod lease;
mod process;

use std::future::Future;
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use miette::Diagnostic;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{self, Begun, Cluster, Fence, is_absent};
use crate::duration::parse_duration;
use lease::{DURATION, State};
use process::Mark;

pub use lease::{Holder, NAME, NAMESPACE};

/// The interval at which it is renewed.
const RENEW: Duration = Duration::from_secs(8);

/// The interval at which a lock that another process holds is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long giving it back may take.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// How long to wait for it: an option of every command that changes a cluster.
#[derive(Debug, Clone, Default, Args)]
pub struct LockArgs {
    /// Wait so long for another vcdist on this cluster [default: fail]
    ///
    /// While a command changes the cluster, it holds the Lease vcdist in the namespace kube-system.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub wait_for_lock: Option<Duration>,
}

/// Why the lock is not held.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The API server does not answer, or refuses.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    /// Another process holds it.
    #[error("locking the cluster: {} holds the lock{}", holder.name, since(holder))]
    #[diagnostic(help(
        "nothing was changed; wait until that command has ended, or give --wait-for-lock TIME. If it does not run any more, its \
         lock (the Lease {NAME} in the namespace {NAMESPACE}) expires by itself in {} s", expires.as_secs_f64().ceil()
    ))]
    Held {
        /// Who.
        holder: Holder,
        /// How long its lock lasts unless it is renewed.
        expires: Duration,
    },

    /// Another process took it while this one worked.
    #[error("this command lost its lock on the cluster and stopped: {now}")]
    #[diagnostic(help(
        "this process was not able to renew the Lease {NAME} in the namespace {NAMESPACE} for {} s, or somebody deleted it. What was \
         applied stays; run the command again once the other one has ended", DURATION.as_secs()
    ))]
    Lost {
        /// What is known of it now.
        now: String,
    },
}

fn since(holder: &Holder) -> String {
    holder.since.map(|since| format!(" since {}", since.strftime("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default()
}

/// The lock of a cluster, held by this process.
#[derive(Debug)]
pub struct Lock<'a> {
    cluster: &'a Cluster,
    mark: Mark,
    lease: Lease,
    fence: Fence,
}

impl<'a> Lock<'a> {
    /// Takes the lock, for the command of this name. If another process holds it, looks again for as long as `args` says.
    /// A lock that was not given back and expired is taken over, which is said.
    ///
    /// # Errors
    /// When another process holds it, or the API server refuses.
    pub async fn acquire(cluster: &'a Cluster, command: &str, args: &LockArgs) -> Result<Self, Error> {
        let (mark, holder) = (Mark::of_this_process(), process::holder(command));
        let deadline = Instant::now() + args.wait_for_lock.unwrap_or_default();
        let mut is_said = false;
        loop {
            let found = read(cluster).await?;
            let state = found.as_ref().map_or(State::Free, |lease| lease::state(lease, &mark, now(cluster)));
            match &state {
                State::Held(holder, expires) if Instant::now() >= deadline => {
                    return Err(Error::Held { holder: holder.clone(), expires: *expires });
                }
                State::Held(holder, _) => {
                    if !std::mem::replace(&mut is_said, true) {
                        vcterminal::say(format_args!(
                            "waiting for {}, which holds the lock on the cluster",
                            holder.name
                        ));
                    }
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                State::Abandoned(..) | State::Ours | State::Free => {}
            }
            let begun = Begun::now(DURATION);
            let wanted = lease::taken(found, &holder, &mark, now(cluster));
            // Another process may be quicker; then it is looked at again.
            if let Some(lease) = write(cluster, &wanted).await? {
                if let State::Abandoned(before, why) = state {
                    let name = before.name;
                    vcterminal::say(format_args!("the lock on the cluster is taken over from {name}: {why}"));
                }
                let fence = Fence::new(begun);
                cluster.set_fence(Some(&fence));
                return Ok(Self { cluster, mark, lease, fence });
            }
        }
    }

    /// Does `work` while the lock is held, and gives it back. If the lock is lost, `work` is stopped where it is. SIGINT and
    /// SIGTERM stop it too, and end this process once the lock is given back.
    ///
    /// # Errors
    /// Those of `work`; and when the lock is lost.
    pub async fn hold<T, E: From<Error>>(self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.hold_until(work, stopped()).await
    }

    /// As [`Self::hold()`], for work that hears signals itself.
    ///
    /// # Errors
    /// Those of `work`; and when the lock is lost.
    pub async fn hold_to_the_end<T, E: From<Error>>(self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.hold_until(work, std::future::pending()).await
    }

    async fn hold_until<T, E: From<Error>>(
        mut self,
        work: impl Future<Output = Result<T, E>>,
        stopped: impl Future<Output = i32>,
    ) -> Result<T, E> {
        let result = tokio::select! {
            result = work => result,
            lost = self.renew() => return Err(lost.into()),
            code = stopped => {
                self.release().await;
                std::process::exit(code);
            }
        };
        self.release().await;
        result
    }

    /// Renews it until it is lost.
    async fn renew(&mut self) -> Error {
        loop {
            tokio::time::sleep(RENEW).await;
            let begun = Begun::now(DURATION);
            match self.renewed().await {
                Ok(Some(lease)) => {
                    self.lease = lease;
                    self.fence.extend(begun);
                }
                Ok(None) => {
                    let found = read(self.cluster).await.ok().flatten();
                    let holder = found.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity);
                    let now = holder.map_or("its Lease is gone".to_owned(), |holder| format!("{holder} holds it now"));
                    return Error::Lost { now };
                }
                // Nothing is changed once it may have expired, and it may still be renewed.
                Err(error) => tracing::warn!("renewing the lock on the cluster: {error}"),
            }
        }
    }

    /// The renewed Lease; nothing if it is not ours any more.
    async fn renewed(&self) -> Result<Option<Lease>, cluster::Error> {
        let now = now(self.cluster);
        if let Some(lease) = write(self.cluster, &lease::renewed(self.lease.clone(), now)).await? {
            return Ok(Some(lease));
        }
        // The answer to an earlier attempt may have been lost, or somebody has written a note on it.
        match read(self.cluster).await? {
            Some(found) if lease::state(&found, &self.mark, now) == State::Ours => {
                write(self.cluster, &lease::renewed(found, now)).await
            }
            _ => Ok(None),
        }
    }

    /// Gives it back: deletes this very Lease. If that fails, the Lease expires by itself.
    async fn release(self) {
        let api = api(self.cluster);
        let delete = async {
            let only = Preconditions { uid: self.lease.metadata.uid.clone(), resource_version: None };
            match api.delete(NAME, &DeleteParams::default().preconditions(only)).await {
                Err(error) if !is_absent(&error) && !is_conflict(&error) => {
                    tracing::warn!("giving the lock on the cluster back: {error}; it expires by itself");
                }
                _ => {}
            }
        };
        if tokio::time::timeout(RELEASE_WITHIN, delete).await.is_err() {
            tracing::warn!("the API server did not take the lock back in time; it expires by itself");
        }
        self.cluster.set_fence(None);
    }
}

async fn read(cluster: &Cluster) -> Result<Option<Lease>, cluster::Error> {
    let found = api(cluster).get_opt(NAME).await;
    found.map_err(|error| cluster.failed("reading the lock on the cluster", error))
}

/// Writes the Lease, unless another process has written it since it was read.
async fn write(cluster: &Cluster, lease: &Lease) -> Result<Option<Lease>, cluster::Error> {
    let api = api(cluster);
    let written = match lease.metadata.resource_version {
        Some(_) => api.replace(NAME, &PostParams::default(), lease).await,
        None => api.create(&PostParams::default(), lease).await,
    };
    match written {
        Ok(lease) => Ok(Some(lease)),
        Err(error) if is_conflict(&error) || is_absent(&error) => Ok(None),
        Err(error) => Err(cluster.failed("locking the cluster", error)),
    }
}

fn api(cluster: &Cluster) -> Api<Lease> {
    Api::namespaced(cluster.unfenced_client(), NAMESPACE)
}

/// Whether another process was quicker.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_conflict() || status.is_already_exists())
}

/// The present time by the API server's clock, so that the clocks of holders need not agree.
fn now(cluster: &Cluster) -> Timestamp {
    cluster.clock().unwrap_or_else(Timestamp::now)
}

/// Waits for a signal to end; its exit code by the convention of shells.
async fn stopped() -> i32 {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
    }
}

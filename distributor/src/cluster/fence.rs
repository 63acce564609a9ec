//! The time until which this process may change the cluster: as long as its lock on the cluster certainly lasts. Uses nothing
//! else of this crate.

use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

/// A period that begins now, by two clocks: the monotonic one stands still while a machine sleeps, the other can be set.
#[derive(Debug, Clone, Copy)]
struct Period {
    begun: Instant,
    begun_by_wall: SystemTime,
    length: Duration,
}

/// Lets changes through for the periods that it is given.
#[derive(Debug)]
pub(crate) struct Fence(watch::Sender<Period>);

/// What a request that changes something waits for.
#[derive(Debug, Clone)]
pub(super) struct Gate(watch::Receiver<Period>);

impl Period {
    fn new(length: Duration) -> Self {
        Self { begun: Instant::now(), begun_by_wall: SystemTime::now(), length }
    }

    /// Whether it lasts. A clock that was set back says that it does not, until the next period.
    fn lasts(&self) -> bool {
        self.begun.elapsed() < self.length && self.begun_by_wall.elapsed().is_ok_and(|elapsed| elapsed < self.length)
    }
}

/// The beginning of a period, which counts only once it is known that the lock lasts that long.
#[derive(Debug)]
pub(crate) struct Begun(Period);

impl Begun {
    /// A period that begins now.
    pub(crate) fn now(length: Duration) -> Self {
        Self(Period::new(length))
    }
}

impl Fence {
    /// A fence that is open for this period.
    pub(crate) fn new(Begun(period): Begun) -> Self {
        Self(watch::Sender::new(period))
    }

    /// Keeps it open for this period too.
    pub(crate) fn extend(&self, Begun(period): Begun) {
        self.0.send_replace(period);
    }

    pub(super) fn gate(&self) -> Gate {
        Gate(self.0.subscribe())
    }
}

impl Gate {
    /// Returns as soon as a period lasts; never if there will be none any more.
    pub(super) async fn pass(mut self) {
        while !self.0.borrow_and_update().lasts() {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;

    use super::{Begun, Fence};

    const LONG: Duration = Duration::from_secs(1000);

    #[tokio::test]
    async fn a_change_passes_while_a_period_lasts_and_waits_for_the_next_one() {
        let fence = Fence::new(Begun::now(LONG));
        assert!(fence.gate().pass().now_or_never().is_some());
        fence.extend(Begun::now(Duration::ZERO));
        let waiting = fence.gate().pass();
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        fence.extend(Begun::now(LONG));
        waiting.await;
        fence.extend(Begun::now(Duration::ZERO));
        let gate = fence.gate();
        drop(fence);
        assert!(gate.pass().now_or_never().is_none(), "nobody will open it again");
    }
}

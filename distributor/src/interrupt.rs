//! The operator's wish to stop: heard by whatever is under way.

use tokio::sync::watch;

/// A wish that may come. Clones hear the same.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

/// Who utters it.
#[derive(Debug)]
pub struct Interrupter(watch::Sender<bool>);

impl Interrupt {
    /// A wish that has not come, and who may utter it.
    #[must_use]
    pub fn new() -> (Interrupter, Self) {
        let (sender, receiver) = watch::channel(false);
        (Interrupter(sender), Self(receiver))
    }

    /// Waits for it; for ever when nobody is left who could utter it.
    pub(crate) async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|wished| *wished).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Interrupter {
    /// Utters it.
    pub fn interrupt(&self) {
        // Nobody may be left to hear it.
        let _ = self.0.send(true);
    }
}

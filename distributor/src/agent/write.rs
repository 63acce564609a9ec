//! Writes one blob to containerd's content store, starting at the first missing byte. The blob is committed only if its
//! size and digest are correct. If the stream is interrupted, what has arrived stays as a partial ingest.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use containerd_client::services::v1::{AbortRequest, WriteAction, WriteContentRequest, WriteContentResponse};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::containerd::{Containerd, found, refused};
use crate::agent::reassembly::{Parts, Piece};
use crate::protocol::proto::{WriteHeader, WriteRequest, WriteResponse};
use crate::protocol::{failure, retry_from_start};

/// How long this push waits for another push that is writing the same blob.
const TURN_WITHIN: Duration = Duration::from_secs(300);

/// The time limit for an interrupted stream to release its ingest.
const LET_GO_WITHIN: Duration = Duration::from_secs(5);

/// The time limit for containerd to write one message to disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

/// The maximum number of messages that containerd has not answered yet.
const UNANSWERED: usize = 3;

/// The blobs that a push has sent so far.
#[derive(Debug, Clone, Default)]
pub(super) struct ReceivedBlobs {
    /// The blobs that are begun and not known to be committed.
    pub(super) begun: BTreeSet<String>,
    /// The blobs that are committed and to which no image refers.
    pub(super) whole: BTreeSet<String>,
    /// The blobs of the images that are finished.
    pub(super) used: BTreeSet<String>,
}

/// [`ReceivedBlobs`], shared by several streams.
#[derive(Debug, Default)]
pub(super) struct ReceiveLog {
    received: Mutex<ReceivedBlobs>,
    /// Read-locked by every stream that writes.
    writing: RwLock<()>,
}

impl ReceiveLog {
    /// Registers a stream that writes. The end of the push waits until the guard is dropped.
    pub(super) async fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.writing.read().await
    }

    /// Returns what has arrived, once no stream writes: after their connection ends, streams still write what they have
    /// received. While the guard is held, no stream starts to write.
    pub(super) async fn settled(&self) -> (Option<RwLockWriteGuard<'_, ()>>, ReceivedBlobs) {
        let settled = timeout(LET_GO_WITHIN, self.writing.write()).await.ok();
        (settled, self.received().clone())
    }

    /// Records that an image of these blobs is finished.
    pub(super) fn finished<'a>(&self, digests: impl Iterator<Item = &'a String>) {
        let mut received = self.received();
        for digest in digests {
            received.whole.remove(digest);
            received.used.insert(digest.clone());
        }
    }

    fn begin(&self, digest: &str) {
        self.received().begun.insert(digest.into());
    }

    fn given_up(&self, digest: &str) {
        self.received().begun.remove(digest);
    }

    fn whole(&self, digest: &str) {
        let mut received = self.received();
        received.begun.remove(digest);
        received.whole.insert(digest.into());
    }

    fn received(&self) -> MutexGuard<'_, ReceivedBlobs> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the name of the ingest for this digest. It is the same for every push, so that a push can continue where
/// another was interrupted.
pub(super) fn ingest_ref(digest: &str) -> String {
    format!("vcdist-{digest}")
}

/// Writes one blob.
pub(super) async fn write(
    containerd: &Containerd,
    log: &ReceiveLog,
    header: &WriteHeader,
    mut parts: Parts<Streaming<WriteRequest>>,
) -> Result<WriteResponse, Status> {
    let name = ingest_ref(&header.digest);
    let Some(mut ingest) = Ingest::open(containerd, header, TURN_WITHIN).await? else {
        return Ok(WriteResponse { already_there: true });
    };
    log.begin(&header.digest);
    let already_there = ingest.offset == header.size && header.offset < header.size;
    if ingest.offset < header.offset {
        return Err(retry_from_start(format!("only {} bytes of blob {} are there", ingest.offset, header.digest)));
    }
    if !already_there {
        let mut position = header.offset;
        while position < header.size {
            match parts.next().await? {
                Some(Piece::Data(data)) => {
                    // containerd may have more bytes than the sender knew; these are skipped.
                    let known = ingest.offset.saturating_sub(position).min(data.len() as u64);
                    position += data.len() as u64;
                    ingest.write(data.slice(usize::try_from(known).unwrap_or(usize::MAX)..).into()).await?;
                }
                Some(Piece::GivenUp) => {
                    ingest.abort(containerd, &name).await?;
                    log.given_up(&header.digest);
                    return Err(Status::aborted(format!("blob {} was given up by its sender", header.digest)));
                }
                None => return Err(Status::cancelled(format!("blob {} did not come to its end", header.digest))),
            }
        }
    }
    ingest.finish(containerd, header).await?;
    log.whole(&header.digest);
    Ok(WriteResponse { already_there })
}

/// Makes containerd keep an unfinished blob without a lease. Opening the ingest outside of a lease makes containerd
/// record an expiry, a day later. Returns false if the blob is already complete: the interruption may have come between
/// its last byte and containerd's answer.
pub(super) async fn leave(unheld: &Containerd, digest: &str) -> Result<bool, Status> {
    let header = WriteHeader { digest: digest.to_owned(), size: 0, ..Default::default() };
    let ingest = Ingest::open(unheld, &header, LET_GO_WITHIN).await?;
    let is_begun = ingest.is_some();
    if let Some(ingest) = ingest {
        ingest.close().await;
    }
    Ok(is_begun)
}

/// The stream that writes a blob to containerd.
struct Ingest {
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    unanswered: usize,
    /// The offset of the next byte.
    offset: u64,
}

impl Ingest {
    /// Opens the blob's ingest; waits while another client has it open. Returns `None` if the blob is already
    /// committed.
    async fn open(containerd: &Containerd, header: &WriteHeader, within: Duration) -> Result<Option<Self>, Status> {
        let deadline = Instant::now() + within;
        loop {
            match Self::try_open(containerd, header).await {
                Ok(ingest) => return Ok(Some(ingest)),
                Err(status) if status.code() == Code::AlreadyExists => return Ok(None),
                Err(status) if is_locked(&status) && Instant::now() < deadline => {
                    sleep(Duration::from_millis(200)).await;
                }
                Err(status) if is_locked(&status) => {
                    return Err(failure(
                        Code::ResourceExhausted,
                        format!("another push has been writing blob {} for {} s", header.digest, within.as_secs()),
                        "wait until it has ended, then push again",
                    ));
                }
                Err(status) => return Err(refused(format_args!("beginning blob {}", header.digest))(status)),
            }
        }
    }

    async fn try_open(containerd: &Containerd, header: &WriteHeader) -> Result<Self, Status> {
        let (requests, queue) = mpsc::channel(UNANSWERED + 1);
        let stat = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: ingest_ref(&header.digest),
            total: i64::try_from(header.size).map_err(|_| Status::invalid_argument("no blob is that large"))?,
            expected: header.digest.clone(),
            ..Default::default()
        };
        requests.send(stat).await.map_err(|_| Status::internal("the queue has just been made"))?;
        let mut answers = containerd.content().write(ReceiverStream::new(queue)).await?.into_inner();
        let answer = answers.message().await?.ok_or_else(|| Status::unavailable("containerd closed the blob"))?;
        let offset = u64::try_from(answer.offset).unwrap_or(0);
        Ok(Self { requests, answers, unanswered: 0, offset })
    }

    async fn write(&mut self, data: Vec<u8>) -> Result<(), Status> {
        if data.is_empty() {
            return Ok(());
        }
        let length = data.len() as u64;
        let request = WriteContentRequest {
            action: WriteAction::Write.into(),
            offset: signed(self.offset),
            data,
            ..Default::default()
        };
        self.send(request).await.map_err(refused("writing a blob"))?;
        self.offset += length;
        Ok(())
    }

    /// Commits the blob. containerd verifies size and digest; a wrong blob is dropped.
    async fn finish(mut self, containerd: &Containerd, header: &WriteHeader) -> Result<(), Status> {
        let request = WriteContentRequest {
            action: WriteAction::Commit.into(),
            offset: signed(self.offset),
            total: signed(header.size),
            expected: header.digest.clone(),
            ..Default::default()
        };
        let mut result = self.send(request).await;
        while result.is_ok() && self.unanswered > 0 {
            result = self.answer().await;
        }
        match result {
            Ok(()) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) if status.code() == Code::FailedPrecondition => {
                self.abort(containerd, &ingest_ref(&header.digest)).await?;
                Err(retry_from_start(format!("blob {} arrived damaged: {}", header.digest, status.message())))
            }
            Err(status) => Err(refused(format_args!("committing blob {}", header.digest))(status)),
        }
    }

    /// Drops the blob and the bytes that arrived.
    async fn abort(self, containerd: &Containerd, name: &str) -> Result<(), Status> {
        self.close().await;
        let answer = containerd.content().abort(AbortRequest { r#ref: name.into() }).await;
        found(answer).map_err(refused("dropping an unfinished blob"))?;
        Ok(())
    }

    /// Closes the stream and waits until containerd has released the ingest.
    async fn close(self) {
        let Self { requests, mut answers, .. } = self;
        drop(requests);
        while let Ok(Ok(Some(_))) = timeout(ANSWER_WITHIN, answers.message()).await {}
    }

    async fn send(&mut self, request: WriteContentRequest) -> Result<(), Status> {
        while self.unanswered >= UNANSWERED {
            self.answer().await?;
        }
        if self.requests.send(request).await.is_err() {
            // containerd ended the stream: its last response contains the reason.
            while self.unanswered > 0 {
                self.answer().await?;
            }
            return Err(Status::unavailable("containerd closed the blob"));
        }
        self.unanswered += 1;
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), Status> {
        let answer = timeout(ANSWER_WITHIN, self.answers.message()).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("containerd does not answer"))?;
        answer?.ok_or_else(|| Status::unavailable("containerd closed the blob"))?;
        self.unanswered -= 1;
        Ok(())
    }
}

fn is_locked(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message().contains("locked")
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_stream_still_writes_when_the_push_ends_is_known() {
        let log = ReceiveLog::default();
        let late = async {
            let _writing = log.writing().await;
            sleep(Duration::from_millis(50)).await;
            log.begin("sha256:late");
        };
        let ((), (settled, received)) = futures::future::join(late, log.settled()).await;
        assert!(received.begun.contains("sha256:late"));
        let mut next = std::pin::pin!(log.writing());
        assert!(timeout(Duration::from_millis(50), &mut next).await.is_err(), "not while the lease is given back");
        drop(settled);
        drop(next.await);
    }
}

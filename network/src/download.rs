//! Downloads blobs into a store: hashed as they arrive, limited to their expected size, and resumed after an
//! interruption.

use std::io::{self, Read, Write};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio_util::bytes::Bytes;
use vcstore::{Blob, Digest, Store};

/// An attempt that transfers at least this many bytes does not count toward the failed attempts.
const WORTH_AN_ATTEMPT: u64 = 1 << 20;

/// The chunk size for reading a blob that is sent, in bytes.
const PIECE: usize = 256 << 10;

/// The content of a blob from an offset on.
pub struct Body {
    /// The offset at which it starts: the requested one, or 0 if the server sends only whole blobs.
    pub start: u64,
    /// The bytes; an error contains the reason for a premature end, in one line.
    pub bytes: BoxStream<'static, Result<Bytes, String>>,
}

/// The limits of a download.
#[derive(Debug, Clone, Copy)]
pub struct Persistence {
    /// The maximum number of consecutive interruptions.
    pub attempts: u32,
    /// How long no data may arrive.
    pub silence: Duration,
    /// Whether exceeding `silence` counts as an interruption; otherwise, it ends the download.
    pub outlast_silence: bool,
}

/// Why a download failed.
#[derive(Debug)]
pub enum Failure<E> {
    /// The request was refused.
    Refused(E),
    /// The transfer was interrupted too often.
    Cut(String),
    /// The content is wrong.
    Lie(String),
    /// The store cannot be written.
    Store(vcstore::Error),
}

/// Downloads a blob into the store, unless the store has it. `open` requests its content from an offset on.
///
/// # Errors
/// Returns a [`Failure`]; the store is then unchanged.
pub async fn download<E>(
    store: &Store,
    blob: Blob,
    persistence: Persistence,
    open: impl AsyncFn(u64) -> Result<Body, E>,
) -> Result<(), Failure<E>> {
    if store.size(&blob.digest) == Some(blob.size) {
        return Ok(());
    }
    let mut writer = store.writer().map_err(Failure::Store)?;
    let mut left = persistence.attempts;
    loop {
        let before = writer.size();
        let mut body = open(before).await.map_err(Failure::Refused)?;
        match body.start {
            start if start == before => {}
            0 => writer = store.writer().map_err(Failure::Store)?,
            start => {
                return Err(Failure::Lie(format!(
                    "it was asked for the bytes after {before}, but sent those after {start}"
                )));
            }
        }
        let cut = loop {
            let bytes = match tokio::time::timeout(persistence.silence, body.bytes.next()).await {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(Some(Err(why))) => break why,
                Ok(None) => break format!("it ends after {} of {} bytes", writer.size(), blob.size),
                Err(_) => {
                    if !persistence.outlast_silence {
                        left = 0;
                    }
                    break format!("no data arrived for {} s", persistence.silence.as_secs());
                }
            };
            if writer.size() + bytes.len() as u64 > blob.size {
                return Err(Failure::Lie(format!("it is longer than the expected {} bytes", blob.size)));
            }
            let path = store.blob_path(&blob.digest);
            writer
                .write_all(&bytes)
                .map_err(|source| Failure::Store(vcstore::Error::Io { attempt: "writing", path, source }))?;
            if writer.size() == blob.size {
                break String::new();
            }
        };
        if writer.size() == blob.size {
            break;
        }
        if left > 0 && writer.size() < before + WORTH_AN_ATTEMPT {
            left -= 1;
        }
        if left == 0 {
            return Err(Failure::Cut(cut));
        }
        tracing::debug!(digest = %blob.digest, at = writer.size(), cut, "resuming");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Syncing to disk takes time, during which other transfers should continue.
    match tokio::task::spawn_blocking(move || writer.commit_expecting(&blob.digest)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(vcstore::Error::DigestMismatch { found, .. })) => Err(Failure::Lie(format!("its content is {found}"))),
        Ok(Err(error)) => Err(Failure::Store(error)),
        Err(error) => Err(Failure::Cut(format!("writing it failed: {error}"))),
    }
}

/// Returns the content of a blob in the store, hashed while it is read: a damaged one ends with an error.
///
/// # Errors
/// Returns an error if the store lacks it.
pub fn upload(
    store: &Store,
    digest: &Digest,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static, vcstore::Error> {
    let reader = store.reader(digest)?;
    Ok(futures::stream::try_unfold(reader, |mut reader| async {
        let piece = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let count = reader.read(&mut piece)?;
            piece.truncate(count);
            Ok::<_, io::Error>((count > 0).then(|| (Bytes::from(piece), reader)))
        });
        piece.await.map_err(io::Error::other)?
    }))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use camino::Utf8PathBuf;
    use futures::StreamExt;
    use proptest::prelude::*;
    use tokio_util::bytes::Bytes;
    use vcstore::{Blob, Digest, Store};

    use super::{Body, Failure, Persistence, download};

    fn scratch() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Utf8PathBuf::try_from(folder.path().join("store")).unwrap()).unwrap();
        (folder, store)
    }

    /// Downloads `expected` from a server that interrupts its responses after these numbers of bytes of `content`.
    fn from(content: &[u8], expected: &[u8], cuts: &[usize], resumes: bool) -> (bool, Result<(), Failure<()>>) {
        let (_folder, store) = scratch();
        let blob = Blob { digest: Digest::of(expected), size: expected.len() as u64 };
        let number = Cell::new(0);
        let open = async |offset: u64| {
            let start = if resumes { usize::try_from(offset).unwrap() } else { 0 };
            let cut = cuts.get(number.get()).copied().unwrap_or(usize::MAX);
            number.set(number.get() + 1);
            let end = content.len().min(start.saturating_add(cut));
            let pieces: Vec<_> = content[start..end].chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            Ok(Body { start: start as u64, bytes: futures::stream::iter(pieces).boxed() })
        };
        let persistence = Persistence { attempts: 3, silence: Duration::from_secs(5), outlast_silence: true };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(download(&store, blob, persistence, open));
        let tmp = walkdir::WalkDir::new(store.path().join("tmp")).into_iter().map(Result::unwrap);
        // The store's records of its users contain the name of the blob, but are not part of it.
        let left =
            tmp.filter(|entry| entry.file_type().is_file() && !entry.path().to_string_lossy().ends_with(".uses"));
        assert_eq!(left.count(), 0, "nothing half done stays");
        (store.contains(&blob.digest), result)
    }

    #[test]
    fn a_cut_download_goes_on_where_it_was_cut() {
        let content: Vec<u8> = (0..100).collect();
        assert!(matches!(from(&content, &content, &[10, 0], true), (true, Ok(()))));
        assert!(matches!(from(&content, &content, &[10], false), (true, Ok(()))), "or from the start again");
        assert!(matches!(from(&content, &content, &[10, 1, 0], true), (false, Err(Failure::Cut(_)))));
    }

    #[test]
    fn what_is_not_the_blob_is_not_taken() {
        let content: Vec<u8> = (0..100).collect();
        let longer = [&content[..], b"more"].concat();
        assert!(matches!(from(&longer, &content, &[], true), (false, Err(Failure::Lie(_)))));
        let other: Vec<u8> = content.iter().rev().copied().collect();
        assert!(matches!(from(&other, &content, &[], true), (false, Err(Failure::Lie(_)))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn wherever_it_is_cut_the_blob_is_whole(size in 1usize..400, cut in 0usize..400) {
            let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let (there, result) = from(&content, &content, &[cut], true);
            prop_assert!(there && result.is_ok());
        }
    }
}

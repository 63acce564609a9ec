//! A cache in a folder on another machine, read and written through the system's ssh. The other machine needs only a
//! shell, `cat`, `wc`, `tail`, `mkdir` and `mv`; ssh determines the login and the host key.

use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio_util::bytes::Bytes;
use vcnetwork::Permit;
use vcnetwork::download::{self, Body};
use vcremote::options;
use vcremote::script::quoted;
use vcstore::path_variable;
use vcstore::{ActionKey, Blob, Digest, Store};

use super::cache::{CacheError, blob_path, record_path, whole};
use crate::BlobPush;

/// The line before the first answer, because a login script may print something before it.
const READY: &str = "vcbuild-cache-1 ready";

/// The maximum output of a login script, in bytes.
const NOISE_LIMIT: u64 = 64 << 10;

/// The buffer size for reading, in bytes.
const PIECE: usize = 128 << 10;

/// A folder on another machine.
#[derive(Debug)]
pub(crate) struct SshCache {
    host: String,
    options: Vec<String>,
    folder: String,
    /// Idle sessions.
    idle: Arc<Mutex<Vec<SshSession>>>,
}

/// A shell on the other machine that answers one request after another.
#[derive(Debug)]
struct SshSession {
    /// Killed when the session is dropped.
    _process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl SshCache {
    pub(super) fn at(
        host: &str,
        user: Option<&str>,
        port: Option<u16>,
        folder: &str,
        timeout: Duration,
        _permit: Permit,
    ) -> Self {
        let within = format!("ConnectTimeout={}", timeout.as_secs().max(1));
        let mut options: Vec<String> =
            options::arguments(options::must()).chain(options::arguments([within])).collect();
        if let Some(file) = path_variable("VCBUILD_SSH_CONFIG") {
            options.extend(["-F".to_owned(), file.into_string()]);
        }
        options.extend(user.into_iter().flat_map(|user| ["-l".to_owned(), user.to_owned()]));
        options.extend(port.into_iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        Self { host: host.to_owned(), options, folder: folder.to_owned(), idle: Arc::default() }
    }

    pub(super) async fn record(&self, key: &ActionKey) -> Result<Vec<u8>, CacheError> {
        whole(self.read(&record_path(key), 0).await?).await
    }

    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Body, CacheError> {
        self.read(&blob_path(digest), offset).await
    }

    pub(super) async fn put_blob(&self, blob: Blob, store: &Store) -> Result<BlobPush, CacheError> {
        let path = blob_path(&blob.digest);
        let (size, session) = self.ask("size", &path, 0).await?;
        self.idle(session);
        if size == Some(blob.size) {
            return Ok(BlobPush::There);
        }
        let content = download::upload(store, &blob.digest).map_err(CacheError::broken)?;
        self.write(&path, blob.size, content).await.map(|()| BlobPush::Uploaded)
    }

    pub(super) async fn put_record(&self, key: &ActionKey, bytes: &[u8]) -> Result<(), CacheError> {
        let content = futures::stream::iter([Ok(Bytes::copy_from_slice(bytes))]);
        self.write(&record_path(key), bytes.len() as u64, content).await
    }

    async fn read(&self, path: &str, offset: u64) -> Result<Body, CacheError> {
        let (size, session) = self.ask("get", path, offset).await?;
        let Some(size) = size else {
            self.idle(session);
            return Err(CacheError::Absent);
        };
        let left = size.saturating_sub(offset);
        let bytes = futures::stream::try_unfold(Some((session, left, self.idle.clone())), next_piece);
        Ok(Body { start: offset, bytes: bytes.boxed() })
    }

    /// Requests a file from a session. Returns its size, or `None` if there is no such file.
    async fn ask(&self, verb: &str, path: &str, offset: u64) -> Result<(Option<u64>, SshSession), CacheError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut session) = idle
            && let Ok(size) = session.size(verb, path, offset).await
        {
            return Ok((size, session));
        }
        // A session that was idle for long may have been closed; a new one may still work.
        let mut session = self.begin().await?;
        Ok((session.size(verb, path, offset).await?, session))
    }

    async fn begin(&self) -> Result<SshSession, CacheError> {
        let folder = quoted(&self.folder);
        let script = format!(
            "cd -- {folder} 2>/dev/null || cd / ; here=$(pwd)\n\
             printf '\\n%s\\n' '{READY}'\n\
             while read -r verb name offset; do\n\
               if [ \"$here\" != / ] && [ -f \"$name\" ]; then\n\
                 size=$(wc -c <\"$name\") || exit 1; echo $((size))\n\
                 if [ \"$verb\" = get ]; then tail -c +$((offset + 1)) -- \"$name\" && printf '\\nend\\n' || exit 1; fi\n\
               else echo -1; fi\n\
             done"
        );
        let mut process =
            self.command(&script).spawn().map_err(|error| CacheError::Broken(format!("running ssh: {error}")))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(CacheError::broken("ssh has no standard input and output"));
        };
        let stdout = BufReader::with_capacity(PIECE, stdout);
        let mut session = SshSession { _process: process, stdin, stdout, stderr };
        let mut seen = 0;
        loop {
            let line = session.line().await?;
            seen += line.len() as u64;
            if line.trim_end() == READY {
                return Ok(session);
            }
            if seen > NOISE_LIMIT {
                return Err(session.failed("its login script prints too much output".to_owned()).await);
            }
        }
    }

    /// Writes a file under a temporary name, and renames it when it is complete.
    async fn write(
        &self,
        path: &str,
        size: u64,
        content: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(), CacheError> {
        let file = quoted(&format!("{}/{path}", self.folder));
        let script = format!(
            "file={file}; new=\"$file.incoming-$$\"; umask 022; mkdir -p -- \"${{file%/*}}\" || exit 1\n\
             cat >\"$new\" && [ \"$(($(wc -c <\"$new\")))\" -eq {size} ] && mv -f -- \"$new\" \"$file\" && exit 0\n\
             rm -f -- \"$new\"; exit 1"
        );
        let mut process =
            self.command(&script).spawn().map_err(|error| CacheError::Broken(format!("running ssh: {error}")))?;
        let mut content = std::pin::pin!(content);
        if let Some(mut stdin) = process.stdin.take() {
            while let Some(piece) = content.next().await {
                // A program that ended early reports the reason itself; a damaged blob must not appear complete.
                if stdin.write_all(&piece.map_err(CacheError::broken)?).await.is_err() {
                    break;
                }
            }
        }
        let ended = process.wait_with_output().await.map_err(CacheError::broken)?;
        if ended.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&ended.stderr);
        Err(CacheError::Broken(format!("writing {path} on the host: {}: {}", ended.status, plain(&stderr))))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(&self.options).arg("--").arg(&self.host).arg(format!("exec sh -c {}", quoted(script)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Keeps a session for the next request.
    fn idle(&self, session: SshSession) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

impl SshSession {
    /// Requests a file. Returns its size, or `None` if there is no such file. The requested content follows in the
    /// stream.
    async fn size(&mut self, verb: &str, path: &str, offset: u64) -> Result<Option<u64>, CacheError> {
        let question = format!("{verb} {path} {offset}\n");
        self.stdin.write_all(question.as_bytes()).await.map_err(CacheError::broken)?;
        let answer = self.line().await?;
        match answer.trim().parse::<i64>() {
            Ok(size) => Ok(u64::try_from(size).ok()),
            Err(_) => Err(self.failed(format!("it answered {:?} instead of a size", answer.trim())).await),
        }
    }

    /// Reads one line, up to the maximum output of a login script.
    async fn line(&mut self) -> Result<String, CacheError> {
        let mut line = Vec::new();
        let read = (&mut self.stdout).take(NOISE_LIMIT).read_until(b'\n', &mut line).await;
        match read {
            Ok(_) if line.ends_with(b"\n") => Ok(String::from_utf8_lossy(&line).into_owned()),
            Ok(_) => Err(self.failed("the connection ended".to_owned()).await),
            Err(error) => Err(self.failed(error.to_string()).await),
        }
    }

    /// Returns the error, including ssh's output.
    async fn failed(&mut self, why: String) -> CacheError {
        let mut stderr = Vec::new();
        let mut rest = (&mut self.stderr).take(4 << 10);
        // A connection that is still open prints nothing.
        let _ = tokio::time::timeout(Duration::from_millis(500), rest.read_to_end(&mut stderr)).await;
        let stderr = plain(&String::from_utf8_lossy(&stderr));
        CacheError::Broken(if stderr.is_empty() { why } else { format!("{why}: {stderr}") })
    }
}

/// The state of a read, or `None` after the end.
type BlobRead = Option<(SshSession, u64, Arc<Mutex<Vec<SshSession>>>)>;

/// Returns the next piece of a file. After the last byte, returns the session to the idle ones, whether or not the
/// caller polls again.
async fn next_piece(reading: BlobRead) -> Result<Option<(Bytes, BlobRead)>, String> {
    let Some((mut session, left, idle)) = reading else { return Ok(None) };
    let mut piece = vec![0; usize::try_from(left).unwrap_or(PIECE).min(PIECE)];
    let count = if left == 0 { 0 } else { session.stdout.read(&mut piece).await.map_err(|error| error.to_string())? };
    if left > 0 && count == 0 {
        return Err("the connection ended".to_owned());
    }
    piece.truncate(count);
    let left = left - count as u64;
    if left > 0 {
        return Ok(Some((Bytes::from(piece), Some((session, left, idle)))));
    }
    let end = [session.line().await, session.line().await];
    if !matches!(&end, [Ok(blank), Ok(end)] if blank == "\n" && end == "end\n") {
        return Err("the file changed while it was read".to_owned());
    }
    idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    Ok((count > 0).then(|| (Bytes::from(piece), None)))
}

/// Formats untrusted text as one line without control characters.
fn plain(text: &str) -> String {
    let line = text.trim().lines().collect::<Vec<_>>().join("; ");
    line.chars().filter(|letter| !letter.is_control()).take(300).collect()
}

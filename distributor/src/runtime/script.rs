//! Runs shell scripts on nodes where no helper runs, and parses their replies. Uses a transport, and the session's
//! check of the machine that answers.

use std::time::Duration;

use miette::Diagnostic;
use prost::bytes::Bytes;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;
use vcremote::script::line_before;

use crate::nodes::Machine;
use crate::protocol::MARK;
use crate::session::{self, check_machine};
use crate::transport::{self, RunningCommand, Transport};

/// Why a script on a node failed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Transport(#[from] transport::Error),
    /// The login user cannot become root.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Session(#[from] session::Error),
    /// The script ended with a failure.
    #[error("working through the node's own programs: {error}")]
    #[diagnostic(help(
        "`ctr version` must work on the node, or `docker version` or `skopeo --version` where it has no containerd, for \
         root or by `sudo -n`; name containerd's socket with --containerd-address if it is elsewhere"
    ))]
    Failed {
        /// The replies before the failure.
        replies: Vec<String>,
        /// How it ended.
        error: transport::Error,
    },
    /// The script ended early and reported nothing.
    #[error("the shell of {destination} ended before its work was done")]
    #[diagnostic(help("try again; what a push has sent is kept and not sent twice"))]
    Cut {
        /// The destination of the connection.
        destination: String,
    },
    /// The script exceeded its time limit.
    #[error("{destination} does not answer in time")]
    #[diagnostic(help(
        "see on the node whether its runtime answers (`ctr version`, `docker version`), then push again"
    ))]
    Slow {
        /// The destination of the connection.
        destination: String,
    },
    /// The replies cannot be parsed.
    #[error("the node's programs answer in a way that is not understood")]
    #[diagnostic(help(
        "push with the helper (--helper auto) where the node has containerd, or report what `ctr content ls`, `docker image \
         ls` or `podman image ls` prints there"
    ))]
    Answers,
    /// A blob of the store cannot be read.
    #[error("reading the images from the store")]
    #[diagnostic(help("build or import the image again (`vcbuild images`), then push"))]
    Store(#[source] std::io::Error),
}

/// The limit of a script's output, in bytes. A node with ten thousand blobs needs less.
const ANSWER: u64 = 32 << 20;

/// The time limit for a node to read one chunk of input.
const CHUNK_WITHIN: Duration = Duration::from_secs(300);

/// The beginning of every script: the function `say` sends a reply, and `$as` runs a command as root.
const PROLOGUE: &str = concat!(
    "umask 077; as=; [ \"$(id -u)\" = 0 ] || as=\"sudo -n\"\n",
    "[ -z \"$as\" ] || command -v sudo >/dev/null || { say no-sudo; exit 1; }\n",
    "w=$($as true 2>&1) || { say \"no-root $(echo \"$w\" | tail -n 1)\"; exit 1; }\n",
);

/// The reply that ends a complete script.
pub(crate) const END: &str = "end";

/// A chunk of a script's input, or `None` if the source of the input failed.
pub(crate) type InputChunk = Option<Bytes>;

/// Runs `script` to its end and returns its replies. A script replies with `say WORDS`; lines that it prints afterwards
/// belong to that reply. `input` is written to the script's stdin, after the script itself.
pub(crate) async fn run(
    transport: &dyn Transport,
    script: &str,
    mut input: Option<mpsc::Receiver<InputChunk>>,
    within: Duration,
) -> Result<Vec<ScriptReply>, Error> {
    let script = format!("say() {{ echo \"{MARK}$1\"; }}\n{}\n{PROLOGUE}{script}\nsay {END}\n", Machine::SAY);
    let RunningCommand { stream, ending } = transport.run(&line_before(&script)).await?;
    let (reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        // If the stream breaks, the reading side reports it.
        if writer.write_all(script.as_bytes()).await.is_err() || writer.flush().await.is_err() {
            return Ok(());
        }
        while let Some(chunk) = receive(&mut input).await {
            // Without its end, the input is invalid: dropping the connection tells the node.
            let Some(chunk) = chunk else { return Err(Error::Cut { destination: transport.destination().to_owned() }) };
            let Ok(written) = timeout(CHUNK_WITHIN, writer.write_all(&chunk)).await else {
                return Err(Error::Slow { destination: transport.destination().to_owned() });
            };
            if written.is_err() {
                return Ok(());
            }
        }
        // As above.
        let _ = writer.flush().await;
        Ok(())
    };
    let reading = async {
        let mut lines = BufReader::new(reader.take(ANSWER));
        let mut replies = Vec::new();
        let mut line = Vec::new();
        while let Ok(1..) = lines.read_until(b'\n', &mut line).await {
            take(&mut replies, String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        Ok(replies)
    };
    let both = async { futures::try_join!(writing, reading) };
    let Ok(both) = timeout(within, both).await else {
        return Err(Error::Slow { destination: transport.destination().to_owned() });
    };
    let ((), mut replies) = both?;
    drop(writer);
    let identity = |reply: &ScriptReply| reply.label.strip_prefix(Machine::WORD).map(Machine::read);
    if let Some(machine) = replies.first().and_then(identity) {
        check_machine(transport, &machine)?;
        replies.remove(0);
    }
    match replies.last() {
        Some(last) if last.label == END => {
            replies.pop();
            // It said that all was done; how the shell around it ended is no concern here.
            let _ = ending.await;
            Ok(replies)
        }
        Some(last) if last.label == "no-sudo" => Err(session::Error::NoSudo.into()),
        Some(ScriptReply { label, .. }) if label.starts_with("no-root") => {
            Err(session::Error::Sudo { message: label.trim_start_matches("no-root").trim().to_owned() }.into())
        }
        _ => match ending.await {
            Err(error @ transport::Error::Command { .. }) => {
                Err(Error::Failed { replies: replies.iter().map(|reply| reply.label.clone()).collect(), error })
            }
            // Not the command failed, but the connection to it.
            Err(error) => Err(error.into()),
            Ok(()) => Err(Error::Cut { destination: transport.destination().to_owned() }),
        },
    }
}

/// A reply of a script, and the lines that the script printed after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ScriptReply {
    pub(crate) label: String,
    pub(crate) lines: Vec<String>,
}

async fn receive(input: &mut Option<mpsc::Receiver<InputChunk>>) -> Option<InputChunk> {
    match input {
        Some(input) => input.recv().await,
        None => None,
    }
}

/// Adds a line of output. Lines before the first reply come from the login shell.
fn take(replies: &mut Vec<ScriptReply>, line: &str) {
    match (line.rsplit_once(MARK), replies.last_mut()) {
        (Some((_, label)), _) => replies.push(ScriptReply { label: label.to_owned(), lines: Vec::new() }),
        (None, Some(last)) => last.lines.push(line.to_owned()),
        (None, None) => {}
    }
}

/// Parses the replies in this output.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse_replies(bytes: &[u8]) -> Vec<ScriptReply> {
    let mut replies = Vec::new();
    String::from_utf8_lossy(bytes).lines().for_each(|line| take(&mut replies, line.trim_end()));
    replies
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::BoxFuture;

    use super::{Error, ScriptReply, run};
    use crate::nodes::Machine;
    use crate::transport::{self, Local, RunningCommand, Transport};

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn what_a_script_says_and_prints_comes_back() {
        let (chunks, input) = tokio::sync::mpsc::channel(2);
        chunks.send(Some("hello".into())).await.expect("a queue");
        chunks.send(Some(" world".into())).await.expect("a queue");
        drop(chunks);
        let script = "say 'one two'; head -c 11; echo; say three";
        let replies = run(&Local, script, Some(input), SOON).await.expect("an answer");
        let expected = [("one two", vec!["hello world".to_owned()]), ("three", vec![])];
        assert_eq!(replies, expected.map(|(label, lines)| ScriptReply { label: label.into(), lines }));
    }

    /// A transport to this machine that expects a different one.
    #[derive(Debug)]
    struct WrongMachine(Machine);

    impl Transport for WrongMachine {
        fn destination(&self) -> &str {
            "root@w1"
        }

        fn expects(&self) -> Option<(&str, &Machine)> {
            Some(("w2", &self.0))
        }

        fn run<'a>(&'a self, command: &'a str) -> BoxFuture<'a, Result<RunningCommand, transport::Error>> {
            Local.run(command)
        }

        fn apart(&self) -> Option<Box<dyn Transport>> {
            None
        }
    }

    #[tokio::test]
    async fn what_another_machine_than_the_node_answers_counts_for_nothing() {
        let known = std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| id.trim().len() == 32);
        let node = WrongMachine(Machine { machine_id: "1b".repeat(16), boot_id: "2c".repeat(16) });
        match run(&node, "say one", None, SOON).await {
            Err(error) => assert!(error.to_string().contains("is not the node w2"), "{error}"),
            Ok(replies) => assert!(!known && replies.len() == 1, "another machine was taken for the node"),
        }
    }

    #[tokio::test]
    async fn a_script_that_fails_is_told_with_its_words() {
        let error = run(&Local, "say one; echo why >&2; exit 7", None, SOON).await.expect_err("it fails");
        let Error::Failed { replies, error } = error else { panic!("{error:?}") };
        assert_eq!(
            (replies, error.to_string()),
            (vec!["one".into()], "the command on this machine ended with 7: why".into())
        );
    }

    #[tokio::test]
    async fn a_script_that_does_not_end_is_given_up() {
        let error = run(&Local, "sleep 30", None, Duration::from_millis(200)).await.expect_err("it hangs");
        assert!(matches!(error, Error::Slow { .. }), "{error:?}");
    }
}

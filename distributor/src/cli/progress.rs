//! What people see of a push under way: on a terminal a bar for each node and one for all, else a line for each event.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vcterminal::Output;

use crate::nodes::Node;
use crate::push::{Event, Sent};
use crate::transport::Keyring;

/// How often bars are drawn anew.
const EVERY: Duration = Duration::from_millis(200);

/// A bar's line: whose, how far, how much, how fast, how long yet, what was said last.
const LINE: &str = "{prefix:<20!} {bar:24} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4} {msg}";

/// What is shown.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    /// Nothing: programs read what is printed.
    Silent,
    /// A line for each event.
    Lines,
    /// Bars.
    Bars(Bars),
}

/// The bars. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    nodes: Arc<Mutex<BTreeMap<String, Bar>>>,
}

#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    sent: Option<Arc<Sent>>,
    /// What had gone before this bar began: a push that goes on counts on.
    before: u64,
    length: u64,
}

impl Progress {
    /// What suits stderr.
    pub(super) fn new(output: Output) -> Self {
        match output {
            Output::Json => Self::Silent,
            Output::Text if std::io::stderr().is_terminal() => Self::Bars(Bars::new()),
            Output::Text => Self::Lines,
        }
    }

    /// Shows what happens on a node.
    pub(super) fn show(&self, node: &Node, event: Event<'_>) {
        match self {
            Self::Silent => {}
            Self::Lines => {
                if let Some(words) = words(event) {
                    eprintln!("{}: {words}", node.name);
                }
            }
            Self::Bars(bars) => bars.show(&node.name, event),
        }
    }

    /// Who asks for passphrases: on a terminal with bars, these go out of the way first.
    pub(super) fn keyring(&self) -> Keyring {
        let Self::Bars(Bars { all, .. }) = self else { return Keyring::default() };
        let all = all.clone();
        Keyring::asking(move |words| {
            // That nothing can be cleared is no reason not to ask.
            let _ = all.clear();
            all.set_draw_target(ProgressDrawTarget::hidden());
            let answer = rpassword::prompt_password(words);
            all.set_draw_target(ProgressDrawTarget::stderr());
            answer
        })
    }

    /// Draws bars anew for as long as it is polled.
    pub(super) async fn draw(&self) -> Infallible {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Self::Bars(bars) = self {
                bars.draw();
            }
        }
    }

    /// Leaves the terminal to others.
    pub(super) fn end(&self) {
        if let Self::Bars(bars) = self {
            bars.draw();
            bars.total.finish();
        }
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let total = all.add(bar("all nodes"));
        Self { all, total, nodes: Arc::default() }
    }

    fn show(&self, node: &str, event: Event<'_>) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let this = nodes.entry(node.to_owned()).or_insert_with(|| Bar {
            bar: self.all.insert_before(&self.total, bar(node)),
            sent: None,
            before: 0,
            length: 0,
        });
        if let Event::Sending { bytes, sent, .. } = event {
            *this = Bar { bar: this.bar.clone(), sent: Some(Arc::clone(sent)), before: sent.bytes(), length: bytes };
            this.bar.set_length(bytes);
            self.total.set_length(nodes.values().map(|bar| bar.length).sum());
        }
        let Some(this) = nodes.get(node) else { return };
        match (event, words(event)) {
            (Event::Ended { .. }, Some(words)) => this.bar.finish_with_message(words),
            (_, Some(words)) => this.bar.set_message(words),
            (_, None) => {}
        }
    }

    fn draw(&self) {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut total = 0;
        for bar in nodes.values() {
            let gone = bar.sent.as_ref().map_or(0, |sent| sent.bytes() - bar.before).min(bar.length);
            bar.bar.set_position(gone);
            total += gone;
        }
        self.total.set_position(total);
    }
}

fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_prefix(name.to_owned())
}

/// An event in words, where it is worth any.
pub(super) fn words(event: Event<'_>) -> Option<String> {
    Some(match event {
        Event::Sending { blobs: 0, .. } => "has every blob; finishing the images".to_owned(),
        Event::Sending { blobs, bytes, total, .. } => {
            format!("sending {blobs} blobs, {} of {}", vcterminal::bytes(bytes), vcterminal::bytes(total))
        }
        Event::WithoutHelper { why } => format!("{why}; working through its ctr"),
        Event::Retrying { why, pause } => format!("{why}; going on in {}", vcterminal::duration(pause)),
        Event::Finished { image, unpacked } => format!("{image} is complete ({unpacked} layers unpacked)"),
        Event::Ended { succeeded: true } => "done".to_owned(),
        Event::Ended { succeeded: false } => "failed".to_owned(),
    })
}

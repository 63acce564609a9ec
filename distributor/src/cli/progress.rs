//! The display of a running push: on a terminal, a bar for each node and one for all; otherwise, a line for each event.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vcterminal::{Live, Output};

use crate::nodes::Node;
use crate::runtime::{Event, SentCounter};

/// The interval at which bars are redrawn.
const EVERY: Duration = Duration::from_millis(200);

/// The kind of display.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    /// Nothing, because a program reads the output.
    Silent,
    /// A line for each event.
    Log,
    /// Bars.
    Bars(Bars),
}

/// The bars. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Bars {
    live: Live,
    total: vcterminal::Bar,
    nodes: Arc<Mutex<BTreeMap<String, Bar>>>,
}

#[derive(Debug)]
struct Bar {
    bar: vcterminal::Bar,
    sent: Option<Arc<SentCounter>>,
    /// The number of bytes sent before this bar began, because the counter continues after a retry.
    before: u64,
    length: u64,
}

impl Progress {
    /// Chooses the display for stderr.
    pub(super) fn new(output: Output) -> Self {
        match output {
            Output::Json => Self::Silent,
            Output::Text => Live::on_stderr().map_or(Self::Log, |live| Self::Bars(Bars::new(live))),
        }
    }

    /// Displays an event of a node.
    pub(super) fn show(&self, node: &Node, event: Event<'_>) {
        match self {
            Self::Silent => {}
            Self::Log => {
                if let Some(text) = describe(event) {
                    vcterminal::say(format_args!("{}: {text}", node.name));
                }
            }
            Self::Bars(bars) => bars.show(&node.name, event),
        }
    }

    /// Redraws the bars for as long as it is polled.
    pub(super) async fn draw(&self) -> Infallible {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Self::Bars(bars) = self {
                bars.draw();
            }
        }
    }

    /// Ends the display, so that others can use the terminal.
    pub(super) fn end(&self) {
        if let Self::Bars(bars) = self {
            bars.draw();
            bars.total.finish(None);
        }
    }
}

impl Bars {
    fn new(live: Live) -> Self {
        let total = live.bar("all nodes", None);
        Self { live, total, nodes: Arc::default() }
    }

    fn show(&self, node: &str, event: Event<'_>) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let this = nodes.entry(node.to_owned()).or_insert_with(|| Bar {
            bar: self.live.bar(node, Some(&self.total)),
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
        match (event, describe(event)) {
            (Event::Ended { .. }, Some(text)) => this.bar.finish(Some(&text)),
            (_, Some(text)) => this.bar.say(&text),
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

/// Describes an event, if it is worth a line.
pub(super) fn describe(event: Event<'_>) -> Option<String> {
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

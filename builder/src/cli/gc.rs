//! `vcbuild gc`: garbage collection of the store.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use vcstore::{Busy, Collected, Keep, Store};
use vcterminal::{Exit, Text, say};

use super::Common;
use crate::Error;

/// The maximum time to wait for builds that use a cache.
const WAIT_LIMIT: Duration = Duration::from_secs(60 * 60);

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild gc --dry-run
  vcbuild gc --max-size 20GiB --caches";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Remove actions not used for so long: 90m, 12h, 3d, 2w
    ///
    /// Named images, roots and the data of running builds remain.
    #[arg(long, value_name = "AGE", default_value = "14d", value_parser = parse_age)]
    older_than: Duration,

    /// Remove the least recently used until the store is that small
    ///
    /// A number and kB, MB, GB, TB, KiB, MiB, GiB or TiB.
    #[arg(long, value_name = "SIZE", value_parser = vcterminal::parse_bytes)]
    max_size: Option<u64>,

    /// Also remove unused caches of compilers, by the same rules
    #[arg(long)]
    caches: bool,

    /// Skip a cache that a build uses, instead of waiting for the build
    #[arg(long, requires = "caches")]
    no_wait: bool,

    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    common: Common,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document {
    dry_run: bool,
    /// All that was freed.
    bytes: u64,
    #[serde(flatten)]
    collected: Collected,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let store = arguments.common.existing_store()?;
    let (used_within, max_size) = (arguments.older_than, arguments.max_size);
    let keep = Keep { used_within, max_size, caches: arguments.caches };
    let mut collected = store.gc(&keep, arguments.dry_run)?;
    if !arguments.dry_run && !arguments.no_wait {
        wait_for_caches(&store, &keep, &mut collected)?;
    }
    for Busy { name, processes } in &collected.busy {
        say(format_args!("keeping the cache {name}: in use by {}", list(processes)));
    }
    if let Some(limit) = max_size.filter(|limit| collected.kept.bytes > *limit) {
        let (kept, limit) = (vcterminal::bytes(collected.kept.bytes), vcterminal::bytes(limit));
        say(format_args!(
            "images, roots and running builds use {kept}, more than {limit}: `vcbuild store untag` releases an image"
        ));
    }
    let document = Document { dry_run: arguments.dry_run, bytes: collected.bytes(), collected };
    super::show(arguments.common.output, &document, text)?;
    Ok(Exit::Done)
}

/// Collects again until no cache that should go is in use.
fn wait_for_caches(store: &Store, keep: &Keep, collected: &mut Collected) -> Result<(), Error> {
    let deadline = Instant::now() + WAIT_LIMIT;
    let mut pause = Duration::from_millis(250);
    let mut said = None;
    while !collected.busy.is_empty() && Instant::now() < deadline {
        if said.as_ref() != Some(&collected.busy) {
            for Busy { name, processes } in &collected.busy {
                say(format_args!(
                    "waiting for {} to finish using the cache {name} (--no-wait skips it)",
                    list(processes)
                ));
            }
            said = Some(collected.busy.clone());
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(15));
        collected.then(store.gc(keep, false)?);
    }
    Ok(())
}

fn list(processes: &std::collections::BTreeSet<u32>) -> String {
    let numbers: Vec<String> = processes.iter().map(ToString::to_string).collect();
    match numbers.as_slice() {
        [one] => format!("process {one}"),
        many => format!("processes {}", many.join(", ")),
    }
}

fn text(document: &Document) -> Text {
    let Document { dry_run, bytes, collected } = document;
    let (remove, free) = if *dry_run { ("would remove", "would free") } else { ("removed", "freed") };
    let size = vcterminal::bytes;
    let mut text = Text::default();
    if collected.blobs.count > 0 || collected.actions > 0 {
        let (blobs, actions) = (collected.blobs, collected.actions);
        let (count, size) = (blobs.count, size(blobs.bytes));
        text.line(format_args!("{remove} {count} blobs, {size}, and the records of {actions} actions"));
    }
    for cache in &collected.caches {
        text.line(format_args!("{remove} the cache {}, {}", cache.name, size(cache.bytes)));
    }
    if collected.temporary.count > 0 {
        text.line(format_args!("{remove} temporary files of interrupted builds, {}", size(collected.temporary.bytes)));
    }
    if collected.quarantined.count > 0 {
        let (count, size) = (collected.quarantined.count, size(collected.quarantined.bytes));
        text.line(format_args!("{remove} {count} damaged files that were moved aside, {size}"));
    }
    let kept = collected.kept;
    text.line(format_args!("{free} {}; {} blobs, {}, remain", size(*bytes), kept.count, size(kept.bytes)));
    text
}

fn parse_age(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60), ("w", 7 * 24 * 60 * 60)];
    vcterminal::parse_number(text, &units)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not an age such as 12h or 14d"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse_age;

    #[test]
    fn ages_have_a_unit() {
        for (text, seconds) in [("0s", 0), ("90m", 5_400), ("14d", 1_209_600), ("2w", 1_209_600)] {
            assert_eq!(parse_age(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "d", "14", "-1d", "1.5d", "14 days", "99999999999999999999s", "99999999999999999w"] {
            assert!(parse_age(bad).is_err(), "{bad:?} must be refused");
        }
    }
}

//! Hostile input for readers: the corpus of a fuzz target (`fuzz/corpus/TARGET`), changed in the ways that find defects in readers.
//!
//! `cargo xtask fuzz TARGET` gives a reader what a fuzzer makes of the same corpus, led by what it reaches in the code; this does
//! without one, for a moment, in every run of the tests. `HOSTILE_SECONDS` says for how long a reader is tried (one second by
//! default), and `HOSTILE_SEED` repeats the run of the number that a failed one printed.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "test code: a panic is a failed test")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The longest that reading one small input may take, on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(20);

/// The largest input.
const LARGEST: usize = 64 << 10;

/// Numbers and words that readers trip over.
const ODD: [&str; 14] = [
    "0",
    "-1",
    "18446744073709551616",
    "9999999999999999",
    "\0",
    "\n\n",
    "../",
    "/",
    "\u{202e}",
    "é",
    "%",
    "{{",
    "\t",
    "*",
];

/// Gives `read` the corpus of a target as it is, and then changed, until its time is over. What `read` says of an input is its own
/// affair; that it ends, soon and without a panic, is checked here.
///
/// # Panics
/// When `read` does; the input is kept then. When it takes too long, the whole process ends.
pub fn hostile(target: &str, read: impl Fn(&[u8])) {
    let seeds = corpus(target);
    assert!(!seeds.is_empty(), "fuzz/corpus/{target} is empty");
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("HOSTILE_SEED").unwrap_or_else(rand::random);
    let keep = |input: &[u8]| {
        let kept = std::env::temp_dir().join(format!("hostile-{target}-{seed}"));
        fs::write(&kept, input).unwrap();
        eprintln!("{target}: HOSTILE_SEED={seed}, the input is kept as {}", kept.display());
    };
    let (begun, inputs) = mpsc::channel::<Vec<u8>>();
    thread::scope(|scope| {
        scope.spawn(move || watch(target, &inputs, keep));
        let give = |input: &[u8]| {
            begun.send(input.to_vec()).unwrap();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| read(input))) {
                keep(input);
                resume_unwind(panic);
            }
        };
        let mut random = StdRng::seed_from_u64(seed);
        let end = Instant::now() + Duration::from_secs(number("HOSTILE_SECONDS").unwrap_or(1));
        seeds.iter().for_each(|input| give(input));
        while Instant::now() < end {
            let mut input = seeds[random.gen_range(0..seeds.len())].clone();
            for _ in 0..random.gen_range(1..5) {
                change(&mut input, &seeds, &mut random);
            }
            give(&input);
        }
        drop(begun);
    });
}

/// Ends the process when the next input does not come in time: nothing stops a reader that never ends, and a test that hangs until
/// the limit of the whole run names no input.
fn watch(target: &str, inputs: &Receiver<Vec<u8>>, keep: impl Fn(&[u8])) {
    let mut current = Vec::new();
    loop {
        match inputs.recv_timeout(LIMIT) {
            Ok(next) => current = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                keep(&current);
                eprintln!("{target}: reading this input did not end within {LIMIT:?}");
                std::process::abort();
            }
        }
    }
}

/// The inputs of a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = folder.read_dir_utf8().unwrap().map(|file| file.unwrap().into_path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// One change.
fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut StdRng) {
    let at = random.gen_range(0..=input.len());
    let length = random.gen_range(0..=(input.len() - at).min(64));
    match random.gen_range(0..9) {
        0 if at < input.len() => input[at] ^= 1 << random.gen_range(0..8),
        1 if at < input.len() => input[at] = random.r#gen(),
        2 => drop(input.drain(at..at + length)),
        3 => {
            let piece = input[at..at + length].to_vec();
            let to = random.gen_range(0..=input.len());
            drop(input.splice(to..to, piece));
        }
        4 => input.truncate(at),
        5 => {
            let odd = ODD[random.gen_range(0..ODD.len())].as_bytes();
            drop(input.splice(at..at + length.min(8), odd.iter().copied()));
        }
        6 => {
            let other = &seeds[random.gen_range(0..seeds.len())];
            let from = random.gen_range(0..=other.len());
            drop(input.splice(at.., other[from..].iter().copied()));
        }
        7 => {
            // Deep nesting and long runs.
            let piece = input[at..at + length.min(4)].to_vec();
            let many = piece.repeat(random.gen_range(1..2000));
            drop(input.splice(at..at, many));
        }
        _ => input.push(random.r#gen()),
    }
    input.truncate(LARGEST);
}

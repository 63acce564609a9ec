//! How much memory a build takes beside its compilers: no layer, archive or package is ever held whole.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rigs::{Run, process};

use crate::bench::{Actions, Bench, copy};

/// In bytes: the goal is 64 MiB, of which the pages of the program's own file take 12 as it is released. They are the kernel's
/// to drop, and three times as many as it is compiled for tests, so they are not measured here.
const LIMIT: u64 = (64 - 12) << 20;

#[test]
fn three_components_on_debian_take_little_memory_once_they_are_compiled() {
    let bench = Bench::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/virtualcluster"), &bench.path("source"));
    let build = ["images", "--source-dir", "source", "--lock", "vcbuild.lock", "--base"];
    let compiled = Run::of(&mut bench.vcbuild(&[&build[..], &["scratch"]].concat()));
    assert_eq!((compiled.code, compiled.ran("compile")), (Some(0), 3), "{compiled:?}");

    // The base is chosen and made of packages, then made of the same for another encoder, then taken as it is; all layers are
    // made anew each time.
    for (epoch, compression, bases) in [("1", "zstd", 1), ("2", "gzip", 1), ("3", "zstd", 0)] {
        let mut command = bench.vcbuild(&[&build[..], &["debian", "--compression", compression]].concat());
        let log = bench.path("log");
        command.env("SOURCE_DATE_EPOCH", epoch).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
        let peak = peak(&mut command.spawn().unwrap());
        let log = fs::read_to_string(log).unwrap();
        let ran = |kind: &str| log.lines().filter(|line| line.split_whitespace().next() == Some(kind)).count();
        assert_eq!((ran("compile"), ran("base"), ran("layer")), (0, bases, 3), "{log}");
        println!("{compression}: {} MiB at most", peak >> 20);
        assert!(peak > 1 << 20, "nothing was measured");
        assert!(peak < LIMIT, "{compression}: {} MiB", peak >> 20);
    }
}

#[test]
fn what_a_command_prints_is_not_held() {
    let bench = Bench::new();
    let script = "head -c 500M /dev/zero; echo done > x";
    bench.write(
        "vcbuild.toml",
        &format!(
            "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = {{ \"/x\" = \"x\" }}\n\
             command = [\"sh\", \"-c\", \"{script}\"]\n"
        ),
    );
    let mut command = bench.vcbuild(&["images"]);
    let peak = peak(&mut command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    assert!(peak > 1 << 20, "nothing was measured");
    assert!(peak < LIMIT, "{} MiB", peak >> 20);
}

/// The most memory that a program has of its own, in bytes: the kernel is asked again and again until the program ends.
fn peak(child: &mut Child) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(600);
    let mut peak = 0;
    loop {
        let bytes = |name: &str| process::memory(child.id(), name).unwrap_or_default();
        peak = peak.max(bytes("RssAnon") + bytes("RssShmem"));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return peak;
        }
        assert!(Instant::now() < deadline, "the build does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

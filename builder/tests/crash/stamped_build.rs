//! A small project that every stamp makes other images of, and what they must be.

use std::path::Path;
use std::process::Command;

use camino::Utf8PathBuf;
use rigs::Run;
use vcstore::Store;

use crate::bench::{Bench, digests};

/// A bench that has built the project once: Go's caches are warm.
pub(crate) fn warm() -> Bench {
    let bench = Bench::with_hello();
    let run = Run::of(&mut Build { stamp: 0, epoch: 0 }.command(&bench, "out"));
    assert_eq!(run.code, Some(0), "{run:?}");
    bench
}

/// What makes a build another one than the last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Build {
    /// Another stamp has the programs linked again.
    pub(crate) stamp: u32,
    /// Another time has everything made again of the programs that there are.
    pub(crate) epoch: u32,
}

impl Build {
    pub(crate) fn command(self, bench: &Bench, out: &str) -> Command {
        let stamp = format!("version=v{}", self.stamp);
        let arguments = ["images", "--source-dir", "hello", "--output", "json", "--stamp", &stamp, "--out", out];
        let mut command = bench.vcbuild(&arguments);
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        command
    }

    /// Builds in the bench's store and checks that the images are those of a store that nothing ever disturbed.
    pub(crate) fn is_as_undisturbed(self, bench: &Bench, undisturbed: &Bench, out: &str) {
        let [here, there] = [bench, undisturbed].map(|bench| Run::of(&mut self.command(bench, out)).json());
        assert_eq!(digests(&here), digests(&there), "{self:?}");
        for archive in ["one-amd64.tar", "two-amd64.tar"] {
            assert!(imports(&bench.path(out).join(archive)), "{archive} of {self:?}");
        }
    }
}

/// Whether the archive is whole.
fn imports(archive: &Path) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Utf8PathBuf::try_from(folder.path().to_owned()).unwrap()).unwrap();
    vcstore::archive::import(&store, &Utf8PathBuf::try_from(archive.to_owned()).unwrap()).is_ok()
}

/// Checks that nothing in the store is damaged and every named image is whole.
#[track_caller]
pub(crate) fn is_sound(bench: &Bench, when: &str) {
    let store = Store::open(&Utf8PathBuf::try_from(bench.path("store")).unwrap()).unwrap();
    let verified = store.verify().unwrap();
    assert!(verified.passed(), "{when}: {verified:?}");
}

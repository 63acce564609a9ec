//! Decides which sources may share Cargo's output. Code of a source may run during compilation: a build script or a
//! macro can write anything to Cargo's folder, and Cargo would reuse it as its own output, for other sources too.

use serde::Serialize;
use vcsandbox::plain;

use super::workspace::MANIFEST;
use crate::file_manifest::FileManifest;
use crate::source::FileHash;

/// The build script that Cargo runs by default.
const SCRIPT: &str = "build.rs";

/// The prefixes of environment variables that determine which programs Cargo, or a program that it runs, executes.
const STEERING: [&str; 8] = ["CARGO", "RUST", "CC", "CXX", "AR", "LD", "PATH", "PROTO"];

/// The properties that sources must have in common to reuse each other's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Trust {
    /// The hash of the files that determine what is compiled, and how: the lock, the manifests, the settings.
    pub(super) settings: FileHash,
    /// The hash of the whole source, if its own code runs during compilation: no other source may share its output.
    whole: Option<FileHash>,
}

impl Trust {
    /// Returns the trust of a source with these files, compiled with these flags and variables.
    ///
    /// # Errors
    /// When a manifest cannot be read.
    pub(super) fn of(
        source_files: &FileManifest,
        flags: &[String],
        environment: &[(String, String)],
    ) -> Result<Self, crate::Error> {
        let runs = flags.iter().any(|flag| steers(flag))
            || environment.iter().any(|(name, value)| {
                value.contains('/') || STEERING.iter().any(|steering| name.to_uppercase().starts_with(steering))
            })
            || runs_code(source_files)?;
        let whole = runs.then(|| source_files.hash());
        Ok(Self { settings: source_files.only(is_setting).hash(), whole })
    }

    /// Returns whether code of the source runs during compilation.
    pub(super) fn runs_code(&self) -> bool {
        self.whole.is_some()
    }
}

/// Returns whether a file determines what is compiled, or how.
pub(super) fn is_setting(path: &camino::Utf8Path) -> bool {
    let in_settings = path.parent().and_then(camino::Utf8Path::file_name) == Some(".cargo");
    matches!(path.file_name(), Some(MANIFEST | "Cargo.lock" | "rust-toolchain" | "rust-toolchain.toml")) || in_settings
}

/// Returns whether a flag may make the compiler run a program, or read more flags.
fn steers(flag: &str) -> bool {
    flag.starts_with('@') || ["linker", "link-", "-Z", "tool", "prefer-dynamic"].iter().any(|word| flag.contains(word))
}

fn runs_code(source_files: &FileManifest) -> Result<bool, crate::Error> {
    for path in source_files.paths().filter(|path| is_setting(path)) {
        if path.file_name() != Some(MANIFEST) {
            if path.parent().and_then(camino::Utf8Path::file_name) == Some(".cargo") {
                return Ok(true);
            }
            continue;
        }
        let file = source_files.place(path);
        let manifest = plain::read_text(&file).map_err(crate::Error::io("reading", &file))?;
        if source_files.paths().any(|other| other == path.with_file_name(SCRIPT)) || manifest_runs_code(&manifest) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns whether the package of this manifest has a build script or macros. Assumes so for a manifest that cannot be
/// parsed.
fn manifest_runs_code(manifest: &str) -> bool {
    let Ok(manifest) = toml::from_str::<toml::Table>(manifest) else { return true };
    let table = |name: &str| manifest.get(name).and_then(toml::Value::as_table);
    let has_script = ["package", "project"].into_iter().filter_map(table).any(|package| package.contains_key("build"));
    let is_macro = table("lib").is_some_and(|lib| {
        let on = |name: &str| lib.get(name).is_some_and(|value| value.as_bool() != Some(false));
        on("proc-macro") || on("proc_macro") || ["crate-type", "crate_type"].iter().any(|name| lib.contains_key(*name))
    });
    // `cargo-features` may enable anything that a future compiler supports.
    has_script || is_macro || manifest.contains_key("cargo-features")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use camino::Utf8PathBuf;

    use super::Trust;
    use crate::file_manifest::FileManifest;

    const MANIFEST: &str = "[package]\nname = \"a\"\nversion = \"1.0.0\"\n";

    /// Returns the trust of a source of these files, compiled with these flags and variables.
    fn trust(files: &[(&str, &str)], flags: &[&str], environment: &[(&str, &str)]) -> Trust {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        for (path, content) in [&[("Cargo.toml", MANIFEST), ("Cargo.lock", "")], files].concat() {
            fs::create_dir_all(top.join(path).parent().unwrap()).unwrap();
            fs::write(top.join(path), content).unwrap();
        }
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let environment: Vec<_> =
            environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Trust::of(&FileManifest::all(&top).unwrap(), &flags, &environment).unwrap()
    }

    #[test]
    fn sources_of_which_nothing_runs_share_what_was_compiled_under_the_same_manifests() {
        let plain = trust(&[("src/lib.rs", "one")], &[], &[]);
        assert_eq!(plain, trust(&[("src/lib.rs", "two"), ("src/more.rs", "")], &["-Copt-level=1"], &[("X", "1")]));
        for other in [("Cargo.lock", "version = 4"), ("b/Cargo.toml", MANIFEST), ("rust-toolchain", "1.89")] {
            let other = trust(&[("src/lib.rs", "one"), other], &[], &[]);
            assert!(!other.runs_code() && other != plain, "{other:?}");
        }
    }

    #[test]
    fn sources_of_which_something_runs_share_nothing() {
        let with = |line: &str| format!("{MANIFEST}{line}\n");
        let (script, library) = (with("build = \"gen.rs\""), with("[lib]\nproc-macro = true"));
        let (kind, features) =
            (with("[lib]\ncrate-type = [\"proc-macro\"]"), format!("cargo-features = []\n{MANIFEST}"));
        let files: [(&str, &str); 7] = [
            ("build.rs", ""),
            ("deep/b/Cargo.toml", &script),
            ("b/Cargo.toml", &library),
            ("b/Cargo.toml", &kind),
            ("b/Cargo.toml", &features),
            ("b/Cargo.toml", "not a manifest"),
            ("b/.cargo/config.toml", ""),
        ];
        for file in files {
            let one = trust(&[("data", "one"), file], &[], &[]);
            let other = trust(&[("data", "two"), file], &[], &[]);
            assert!(one.runs_code() && one != other && one.settings == other.settings, "{file:?}");
        }
        for flag in ["-Clinker=./ld.sh", "@flags", "-Clink-arg=-fuse-ld=./x", "-Zcodegen-backend=./x"] {
            assert!(trust(&[], &[flag], &[]).runs_code(), "{flag}");
        }
        for variable in [("RUSTC_WRAPPER", "x"), ("CC", "x"), ("PROTOC", "x"), ("SSL_DIR", "./x"), ("LD_PRELOAD", "x")]
        {
            assert!(trust(&[], &[], &[variable]).runs_code(), "{variable:?}");
        }
    }
}

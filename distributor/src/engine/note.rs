//! What a push notes on an image that Docker or CRI-O keeps, which have no labels of their own for images: one more name, that
//! no registry can have and that says what was pushed. It goes with the image, so nothing is noted of what is not there.

use vcstore::Digest;

/// Begins every note: a domain that never is one (RFC 2606, section 2).
const NOTED: &str = "vcdist.invalid/";

/// Stands for the colon of a registry's port, which a path may not have.
const PORT: &str = "__";

/// The note on an image that was pushed by this name as this.
pub(super) fn of(name: &str, digest: &Digest) -> String {
    let (host, path) = name.split_once('/').unwrap_or((name, ""));
    format!("{NOTED}{}/{}/{path}", digest.hex(), host.replace(':', PORT))
}

/// What a note says; nothing for a name that is none.
pub(super) fn read(note: &str) -> Option<(String, Digest)> {
    let (hex, name) = note.strip_prefix(NOTED).filter(|name| !name.contains('@'))?.split_once('/')?;
    let (host, path) = name.split_once('/')?;
    Some((format!("{}/{path}", host.replace(PORT, ":")), format!("sha256:{hex}").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_was_pushed_and_no_other_name_is_one() {
        let digest = Digest::of(b"x");
        for name in ["docker.io/virtualcluster/manager-amd64:latest", "localhost:5000/a:v1", "r.example/a/b/c:v1"] {
            let note = of(name, &digest);
            assert!(
                !note.split_once('/').expect("a path").1.rsplit_once(':').expect("a tag").0.contains(':'),
                "{note}"
            );
            assert_eq!(read(&note), Some((name.to_owned(), digest)));
        }
        for other in
            ["docker.io/a/b:v1", "vcdist.invalid/a/b:v1", "vcdist.invalid/b:v1", "vcdist.invalid.example/a/b/c:1"]
        {
            assert_eq!(read(other), None);
        }
    }
}

//! Records a push on an image that Docker or CRI-O stores. These engines have no labels for stored images, so the
//! record is one more name of the image. No registry can have this name; it contains what was pushed and when. It is
//! removed with the image, so no record remains without its image.

use crate::images::push_label::{PushLabel, Time};

/// The prefix of every record: a domain that never exists (RFC 2606, section 2).
const NOTED: &str = "vcdist.invalid/";

/// Replaces the colon before a registry's port, which a path may not contain.
const PORT: &str = "__";

/// Returns the record of this push: `vcdist.invalid/DIGEST/MILLISECONDS/NAME:TAG`.
pub(super) fn of(pushed: &PushLabel) -> String {
    let (host, path) = pushed.name.split_once('/').unwrap_or((&pushed.name, ""));
    format!("{NOTED}{}/{}/{}/{path}", pushed.digest.hex(), pushed.at.milliseconds(), host.replace(':', PORT))
}

/// Parses a record. Returns `None` for any other name.
pub(super) fn read(note: &str) -> Option<PushLabel> {
    let mut parts = note.strip_prefix(NOTED).filter(|rest| !rest.contains('@'))?.splitn(4, '/');
    let (digest, at) = (format!("sha256:{}", parts.next()?).parse().ok()?, parts.next()?.parse().ok()?);
    let (host, path) = (parts.next()?, parts.next()?);
    Some(PushLabel { name: format!("{}/{path}", host.replace(PORT, ":")), digest, at: Time::of_milliseconds(at)? })
}

#[cfg(test)]
mod tests {
    use vcstore::Digest;

    use super::*;

    #[test]
    fn a_note_says_what_was_pushed_and_no_other_name_is_one() {
        for name in ["docker.io/virtualcluster/manager-amd64:latest", "localhost:5000/a:v1", "r.example/a/b/c:v1"] {
            let pushed = PushLabel { name: name.to_owned(), digest: Digest::of(b"x"), at: Time::now() };
            let note = of(&pushed);
            assert!(
                !note.split_once('/').expect("a path").1.rsplit_once(':').expect("a tag").0.contains(':'),
                "{note}"
            );
            assert_eq!(read(&note), Some(pushed));
        }
        let hex = Digest::of(b"x").hex();
        for other in [
            "docker.io/a/b:v1",
            "vcdist.invalid/a/b:v1",
            "vcdist.invalid/b:v1",
            "vcdist.invalid.example/a/b/c:1",
            &format!("vcdist.invalid/{hex}/docker.io/a/b:v1"),
            &format!("vcdist.invalid/{hex}/99999999999999999/docker.io/a:v1"),
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}

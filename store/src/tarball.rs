//! Tar files whose bytes depend only on their content: ustar headers, PAX records for values that do not fit, numeric
//! owners without names, no current time, no sparse files.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use crate::tree::copy_exactly;

/// The prefix of an extended attribute's name in a PAX record, as in star, GNU tar and container runtimes.
const XATTR: &str = "SCHILY.xattr.";

/// Writes a tar file, entry by entry, in the given order.
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: W,
}

/// The header of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) kind: EntryType,
    pub(crate) path: &'a str,
    pub(crate) link: Option<&'a str>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: u64,
    pub(crate) size: u64,
}

impl<W: Write> Writer<W> {
    /// Creates a tar file that is written to `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Adds a file owned by root, mode 0644, time 0, of exactly `size` bytes.
    ///
    /// # Errors
    /// When the output cannot be written, or `content` has another size.
    pub fn file(&mut self, path: &str, size: u64, content: impl Read) -> io::Result<()> {
        let kind = EntryType::Regular;
        self.member(&Member { kind, path, link: None, mode: 0o644, uid: 0, gid: 0, mtime: 0, size }, content)
    }

    /// Adds a folder owned by root, mode 0755, time 0.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn dir(&mut self, path: &str) -> io::Result<()> {
        let kind = EntryType::Directory;
        let member = Member { kind, path, link: None, mode: 0o755, uid: 0, gid: 0, mtime: 0, size: 0 };
        self.member(&member, io::empty())
    }

    pub(crate) fn member(&mut self, member: &Member<'_>, content: impl Read) -> io::Result<()> {
        self.member_with(member, [], content)
    }

    /// Adds an entry with extended attributes, by name.
    pub(crate) fn member_with<'x>(
        &mut self,
        member: &Member<'_>,
        xattrs: impl IntoIterator<Item = (&'x str, &'x [u8])>,
        content: impl Read,
    ) -> io::Result<()> {
        let slash = if member.kind.is_dir() { "/" } else { "" };
        let path = format!("{}{slash}", member.path);
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        if header.set_path(&path).is_err() || !path.is_ascii() {
            record(&mut records, "path", path.as_bytes());
            set_name(&mut header, &path);
        }
        if let Some(link) = member.link {
            // Set the raw field, because `set_link_name` would normalise the target.
            let field = &mut header.as_old_mut().linkname;
            if link.len() <= field.len() && link.is_ascii() {
                field[..link.len()].copy_from_slice(link.as_bytes());
            } else {
                record(&mut records, "linkpath", link.as_bytes());
            }
        }
        // The alternative for large numbers, a binary format, is a GNU extension.
        let mut fits = |key, number: u64, digits: u32| {
            if number < 1 << (3 * digits) {
                return number;
            }
            record(&mut records, key, number.to_string().as_bytes());
            0
        };
        let (uid, gid) = (fits("uid", member.uid, 7), fits("gid", member.gid, 7));
        let (mtime, size) = (fits("mtime", member.mtime, 11), fits("size", member.size, 11));
        let short = Member { uid, gid, mtime, size, ..*member };
        for (name, value) in xattrs {
            record(&mut records, &format!("{XATTR}{name}"), value);
        }
        if !records.is_empty() {
            let mut extension = Header::new_ustar();
            set_name(&mut extension, "PaxHeaders/entry");
            fill(
                &mut extension,
                &Member { kind: EntryType::XHeader, mode: 0o644, size: records.len() as u64, ..short },
            );
            self.write(&extension, records.len() as u64, records.as_slice())?;
        }
        fill(&mut header, &short);
        self.write(&header, member.size, content)
    }

    /// Ends the tar file and returns the underlying writer.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 1024])?;
        Ok(self.output)
    }

    fn write(&mut self, header: &Header, size: u64, content: impl Read) -> io::Result<()> {
        self.output.write_all(header.as_bytes())?;
        copy_exactly(content, &mut self.output, size)?;
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.output.write_all(&[0; 512][..padding])
    }
}

fn fill(header: &mut Header, member: &Member<'_>) {
    header.set_entry_type(member.kind);
    header.set_mode(member.mode);
    header.set_uid(member.uid);
    header.set_gid(member.gid);
    header.set_mtime(member.mtime);
    header.set_size(member.size);
    header.set_cksum();
}

/// Sets a name for readers without PAX support: truncated to the field, with `_` in place of non-ASCII characters.
fn set_name(header: &mut Header, path: &str) {
    let field = &mut header.as_old_mut().name;
    field.fill(0);
    for (byte, char) in field.iter_mut().take(99).zip(path.chars()) {
        *byte = u8::try_from(char).ok().filter(u8::is_ascii).unwrap_or(b'_');
    }
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.prefix.fill(0);
    }
}

/// Appends a PAX record (POSIX.1-2001, pax): its own length in decimal, a blank, `key=value` and a newline.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::Writer;

    #[test]
    fn a_pax_record_counts_its_own_length() {
        for size in [1, 2, 3, 88, 89, 90, 91, 92, 93, 990, 991, 9_990] {
            let mut records = Vec::new();
            super::record(&mut records, "path", "x".repeat(size).as_bytes());
            let text = String::from_utf8(records).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn numbers_too_large_for_their_field_stand_in_records() {
        let mut writer = Writer::new(Vec::new());
        let kind = tar::EntryType::Directory;
        let (uid, gid, mtime) = ((1 << 21) - 1, 1 << 21, 1 << 33);
        let member = super::Member { kind, path: "a", link: None, mode: 0o755, uid, gid, mtime, size: 0 };
        writer.member(&member, std::io::empty()).unwrap();
        let bytes = writer.finish().unwrap();
        let records = b"15 gid=2097152\n20 mtime=8589934592\n";
        assert_eq!(&bytes[512..512 + records.len()], records);
        let header = &bytes[1024..1536];
        assert_eq!((&header[108..116], &header[116..124]), (&b"7777777\0"[..], &b"0000000\0"[..]));
    }

    #[test]
    fn a_file_of_another_size_is_refused() {
        for content in ["short", "much too long"] {
            assert!(Writer::new(Vec::new()).file("a", 8, content.as_bytes()).is_err());
        }
    }

    proptest! {
        // No newline in names: the reader in this test splits PAX records at newlines, whatever their stated length.
        #[test]
        fn any_name_and_content_are_read_back(name in "[^/\0\n.][^/\0\n]{0,300}", content in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let mut writer = Writer::new(Vec::new());
            writer.file(&name, content.len() as u64, content.as_slice()).unwrap();
            let bytes = writer.finish().unwrap();
            prop_assert_eq!(bytes.len() % 512, 0);
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
            prop_assert_eq!(entry.path_bytes().into_owned(), name.as_bytes());
            let mut read = Vec::new();
            entry.read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, content);
        }
    }
}

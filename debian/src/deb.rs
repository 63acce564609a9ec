//! Package files (`deb(5)`): an ar archive of a format version, a tar of control files and a tar of the files to
//! install. The kept files of the latter are written to one spool file, from which the layer is created.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};

use camino::Utf8Path;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use md5::{Digest as _, Md5};
use vcstore::{Bounded, Content, Decoder, Entry, Headers, Kind, Store};

use super::{Error, Pin};

/// The maximum unpacked size of a package, to guard against decompression bombs.
const UNPACKED_LIMIT: u64 = 8 << 30;

/// The maximum size of control files, which are small texts; the largest real ones have a few megabytes.
const CONTROL_LIMIT: u64 = 64 << 20;

/// The maximum memory for decompression: four times what `xz -9` requires.
const MEMORY_LIMIT: u64 = 256 << 20;

/// An unpacked package.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its control files by name: `control`, `md5sums`, `postinst`, ….
    pub(crate) control: BTreeMap<String, ControlFile>,
    /// Its files in the packaged order, without a leading slash. A file that was not kept has no entry.
    pub(crate) files: Vec<(String, Option<Entry>)>,
    /// The MD5 of each configuration file, with which dpkg detects changes by the administrator.
    pub(crate) conffiles: BTreeMap<String, String>,
}

/// A control file of a package.
#[derive(Debug)]
pub(crate) struct ControlFile {
    /// Its mode: scripts are executable.
    pub(crate) mode: u32,
    /// Its content.
    pub(crate) content: Vec<u8>,
}

impl Package {
    /// Reads a package from the store. Writes the files for which `keep` returns true to `spool`.
    pub(crate) fn read(
        store: &Store,
        pin: &Pin,
        spool: &Utf8Path,
        keep: impl Fn(&str, &Kind) -> bool,
    ) -> Result<Self, Error> {
        let bad = |error: io::Error| Error::package(&pin.name, error.to_string());
        let mut deb = ar::Archive::new(BufReader::with_capacity(256 << 10, store.reader(&pin.sha256)?));
        let mut package = Self { control: BTreeMap::new(), files: Vec::new(), conffiles: BTreeMap::new() };
        let mut parts = BTreeSet::new();
        while let Some(member) = deb.next_entry() {
            let mut member = member.map_err(bad)?;
            let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
            let part = name.split('.').next().unwrap_or_default().to_owned();
            match part.as_str() {
                "debian-binary" => {
                    let mut format = String::new();
                    member.by_ref().take(16).read_to_string(&mut format).map_err(bad)?;
                    if !format.starts_with("2.") {
                        return Err(Error::package(&pin.name, format!("its format is {format:?}, not 2")));
                    }
                }
                "control" => package.read_control(pin, decoder(&name, &mut member).map_err(bad)?)?,
                "data" => package.read_data(pin, decoder(&name, &mut member).map_err(bad)?, spool, &keep)?,
                // Unknown members are ignored if their name begins with an underscore.
                other if other.starts_with('_') => {}
                other => return Err(Error::package(&pin.name, format!("it has an unknown member {other:?}"))),
            }
            io::copy(&mut member, &mut io::sink()).map_err(bad)?;
            parts.insert(part);
        }
        // The store verifies the hash when the end is read.
        io::copy(&mut deb.into_inner().map_err(bad)?, &mut io::sink()).map_err(bad)?;
        if let Some(missing) = ["debian-binary", "control", "data"].into_iter().find(|part| !parts.contains(*part)) {
            return Err(Error::package(&pin.name, format!("it has no member {missing}")));
        }
        Ok(package)
    }
}

/// The result of reading the beginning of a package.
pub(super) enum ControlNames {
    /// The names of its control files.
    Names(Vec<String>),
    /// The number of bytes that are needed.
    Needs(u64),
}

/// Returns the names of a package's control files from its beginning.
///
/// # Errors
/// Returns an error if it is malformed.
pub(super) fn control_names(pin: &Pin, beginning: &[u8]) -> Result<ControlNames, Error> {
    let bad = |error: io::Error| Error::package(&pin.name, error.to_string());
    let mut deb = ar::Archive::new(beginning);
    while let Some(member) = deb.next_entry() {
        let mut member = member.map_err(bad)?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        let size = member.header().size();
        let mut content = Vec::new();
        member.read_to_end(&mut content).map_err(bad)?;
        if content.len() as u64 != size {
            return Ok(ControlNames::Needs((beginning.len() - content.len()) as u64 + size));
        }
        if name.starts_with("control.") {
            let mut package = Package { control: BTreeMap::new(), files: Vec::new(), conffiles: BTreeMap::new() };
            package.read_control(pin, decoder(&name, &mut content.as_slice()).map_err(bad)?)?;
            return Ok(ControlNames::Names(package.control.into_keys().collect()));
        }
    }
    Err(Error::package(&pin.name, "it does not start with its control files"))
}

/// Decompresses xz, or the older LZMA format, with limited memory.
///
/// # Errors
/// Returns an error if liblzma cannot be initialized.
pub(super) fn unxz<R: Read>(input: R) -> io::Result<XzDecoder<R>> {
    Ok(XzDecoder::new_stream(input, Stream::new_auto_decoder(MEMORY_LIMIT, CONCATENATED)?))
}

impl Package {
    fn read_control(&mut self, pin: &Pin, tar: impl Read) -> Result<(), Error> {
        let bad = |error: io::Error| Error::package(&pin.name, format!("its control files: {error}"));
        let (tar, headers) = Bounded::new(tar.take(CONTROL_LIMIT), pin.size);
        let mut tar = tar::Archive::new(tar);
        let mut entries = tar.entries().map_err(bad)?;
        while let Some(file) = next(&mut entries, &headers) {
            let mut file = file.map_err(bad)?;
            if file.header().entry_type().is_dir() {
                continue;
            }
            let name = path(&file.path_bytes()).map_err(|why| Error::package(&pin.name, why))?;
            if !file.header().entry_type().is_file() || name.contains('/') {
                return Err(Error::package(&pin.name, format!("its control file {name} is not a plain file")));
            }
            let mode = file.header().mode().map_err(bad)? & 0o777;
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(bad)?;
            self.control.insert(name, ControlFile { mode, content });
        }
        Ok(())
    }

    fn read_data(
        &mut self,
        pin: &Pin,
        tar: impl Read,
        spool: &Utf8Path,
        keep: &impl Fn(&str, &Kind) -> bool,
    ) -> Result<(), Error> {
        let bad = |error: io::Error| Error::package(&pin.name, error.to_string());
        let refuse = |why: String| Error::package(&pin.name, why);
        let conffiles = self.conffile_names();
        let mut output = BufWriter::with_capacity(256 << 10, File::create(spool).map_err(Error::io("making", spool))?);
        let mut offset = 0;
        let (tar, headers) = Bounded::new(tar.take(UNPACKED_LIMIT), pin.size);
        let mut tar = tar::Archive::new(tar);
        let mut entries = tar.entries().map_err(bad)?;
        while let Some(file) = next(&mut entries, &headers) {
            let mut file = file.map_err(bad)?;
            let raw = file.path_bytes().into_owned();
            if matches!(raw.as_slice(), b"./" | b".") {
                continue;
            }
            let name = path(&raw).map_err(refuse)?;
            let header = file.header();
            let number = |number: io::Result<u64>| number.map_err(bad);
            let (mode, uid, gid) = (header.mode().map_err(bad)? & 0o7777, number(header.uid())?, number(header.gid())?);
            let len = number(header.entry_size())?;
            let target = || {
                let link = file.link_name_bytes().unwrap_or_default().into_owned();
                String::from_utf8(link).map_err(|_| refuse(format!("the target of the link {name} is not UTF-8")))
            };
            let kind = match header.entry_type() {
                tar::EntryType::Directory => Kind::Directory,
                tar::EntryType::Symlink => Kind::Symlink(target()?),
                tar::EntryType::Link => Kind::HardLink(path(target()?.as_bytes()).map_err(refuse)?),
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    Kind::File(Content::Slice { path: spool.to_owned(), offset, len })
                }
                other => return Err(refuse(format!("{name} has the unsupported type {other:?}"))),
            };
            let kept = keep(&name, &kind);
            if let Kind::File(_) = kind {
                let mut md5 = conffiles.contains(&name).then(Md5::new);
                if kept || md5.is_some() {
                    let copied = copy(&mut file, &mut output, kept, md5.as_mut())
                        .map_err(|error| refuse(format!("{name}: {error}")))?;
                    if copied != len {
                        return Err(refuse(format!("{name} is truncated")));
                    }
                    offset += if kept { len } else { 0 };
                }
                // Skipped content must be read, so that it counts as content too.
                io::copy(&mut file, &mut io::sink()).map_err(bad)?;
                if let Some(md5) = md5 {
                    self.conffiles.insert(name.clone(), hex::encode(md5.finalize()));
                }
            }
            self.files.push((name, kept.then_some(Entry { kind, mode, uid, gid })));
        }
        output.flush().map_err(Error::io("writing", spool))
    }

    /// Returns the configuration files (`deb-conffiles(5)`), without those that the package only removes.
    fn conffile_names(&self) -> BTreeSet<String> {
        let text = self.control.get("conffiles").map(|file| String::from_utf8_lossy(&file.content)).unwrap_or_default();
        text.lines().filter_map(|line| line.trim_end().strip_prefix('/')).map(str::to_owned).collect()
    }
}

/// Returns the next entry. Limits the size of its name and link target, which are read into memory as a whole.
fn next<'a, R: Read>(entries: &mut tar::Entries<'a, R>, headers: &Headers) -> Option<io::Result<tar::Entry<'a, R>>> {
    headers.begin();
    let entry = entries.next();
    headers.end();
    entry
}

/// Decompresses a member according to its extension.
fn decoder<'a>(name: &str, member: &'a mut dyn Read) -> io::Result<Box<dyn Read + 'a>> {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("xz" | "lzma") => Ok(Box::new(unxz(member)?)),
        Some("zst" | "gz" | "tar") => Ok(Box::new(Decoder::new(member)?)),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, format!("the compression of {name} is not supported"))),
    }
}

/// Normalizes a path of a tar file: `./usr/bin/x` and `/usr/bin/x` become `usr/bin/x`.
fn path(raw: &[u8]) -> Result<String, String> {
    let text =
        std::str::from_utf8(raw).map_err(|_| format!("the path {:?} is not UTF-8", String::from_utf8_lossy(raw)))?;
    let relative = text.strip_prefix("./").unwrap_or(text);
    let relative = relative.strip_suffix('/').unwrap_or(relative);
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) || relative.contains('\0') {
        return Err(format!("the path {text:?} points outside the package"));
    }
    Ok(relative.to_owned())
}

fn copy(from: &mut impl Read, to: &mut impl Write, kept: bool, mut md5: Option<&mut Md5>) -> io::Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        if kept {
            to.write_all(&buffer[..count])?;
        }
        if let Some(md5) = &mut md5 {
            md5.update(&buffer[..count]);
        }
        total += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use camino::Utf8Path;
    use vcstore::{Content, Digest, Kind, Store};

    use super::{Package, path};
    use crate::Pin;

    /// Builds a tar of files, folders (with a trailing slash) and symbolic links (`name -> target`).
    fn tar(entries: &[(&[u8], &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name);
            header.set_mode(0o4755);
            header.set_uid(0);
            header.set_gid(42);
            header.set_size(content.len() as u64);
            if let Some(target) = content.strip_prefix("-> ") {
                header.set_entry_type(tar::EntryType::Symlink);
                header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
                header.set_size(0);
            } else if name.ends_with(b"/") {
                header.set_entry_type(tar::EntryType::Directory);
            }
            header.set_cksum();
            let content = if header.entry_type().is_file() { content.as_bytes() } else { b"" };
            tar.append(&header, content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn deb(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut ar = ar::Builder::new(Vec::new());
        for (name, content) in members {
            ar.append(&ar::Header::new(name.as_bytes().to_vec(), content.len() as u64), content.as_slice()).unwrap();
        }
        ar.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<(Package, String), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let store = Store::open(&path.join("store")).unwrap();
        let blob = store.put(bytes).unwrap();
        let pin = Pin {
            name: "test".to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            path: "pool/test.deb".to_owned(),
            sha256: blob.digest,
            size: blob.size,
            suite: "bookworm".to_owned(),
            set: None,
        };
        let spool = path.join("spool");
        let package = Package::read(&store, &pin, &spool, |path, _| !path.starts_with("usr/share/man/"));
        let package = package.map_err(|error| error.to_string())?;
        Ok((package, std::fs::read_to_string(spool).unwrap()))
    }

    fn sound(control: &[u8], data: &[u8]) -> Vec<u8> {
        let zstd = zstd::encode_all(control, 1).unwrap();
        let mut xz = Vec::new();
        std::io::copy(&mut liblzma::read::XzEncoder::new(data, 1), &mut xz).unwrap();
        deb(&[
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar.zst", zstd),
            ("data.tar.xz", xz),
            ("_extra", vec![1]),
        ])
    }

    #[test]
    fn a_package_is_unpacked_as_packaged() {
        let control = tar(&[(b"./", ""), (b"./control", "Package: test\n"), (b"./conffiles", "/etc/test.conf\n")]);
        let data = tar(&[
            (b"./", ""),
            (b"./etc/test.conf", "abc"),
            (b"./usr/share/man/test", "left out"),
            (b"./usr/bin/", ""),
            (b"./usr/bin/test", "binary"),
            (b"./usr/bin/alias", "-> test"),
        ]);
        let (package, spool) = read(&sound(&control, &data)).unwrap();
        assert_eq!(package.control["control"].content, b"Package: test\n");
        assert_eq!(
            package.conffiles,
            BTreeMap::from([("etc/test.conf".into(), "900150983cd24fb0d6963f7d28e17f72".into())])
        );
        let names: Vec<_> = package.files.iter().map(|(name, kept)| (name.as_str(), kept.is_some())).collect();
        let expected = [
            ("etc/test.conf", true),
            ("usr/share/man/test", false),
            ("usr/bin", true),
            ("usr/bin/test", true),
            ("usr/bin/alias", true),
        ];
        assert_eq!(names, expected);
        let binary = package.files[3].1.as_ref().unwrap();
        assert_eq!((binary.mode, binary.uid, binary.gid), (0o4755, 0, 42));
        assert!(matches!(&binary.kind, Kind::File(Content::Slice { offset: 3, len: 6, .. })), "{binary:?}");
        assert_eq!(package.files[4].1.as_ref().unwrap().kind, Kind::Symlink("test".to_owned()));
        assert_eq!(spool, "abcbinary");
    }

    #[test]
    fn malformed_packages_are_refused() {
        let control = || tar(&[(b"./control", "Package: test\n")]);
        let cases = [
            (b"no archive".to_vec(), ""),
            (deb(&[("debian-binary", b"2.0\n".to_vec())]), "it has no member control"),
            (deb(&[("debian-binary", b"9.0\n".to_vec())]), "its format is \"9.0\\n\", not 2"),
            (deb(&[("data.tar.rar", Vec::new())]), "the compression of data.tar.rar is not supported"),
            (deb(&[("data.tar.xz", b"no xz".to_vec())]), ""),
            (
                sound(&control(), &tar(&[(b"../etc/passwd", "")])),
                "the path \"../etc/passwd\" points outside the package",
            ),
            (sound(&control(), &tar(&[(b"/etc/passwd", "")])), "the path \"/etc/passwd\" points outside the package"),
            (sound(&control(), &tar(&[(b"./a\xff", "")])), "is not UTF-8"),
            (sound(&tar(&[(b"./sub/control", "")]), &[]), "its control file sub/control is not a plain file"),
        ];
        for (bytes, why) in cases {
            let error = read(&bytes).unwrap_err();
            assert!(error.starts_with("unpacking test: ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_package_that_would_fill_memory_is_refused() {
        let control = tar(&[(b"./control", "Package: test\n")]);
        let long = |name: &str| {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, name, &[][..]).unwrap();
            tar.into_inner().unwrap()
        };
        let fits = long(&"deep/".repeat(800));
        assert!(read(&sound(&control, &fits)).is_ok());
        let names = long(&"deep/".repeat(1 << 19));
        for package in [sound(&control, &names), sound(&names, &fits)] {
            let error = read(&package).unwrap_err();
            assert!(error.ends_with("its file names are longer than those of any valid archive"), "{error}");
        }
        // Skipped content does not count as a name, however long it is.
        let content = "x".repeat(3 << 20);
        let passed = tar(&[(b"./usr/share/man/test", content.as_str()), (b"./a", "")]);
        assert_eq!(read(&sound(&control, &passed)).unwrap().0.files.len(), 2);

        let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut lzma = Vec::new();
        std::io::copy(&mut liblzma::read::XzEncoder::new_stream(fits.as_slice(), stream), &mut lzma).unwrap();
        let packed = |lzma: &[u8]| {
            read(&deb(&[
                ("debian-binary", b"2.0\n".to_vec()),
                ("control.tar", control.clone()),
                ("data.tar.lzma", lzma.to_vec()),
            ]))
        };
        packed(&lzma).unwrap();
        // The requested dictionary size.
        lzma[1..5].copy_from_slice(&(1_u32 << 30).to_le_bytes());
        let error = packed(&lzma).unwrap_err();
        assert!(error.contains("memory limit"), "{error}");
    }

    #[test]
    fn a_package_cut_short_is_refused() {
        let whole = sound(&tar(&[(b"./control", "Package: test\n")]), &tar(&[(b"./a", "content")]));
        assert!(read(&whole).is_ok());
        for end in [20, 100, whole.len() / 2, whole.len() - 100] {
            assert!(read(&whole[..end]).is_err(), "cut at {end} of {}", whole.len());
        }
    }

    #[test]
    fn a_damaged_blob_is_noticed_although_all_of_it_was_unpacked() {
        let bytes = sound(&tar(&[(b"./control", "Package: test\n")]), &tar(&[(b"./a", "content")]));
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let store = Store::open(&path.join("store")).unwrap();
        let blob = store.put(&bytes).unwrap();
        // Changes the ignored member.
        let mut other = bytes.clone();
        let end = other.len() - 2;
        other[end] ^= 1;
        std::fs::write(store.blob_path(&blob.digest), &other).unwrap();
        assert_ne!(Digest::of(&other), blob.digest);
        let pin = Pin {
            name: "test".to_owned(),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            path: "pool/test.deb".to_owned(),
            sha256: blob.digest,
            size: blob.size,
            suite: "bookworm".to_owned(),
            set: None,
        };
        let error = Package::read(&store, &pin, &path.join("spool"), |_, _| true).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
    }

    #[test]
    fn paths_are_made_relative_and_hostile_ones_refused() {
        for (raw, expected) in [("./usr/bin/", "usr/bin"), ("usr/x", "usr/x"), ("./a b", "a b")] {
            assert_eq!(path(raw.as_bytes()).unwrap(), expected);
        }
        for raw in ["", "/", "/x", "./../x", "a/../b", "a//b", "./", "a/./b", "a\0"] {
            assert!(path(raw.as_bytes()).is_err(), "{raw:?} must be refused");
        }
    }
}

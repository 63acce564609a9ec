//! The program that is placed on nodes as the helper, which is this program itself. The hash of its content is part of
//! its file name there, and its ELF header tells on which machines it runs.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use camino::Utf8PathBuf;
use vcstore::Hasher;

use super::Error;

/// A program that can be placed on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    pub(super) path: Utf8PathBuf,
    pub(super) size: u64,
    /// The SHA-256 digest, in hexadecimal.
    pub(super) hash: String,
    pub(super) elf: Elf,
}

/// The parts of the ELF header that are needed here (Executable and Linkable Format, System V ABI, chapters 4 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Elf {
    /// `e_machine`.
    machine: u16,
    /// Whether it has an interpreter (`PT_INTERP`), and thus needs shared libraries of the node.
    pub(super) dynamic: bool,
}

impl Binary {
    /// Returns the running program.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or is not an ELF program.
    pub fn this() -> Result<Self, Error> {
        // This link stays valid even if the file has been replaced since, for example by an upgrade.
        Self::open("/proc/self/exe".into())
    }

    fn open(path: Utf8PathBuf) -> Result<Self, Error> {
        let read = |source| Error::OwnBinary { path: path.clone(), source };
        let mut file = File::open(&path).map_err(read)?;
        let elf = Elf::read(&mut file).map_err(read)?;
        file.rewind().map_err(read)?;
        let (mut hasher, mut chunk) = (Hasher::default(), vec![0; 1 << 20]);
        loop {
            let count = file.read(&mut chunk).map_err(read)?;
            if count == 0 {
                break;
            }
            hasher.update(&chunk[..count]);
        }
        let content = hasher.finish();
        Ok(Self { size: content.size, hash: content.digest.hex(), elf, path })
    }
}

impl Elf {
    /// Reads a 64-bit little-endian header, the only kind that Linux nodes have.
    fn read(file: &mut (impl Read + Seek)) -> io::Result<Self> {
        const PT_INTERP: u32 = 3;
        let mut header = [0; 64];
        file.read_exact(&mut header)?;
        if header[..6] != *b"\x7fELF\x02\x01" {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a 64-bit little-endian ELF program"));
        }
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let program_headers = u64::from_le_bytes(header[32..40].try_into().map_err(io::Error::other)?);
        let (entry_size, entries) = (u64::from(half(54)), u64::from(half(56)));
        let mut dynamic = false;
        for index in 0..entries {
            let mut kind = [0; 4];
            file.seek(SeekFrom::Start(program_headers.saturating_add(index * entry_size)))?;
            file.read_exact(&mut kind)?;
            dynamic |= u32::from_le_bytes(kind) == PT_INTERP;
        }
        Ok(Self { machine: half(18), dynamic })
    }

    /// Whether it runs on a machine of the architecture that `uname -m` prints as `machine`.
    pub(super) fn runs_on(self, machine: &str) -> bool {
        self.machine_name() == machine
    }

    /// Its architecture as `uname -m` prints it.
    pub(super) fn machine_name(self) -> &'static str {
        match self.machine {
            62 => "x86_64",
            183 => "aarch64",
            243 => "riscv64",
            21 => "ppc64le",
            258 => "loongarch64",
            _ => "another machine",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Binary, Elf};

    #[test]
    fn this_program_is_read_as_what_it_is() {
        let this = Binary::this().expect("a test is a program");
        assert!(this.elf.runs_on(std::env::consts::ARCH));
        assert_eq!(this.hash.len(), 64);
        let length = std::env::current_exe().and_then(std::fs::metadata).expect("own file").len();
        assert_eq!(this.size, length);
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let mut script = b"#!/bin/sh\n".to_vec();
        script.resize(200, b'#');
        assert!(Elf::read(&mut Cursor::new(script)).is_err());
        assert!(Elf::read(&mut Cursor::new(b"\x7fELF\x02\x01".to_vec())).is_err());
        let mut endless = b"\x7fELF\x02\x01".to_vec();
        endless.resize(64, 0xff);
        assert!(Elf::read(&mut Cursor::new(endless)).is_err());
    }
}

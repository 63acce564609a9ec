//! Detects the architecture of a program, because an image must not contain a program that its platform cannot run.

use std::io::{self, Read};

use object::Endianness;
use object::elf::{EM_386, EM_AARCH64, EM_ARM, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, FileHeader32, FileHeader64};
use object::read::elf::FileHeader;
use vcstore::Platform;

/// The number of bytes to read: an ELF header, with room to spare.
const HEAD: u64 = 64;

/// The kind of a file according to its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    /// Not an ELF file: a script, or not a program.
    NoProgram,
    /// An ELF file for this architecture, in the form of OCI and Go if they define one.
    Elf(String),
}

impl Machine {
    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn read(file: impl Read) -> io::Result<Self> {
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head)?;
        if !head.starts_with(b"\x7fELF") {
            return Ok(Self::NoProgram);
        }
        let wide = FileHeader64::<Endianness>::parse(head.as_slice()).and_then(describe);
        let described = wide.or_else(|_| FileHeader32::<Endianness>::parse(head.as_slice()).and_then(describe));
        Ok(Self::Elf(described.unwrap_or_else(|_| "no processor: its header is damaged".to_owned())))
    }

    /// Whether `platform` can run it, or it is not a program.
    pub fn runs_on(&self, platform: &Platform) -> bool {
        match self {
            Self::NoProgram => true,
            Self::Elf(processor) => *processor == platform.architecture,
        }
    }
}

fn describe<H: FileHeader<Endian = Endianness>>(header: &H) -> object::Result<String> {
    let endian = header.endian()?;
    let (wide, little) = (header.is_class_64(), header.is_little_endian());
    Ok(match (header.e_machine(endian), wide, little) {
        (EM_X86_64, true, true) => "amd64".to_owned(),
        (EM_AARCH64, true, true) => "arm64".to_owned(),
        (EM_386, false, true) => "386".to_owned(),
        (EM_ARM, false, true) => "arm".to_owned(),
        (EM_PPC64, true, true) => "ppc64le".to_owned(),
        (EM_RISCV, true, true) => "riscv64".to_owned(),
        (EM_S390, true, false) => "s390x".to_owned(),
        (machine, ..) => format!("ELF machine {machine}"),
    })
}

#[cfg(test)]
mod tests {
    use vcstore::Platform;

    use super::Machine;

    /// Builds the beginning of an ELF file: class, byte order and machine.
    fn elf(class: u8, order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order, 1]);
        head[18..20].copy_from_slice(&machine);
        head
    }

    #[test]
    fn a_program_is_for_the_processor_its_header_says() {
        let read = |bytes: &[u8]| Machine::read(bytes).unwrap();
        let named = |name: &str| Machine::Elf(name.to_owned());
        assert_eq!(read(&elf(2, 1, [62, 0])), named("amd64"));
        assert_eq!(read(&elf(2, 1, [183, 0])), named("arm64"));
        assert_eq!(read(&elf(2, 2, [0, 22])), named("s390x"));
        assert_eq!(
            read(&elf(1, 1, [62, 0])),
            named("ELF machine 62"),
            "32-bit addresses on amd64 are another platform"
        );
        assert_eq!(read(b"\x7fELF"), named("no processor: its header is damaged"));
        let this = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let here = Platform::default();
        assert_eq!(Machine::read(this).unwrap().runs_on(&here), std::env::consts::ARCH == "x86_64");
    }

    #[test]
    fn what_is_no_program_runs_nowhere_and_is_refused_nowhere() {
        for content in ["", "#!/bin/sh\n", "\x7fEL"] {
            assert_eq!(Machine::read(content.as_bytes()).unwrap(), Machine::NoProgram);
        }
        assert!(Machine::NoProgram.runs_on(&Platform::linux("arm64")));
        assert!(!Machine::Elf("amd64".to_owned()).runs_on(&Platform::linux("arm64")));
    }
}

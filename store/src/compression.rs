//! How layers are compressed, and how compressed files are read.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zstd::zstd_safe::CParameter;

/// The level of both encoders: their own default, a good balance for layers that are made more often than they are kept.
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 6;

/// How much zstd compresses as one piece, in bytes, and how much of what is before a piece it looks back at: 8 is half of the
/// window of two mebibytes. A buffer of a piece's size is held twice a thread, so a small piece is what keeps an encoder to some
/// ten mebibytes where its own choice takes fifty; to look back that far makes up for what is lost between pieces.
const ZSTD_PIECE: u32 = 1 << 20;
const ZSTD_OVERLAP: u32 = 8;

/// More threads than this would wait for the one that reads and hashes what they compress.
const ZSTD_THREADS: usize = 4;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard: read by containerd since 1.5 and Docker since 23.0.
    #[default]
    Zstd,
    /// gzip: read by everything.
    Gzip,
    /// As it is.
    None,
}

impl Compression {
    /// The media type of a layer, as the OCI image specification (layer.md) names it.
    #[must_use]
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }

    /// The encoder's identity. Compressed bytes vary with library, version and level, so this stands in the key of every
    /// action whose output is compressed. A test holds the encoders to it.
    #[must_use]
    pub fn identity(self) -> String {
        match self {
            // Pieces of one size whatever the number of threads: the bytes do not depend on the machine.
            Self::Zstd => {
                let version = zstd::zstd_safe::version_string();
                format!("zstd {version} level {ZSTD_LEVEL} pieces of {ZSTD_PIECE} overlap {ZSTD_OVERLAP}")
            }
            Self::Gzip => format!("zlib-rs 0.6 level {GZIP_LEVEL}"),
            Self::None => "none".to_owned(),
        }
    }

    /// An encoder that writes to `output`.
    pub(crate) fn encoder<W: Write>(self, output: W) -> io::Result<Encoder<W>> {
        Ok(match self {
            Self::Zstd => {
                let threads = std::thread::available_parallelism().map_or(1, usize::from);
                Encoder::Zstd(zstd_encoder(output, threads.clamp(1, ZSTD_THREADS))?)
            }
            Self::Gzip => Encoder::Gzip(flate2::write::GzEncoder::new(output, flate2::Compression::new(GZIP_LEVEL))),
            Self::None => Encoder::None(output),
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::None => "none",
        })
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Zstd, Self::Gzip, Self::None]
            .into_iter()
            .find(|compression| compression.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not a compression: use zstd, gzip or none"))
    }
}

/// An encoder with this many threads: at least one, for without any it takes another path and writes other bytes.
fn zstd_encoder<W: Write>(output: W, threads: usize) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
    encoder.set_parameter(CParameter::JobSize(ZSTD_PIECE))?;
    encoder.set_parameter(CParameter::OverlapSizeLog(ZSTD_OVERLAP))?;
    Ok(encoder)
}

/// A writer that compresses.
pub(crate) enum Encoder<W: Write> {
    Zstd(zstd::Encoder<'static, W>),
    Gzip(flate2::write::GzEncoder<W>),
    None(W),
}

impl<W: Write> Encoder<W> {
    /// Ends the stream and gives back what was written to.
    pub(crate) fn finish(self) -> io::Result<W> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
            Self::None(output) => Ok(output),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(encoder) => encoder.write(buffer),
            Self::Gzip(encoder) => encoder.write(buffer),
            Self::None(output) => output.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::None(output) => output.flush(),
        }
    }
}

/// Reads a stream that may be compressed, told by its first bytes.
pub enum Decoder<R: Read> {
    /// Zstandard.
    Zstd(zstd::Decoder<'static, BufReader<R>>),
    /// gzip, of one or several members.
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<R>>>),
    /// As it is.
    None(BufReader<R>),
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({})", self.compression())
    }
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of `input` and reads on accordingly.
    ///
    /// # Errors
    /// When `input` cannot be read.
    pub fn new(input: R) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(128 << 10, input);
        let start = input.fill_buf()?;
        if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Ok(Self::Zstd(zstd::Decoder::with_buffer(input)?))
        } else if start.starts_with(&[0x1f, 0x8b]) {
            Ok(Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))))
        } else {
            Ok(Self::None(input))
        }
    }

    /// How the stream is compressed.
    pub fn compression(&self) -> Compression {
        match self {
            Self::Zstd(_) => Compression::Zstd,
            Self::Gzip(_) => Compression::Gzip,
            Self::None(_) => Compression::None,
        }
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Zstd(decoder) => decoder.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::None(input) => input.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::{Compression, Decoder};
    use crate::Digest;

    const ALL: [Compression; 3] = [Compression::Zstd, Compression::Gzip, Compression::None];

    fn compress(compression: Compression, content: &[u8]) -> Vec<u8> {
        let mut encoder = compression.encoder(Vec::new()).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// Text that no encoder can take for constant, long enough for several of zstd's jobs.
    fn sample() -> Vec<u8> {
        (0..400_000u32).flat_map(|i| format!("{:x} ", i.wrapping_mul(2_654_435_761)).into_bytes()).collect()
    }

    #[test]
    fn every_compression_is_told_by_its_first_bytes_and_read_back() {
        for compression in ALL {
            let mut decoder = Decoder::new(std::io::Cursor::new(compress(compression, b"content"))).unwrap();
            assert_eq!(decoder.compression(), compression);
            let mut read = Vec::new();
            decoder.read_to_end(&mut read).unwrap();
            assert_eq!(read, b"content");
            assert_eq!(compression.to_string().parse(), Ok(compression));
        }
    }

    /// When this fails, an encoder's bytes changed: change its identity with it, and only then the digest here.
    #[test]
    fn the_encoders_write_the_bytes_their_identity_stands_for() {
        let digest = |compression| Digest::of(&compress(compression, &sample())).hex()[..16].to_owned();
        let identities = ALL.map(|compression| (compression.identity(), digest(compression)));
        let expected = [
            ("zstd 1.5.7 level 3 pieces of 1048576 overlap 8", "63fbcbd993e3575e"),
            ("zlib-rs 0.6 level 6", "665ef33014a499c7"),
            ("none", "4098b4ad3494b9ff"),
        ];
        assert_eq!(identities.map(|(i, d)| format!("{i}: {d}")), expected.map(|(i, d)| format!("{i}: {d}")));
    }

    #[test]
    fn zstd_bytes_do_not_depend_on_the_number_of_threads() {
        let with = |threads| {
            let mut encoder = super::zstd_encoder(Vec::new(), threads).unwrap();
            encoder.write_all(&sample()).unwrap();
            encoder.finish().unwrap()
        };
        assert!(sample().len() > 2 * super::ZSTD_PIECE as usize, "there are several pieces");
        assert_eq!(with(1), with(2));
        assert_eq!(with(1), with(4));
    }
}

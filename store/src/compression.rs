//! Compression of layers, and decompression of files.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zstd::zstd_safe::CParameter;

/// The compression levels: the encoders' defaults, a compromise between speed and size.
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 6;

/// The job size of zstd in bytes, and the overlap of jobs, where 8 is half of the 2 MiB window. Each thread allocates
/// two buffers of the job size, so small jobs limit an encoder to some 10 MiB, compared with 50 by default; the overlap
/// compensates for the compression lost between jobs.
const ZSTD_PIECE: u32 = 1 << 20;
const ZSTD_OVERLAP: u32 = 8;

/// The maximum number of threads: more would wait for the single thread that reads and hashes their input.
const ZSTD_THREADS: usize = 4;

/// The compression of a layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Zstandard, supported by containerd since 1.5 and Docker since 23.0.
    #[default]
    Zstd,
    /// gzip, supported by all container runtimes.
    Gzip,
    /// Uncompressed.
    None,
}

impl Compression {
    /// Returns the media type of a layer (OCI image specification, layer.md).
    #[must_use]
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::None => "application/vnd.oci.image.layer.v1.tar",
        }
    }

    /// Returns the identity of the encoder. Compressed bytes vary with library, version and level, so this is part of
    /// the key of every action with compressed output. A test verifies that it matches the encoders.
    #[must_use]
    pub fn identity(self) -> String {
        match self {
            // The job size is fixed, so that the bytes do not depend on the machine's number of threads.
            Self::Zstd => {
                let version = zstd::zstd_safe::version_string();
                format!("zstd {version} level {ZSTD_LEVEL} pieces of {ZSTD_PIECE} overlap {ZSTD_OVERLAP}")
            }
            Self::Gzip => format!("zlib-rs 0.6 level {GZIP_LEVEL}"),
            Self::None => "none".to_owned(),
        }
    }

    /// Creates an encoder that writes to `output`.
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

/// Creates an encoder with this number of threads, at least one: without threads, zstd uses another code path with
/// different output.
fn zstd_encoder<W: Write>(output: W, threads: usize) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.multithread(u32::try_from(threads).unwrap_or(1))?;
    encoder.set_parameter(CParameter::JobSize(ZSTD_PIECE))?;
    encoder.set_parameter(CParameter::OverlapSizeLog(ZSTD_OVERLAP))?;
    Ok(encoder)
}

/// A compressing writer.
pub(crate) enum Encoder<W: Write> {
    Zstd(zstd::Encoder<'static, W>),
    Gzip(flate2::write::GzEncoder<W>),
    None(W),
}

impl<W: Write> Encoder<W> {
    /// Ends the stream and returns the underlying writer.
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

/// A reader that decompresses a stream, whose compression it detects.
pub enum Decoder<R: Read> {
    /// Zstandard.
    Zstd(zstd::Decoder<'static, BufReader<R>>),
    /// gzip, with one or several members.
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<R>>>),
    /// Uncompressed.
    None(BufReader<R>),
}

impl<R: Read> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({})", self.compression())
    }
}

impl<R: Read> Decoder<R> {
    /// Detects the compression by the first bytes of `input`.
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

    /// Returns the compression of the stream.
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

    /// Returns a text that compresses poorly, and is long enough for several zstd jobs.
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

    /// If this fails, the bytes of an encoder changed: change its identity, and only then the digest here.
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

//! A client of the Go checksum database: a signed Merkle tree with the checksum of every module version. Verifies that
//! an answer is in the tree, and that the known key signed the tree, so no server or proxy needs to be trusted.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::proxy::Proxies;
use crate::error::ToolchainError;

/// The key of the default database, as built into Go, without its name. The first part is a hash of name and key, so
/// the key is valid for that name only.
const KNOWN_KEY: &str = "033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";

/// The maximum size of a response in bytes. An answer has a few lines, a tile 8 KiB.
const LIMIT: u64 = 64 << 10;

/// The height of a tile: it contains 2^8 neighbouring hashes.
const HEIGHT: u32 = 8;

type Hash = [u8; 32];

/// Reads a file of a database; `None` if it does not exist.
type Read<'a> = dyn Fn(&str) -> Result<Option<Vec<u8>>, crate::Error> + 'a;

/// A checksum database, as `GOSUMDB` specifies it.
pub(super) struct Database {
    name: String,
    /// The URL of the database, used if no proxy serves it.
    address: String,
    key_hash: [u8; 4],
    key: VerifyingKey,
}

impl Database {
    /// Parses a `GOSUMDB` setting: a known name, or a name with its key, and an optional URL.
    pub(super) fn parse(setting: &str) -> Result<Self, ToolchainError> {
        let bad = |why: &str| ToolchainError::Database {
            database: setting.to_owned(),
            module: "anything".to_owned(),
            why: why.to_owned(),
        };
        let mut words = setting.split_whitespace();
        let first = words.next().unwrap_or_default();
        let (name, key) = first.split_once('+').unwrap_or((first, KNOWN_KEY));
        let unknown = || bad("its key is unknown: for a private database set GOSUMDB to NAME+HASH+KEY");
        let (hash, key) = key.split_once('+').ok_or_else(unknown)?;
        let key = STANDARD.decode(key).map_err(|_| unknown())?;
        let expected = Sha256::digest([name.as_bytes(), b"\n", &key].concat());
        if hex::encode(&expected[..4]) != hash {
            return Err(unknown());
        }
        // The first byte is the algorithm: 1 is Ed25519.
        let key = match key.split_first() {
            Some((1, bytes)) => bytes.try_into().ok().and_then(|bytes| VerifyingKey::from_bytes(bytes).ok()),
            _ => None,
        };
        let address =
            words.next().map_or_else(|| format!("https://{name}"), |url| url.trim_end_matches('/').to_owned());
        let key_hash = [expected[0], expected[1], expected[2], expected[3]];
        Ok(Self { name: name.to_owned(), address, key_hash, key: key.ok_or_else(unknown)? })
    }

    /// Returns the verified `h1:` checksum of a module version; uses the proxies that serve the database.
    pub(super) fn sum(&self, module: &str, version: &str, proxies: &Proxies) -> Result<String, crate::Error> {
        let bad = |why: &str| ToolchainError::Database {
            database: self.name.clone(),
            module: format!("{module}@{version}"),
            why: why.to_owned(),
        };
        let read = |path: &str| match proxies.get(&format!("sumdb/{}/{path}", self.name), LIMIT)? {
            Some(bytes) => Ok(Some(bytes)),
            None => proxies.get_from(&self.address, path, LIMIT),
        };
        let answer =
            read(&format!("lookup/{module}@{version}"))?.ok_or_else(|| bad("it has no entry for the module"))?;
        let answer = String::from_utf8(answer).map_err(|_| bad("its answer is not valid UTF-8"))?;
        let (number, rest) = answer.split_once('\n').ok_or_else(|| bad("its answer is truncated"))?;
        let number: u64 = number.parse().map_err(|_| bad("its answer has no record number"))?;
        let (lines, note) = rest.split_once("\n\n").ok_or_else(|| bad("its answer has no signed tree"))?;
        let record = format!("{lines}\n");
        let (size, root) = self.tree(note).map_err(|why| bad(&why))?;
        if number >= size {
            return Err(bad("its answer is outside its tree").into());
        }
        let mut tiles = Tiles { size, known: BTreeMap::new(), read: &read };
        let leaf = Sha256::digest([&[0], record.as_bytes()].concat()).into();
        let found = tiles.root(0, size, number, leaf)?.ok_or_else(|| bad("it withholds a part of its tree"))?;
        if found != root {
            return Err(bad("its answer is not in the tree that it signed").into());
        }
        let prefix = format!("{module} {version} ");
        let sum = record.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(sum.ok_or_else(|| bad("its answer is for a different module"))?.to_owned())
    }

    /// Verifies a signed tree, and returns its size and root hash.
    fn tree(&self, note: &str) -> Result<(u64, Hash), String> {
        let (text, signatures) = note.split_once("\n\n").ok_or("its tree has no signature")?;
        let text = format!("{text}\n");
        let signed = signatures.lines().any(|line| {
            let Some(signature) = line.strip_prefix("\u{2014} ").and_then(|line| line.strip_prefix(&self.name)) else {
                return false;
            };
            let Ok(bytes) = STANDARD.decode(signature.trim_start()) else { return false };
            let Some((hash, signature)) = bytes.split_at_checked(4) else { return false };
            let signature = Signature::from_slice(signature);
            hash == self.key_hash && signature.is_ok_and(|one| self.key.verify_strict(text.as_bytes(), &one).is_ok())
        });
        if !signed {
            return Err("its tree is not signed by its key".to_owned());
        }
        let mut lines = text.lines();
        let (title, size, hash) = (lines.next(), lines.next(), lines.next());
        let size = size.and_then(|size| size.parse().ok()).filter(|_| title == Some("go.sum database tree"));
        let hash = hash.and_then(|hash| STANDARD.decode(hash).ok()).and_then(|hash| hash.try_into().ok());
        size.zip(hash).ok_or_else(|| "its tree cannot be parsed".to_owned())
    }
}

/// The hashes of a tree (RFC 6962), read by tiles.
struct Tiles<'a> {
    size: u64,
    known: BTreeMap<(u32, u64), Vec<u8>>,
    read: &'a Read<'a>,
}

impl Tiles<'_> {
    /// Computes the hash of the leaves from `low` up to `high` (exclusive), with `leaf` as the hash of leaf `number`;
    /// `None` if a tile is missing.
    fn root(&mut self, low: u64, high: u64, number: u64, leaf: Hash) -> Result<Option<Hash>, crate::Error> {
        let count = high - low;
        if !(low..high).contains(&number) && count.is_power_of_two() {
            return self.stored(count.ilog2(), low / count);
        }
        if count == 1 {
            return Ok(Some(leaf));
        }
        // The largest power of two below the count.
        let left = 1 << (count - 1).ilog2();
        let Some(one) = self.root(low, low + left, number, leaf)? else { return Ok(None) };
        let Some(other) = self.root(low + left, high, number, leaf)? else { return Ok(None) };
        Ok(Some(node(&one, &other)))
    }

    /// Returns the hash of the full subtree with this index among those of 2^`level` leaves.
    fn stored(&mut self, level: u32, index: u64) -> Result<Option<Hash>, crate::Error> {
        let (row, depth) = (level / HEIGHT, level % HEIGHT);
        let (first, count) = (index << depth, 1u64 << depth);
        let tile = first >> HEIGHT;
        if !self.known.contains_key(&(row, tile)) {
            let there = ((self.size >> (HEIGHT * row)) - (tile << HEIGHT)).min(1 << HEIGHT);
            let part = if there == 1 << HEIGHT { String::new() } else { format!(".p/{there}") };
            let path = format!("tile/{HEIGHT}/{row}/{}{part}", in_thousands(tile));
            let Some(bytes) = (self.read)(&path)? else { return Ok(None) };
            self.known.insert((row, tile), bytes);
        }
        let start = usize::try_from(first & ((1 << HEIGHT) - 1)).unwrap_or_default() * 32;
        let bytes = self.known.get(&(row, tile)).and_then(|tile| tile.get(start..start + (count as usize) * 32));
        let Some(bytes) = bytes else { return Ok(None) };
        let mut hashes: Vec<Hash> = bytes.chunks_exact(32).filter_map(|hash| hash.try_into().ok()).collect();
        while hashes.len() > 1 {
            hashes = hashes.chunks_exact(2).map(|pair| node(&pair[0], &pair[1])).collect();
        }
        Ok(hashes.pop())
    }
}

fn node(one: &Hash, other: &Hash) -> Hash {
    Sha256::digest([&[1], one.as_slice(), other.as_slice()].concat()).into()
}

/// Formats the number of a tile as in its path: groups of three digits, with an `x` before all but the last.
fn in_thousands(mut number: u64) -> String {
    let mut path = format!("{:03}", number % 1000);
    while number >= 1000 {
        number /= 1000;
        path = format!("x{:03}/{path}", number % 1000);
    }
    path
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ed25519_dalek::{Signer, SigningKey};
    use sha2::{Digest as _, Sha256};

    use super::{Database, Hash, KNOWN_KEY, Tiles, in_thousands, node};
    use crate::go::proxy::Proxies;
    use vcnetwork::Network;

    const NAME: &str = "sums.example";

    /// Writes a database of these records in the layout of a proxy, and returns its `GOSUMDB` setting.
    fn write(folder: &Path, records: &[(String, String)]) -> String {
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = [&[1], key.verifying_key().as_bytes().as_slice()].concat();
        let key_hash = &Sha256::digest([NAME.as_bytes(), b"\n", &public].concat())[..4];
        let leaves: Vec<Hash> =
            records.iter().map(|(_, text)| Sha256::digest([&[0], text.as_bytes()].concat()).into()).collect();
        let size = leaves.len();
        let home = folder.join("sumdb").join(NAME);
        let put = |path: String, content: &[u8]| {
            let path = home.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let mut level: Vec<Hash> = leaves.clone();
        for row in 0.. {
            if level.is_empty() {
                break;
            }
            for (tile, hashes) in level.chunks(256).enumerate() {
                let part = if hashes.len() == 256 { String::new() } else { format!(".p/{}", hashes.len()) };
                put(format!("tile/8/{row}/{}{part}", in_thousands(tile as u64)), &hashes.concat());
            }
            level = level.chunks_exact(256).map(tree).collect();
        }
        let text = format!("go.sum database tree\n{size}\n{}\n", STANDARD.encode(tree(&leaves)));
        let signature = STANDARD.encode([key_hash, key.sign(text.as_bytes()).to_bytes().as_slice()].concat());
        for (number, (name, record)) in records.iter().enumerate() {
            put(
                format!("lookup/{name}"),
                format!("{number}\n{record}\n{text}\n\u{2014} {NAME} {signature}\n").as_bytes(),
            );
        }
        format!("{NAME}+{}+{}", hex::encode(key_hash), STANDARD.encode(public))
    }

    fn tree(leaves: &[Hash]) -> Hash {
        if let [one] = leaves {
            return *one;
        }
        let left = leaves.len().next_power_of_two() / 2;
        node(&tree(&leaves[..left]), &tree(&leaves[left..]))
    }

    fn records(count: usize) -> Vec<(String, String)> {
        (0..count)
            .map(|i| {
                (
                    format!("m.example/m@v1.{i}.0"),
                    format!("m.example/m v1.{i}.0 h1:{i}=\nm.example/m v1.{i}.0/go.mod h1:x=\n"),
                )
            })
            .collect()
    }

    fn ask(folder: &Path, setting: &str, version: &str) -> Result<String, crate::Error> {
        let proxies = Proxies::new(&format!("file://{}", folder.display()), &Network::Open).unwrap();
        // Nothing listens at this address: the proxy has everything.
        let setting = format!("{setting} http://127.0.0.1:1");
        Database::parse(&setting)?.sum("m.example/m", version, &proxies)
    }

    #[test]
    fn what_is_in_the_signed_tree_is_believed() {
        for count in [1, 2, 3, 7, 255, 256, 257, 1000] {
            let folder = tempfile::tempdir().unwrap();
            let setting = write(folder.path(), &records(count));
            for number in [0, count / 2, count - 1] {
                let sum = ask(folder.path(), &setting, &format!("v1.{number}.0")).unwrap();
                assert_eq!(sum, format!("h1:{number}="), "{number} of {count}");
            }
        }
    }

    #[test]
    fn what_is_not_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let setting = write(folder.path(), &records(300));
        let path = folder.path().join("sumdb").join(NAME).join("lookup/m.example/m@v1.5.0");
        let good = std::fs::read_to_string(&path).unwrap();
        let cases = [
            (good.replace("h1:5=", "h1:6="), "its answer is not in the tree that it signed"),
            (good.replacen("5\n", "6\n", 1), "its answer is not in the tree that it signed"),
            (good.replacen("5\n", "300\n", 1), "its answer is outside its tree"),
            (good.replace("tree\n300", "tree\n299"), "its tree is not signed by its key"),
            (good.replace(NAME, "other.example"), "its tree is not signed by its key"),
            (good.replace("\n\n", "\n"), "its answer has no signed tree"),
        ];
        for (text, why) in cases {
            std::fs::write(&path, text).unwrap();
            let said = ask(folder.path(), &setting, "v1.5.0").unwrap_err().to_string();
            assert_eq!(said, format!("querying checksum database {NAME} for m.example/m@v1.5.0: {why}"));
        }
        std::fs::write(&path, good).unwrap();
        let other = setting.replacen('+', "+0", 1);
        assert!(ask(folder.path(), &other, "v1.5.0").unwrap_err().to_string().contains("its key is unknown"));
    }

    #[test]
    fn the_known_key_fits_one_name_alone() {
        assert!(Database::parse("sums.example").is_err());
        let key = STANDARD.decode(KNOWN_KEY.split_once('+').unwrap().1).unwrap();
        assert_eq!((key.len(), key[0]), (33, 1), "an Ed25519 key");
    }

    #[test]
    fn tiles_are_numbered_in_thousands() {
        let paths = [0, 999, 1000, 1_234_067].map(in_thousands);
        assert_eq!(paths, ["000", "999", "x001/000", "x001/x234/067"]);
        let read = |_: &str| Ok(None);
        let mut none = Tiles { size: 2, known: Default::default(), read: &read };
        assert_eq!(none.root(0, 2, 0, [0; 32]).unwrap(), None, "a missing tile proves nothing");
    }
}

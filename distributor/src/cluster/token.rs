//! A bearer token in a file that may be replaced at any time: a pod's own token expires within the hour.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;

/// The file and the token that was last read.
pub(super) struct TokenFile {
    path: PathBuf,
    last: Mutex<HeaderValue>,
}

/// Why a file has no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("reading the token file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the token file {} has no token that could be sent", path.display())]
    Unfit { path: PathBuf },
}

impl TokenFile {
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let last = Mutex::new(read(&path)?);
        Ok(Self { path, last })
    }

    /// Returns the header with the token. If the file can no longer be read, uses the last token, because some programs
    /// delete the file after it was read.
    pub(super) fn header(&self) -> HeaderValue {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(header) = read(&self.path) {
            *last = header;
        }
        last.clone()
    }
}

/// Reads a token without the newline at the end of the file.
fn read(path: &PathBuf) -> Result<HeaderValue, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.clone(), source })?;
    let unfit = || Error::Unfit { path: path.clone() };
    let token = text.trim();
    if token.is_empty() {
        return Err(unfit());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| unfit())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::TokenFile;

    #[test]
    fn a_token_is_read_without_its_newline_and_again_when_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let error = |text: &str| {
            fs::write(&path, text).unwrap();
            TokenFile::open(path.clone()).err().map(|error| error.to_string())
        };
        let unfit = format!("the token file {} has no token that could be sent", path.display());
        assert_eq!([error("\n"), error("a\nb\n")], [Some(unfit.clone()), Some(unfit)]);
        assert_eq!(error("first\r\n"), None);
        let file = TokenFile::open(path.clone()).unwrap();
        assert_eq!(file.header(), "Bearer first");
        fs::write(&path, "second\n").unwrap();
        assert_eq!(file.header(), "Bearer second");
        fs::remove_file(&path).unwrap();
        assert_eq!(file.header(), "Bearer second");
        assert!(TokenFile::open(path).is_err());
    }
}

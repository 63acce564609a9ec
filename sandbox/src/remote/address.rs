//! The address of a build host, the argument of `--build-host`.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use vcremote::destination::{is_host, is_user};

/// `ssh://[USER@]HOST[:PORT][/FOLDER]`: a machine, and the folder on it for its store and for this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) host: String,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
    /// An absolute path; `None` for the user's cache folder.
    pub(super) folder: Option<String>,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} {why}: use ssh://USER@HOST, with :PORT and /FOLDER if needed");
        let url: Url = text.parse().map_err(|why| wrong(&format!("is not a valid URL ({why})")))?;
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let user = url.username();
        if url.scheme() != "ssh" || !is_host(&host) || !(user.is_empty() || is_user(user)) {
            return Err(wrong("has no host"));
        }
        if url.password().is_some() {
            return Err("the address of a build host contains a password: remove it, and use an SSH key".to_owned());
        }
        if url.path().contains('%') || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has a folder with unsupported characters"));
        }
        let folder = Some(url.path().trim_end_matches('/')).filter(|path| !path.is_empty()).map(str::to_owned);
        Ok(Self { host, user: (!user.is_empty()).then(|| user.to_owned()), port: url.port(), folder })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, user, port, folder } = self;
        let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "ssh://{user}{host}{port}{}", folder.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn a_host_is_named_as_ssh_names_it() {
        for text in ["ssh://builder", "ssh://ci@builder.example:2222", "ssh://builder/srv/vcbuild"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("ssh://builder/".parse::<Address>(), "ssh://builder".parse::<Address>());
        for bad in [
            "",
            "builder",
            "http://builder",
            "ssh://",
            "ssh://-x",
            "ssh://-l@a",
            "ssh://a:b@c",
            "ssh://a/b?c",
            "ssh://$(x)",
            "ssh://a;b@c",
            "ssh://%2Dx@c;d",
            "ssh://a`b`",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} must be refused");
        }
    }
}

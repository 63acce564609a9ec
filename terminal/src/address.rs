//! Removes passwords and tokens from URLs that are displayed or recorded.

use std::borrow::Cow;

/// The replacement for a secret.
const MASK: &str = "***";

/// A URL parameter is secret if its name contains one of these: `X-Amz-Signature`, `sig`, `access_token`, `apikey`.
const SECRET_PARAMETERS: [&str; 12] =
    ["token", "secret", "pass", "pwd", "sig", "cred", "key", "auth", "jwt", "session", "policy", "ticket"];

/// Masks the secrets of all URLs in a text: the credentials before a host (`https://***@host`), with ssh only the
/// password, and the values of parameters with secret names (`?token=***`).
///
/// Everything that this crate prints is masked. Code that records text that may contain a URL must mask it first.
#[must_use]
pub fn masked(text: &str) -> Cow<'_, str> {
    let secrets = secrets(text);
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    let (mut shown, mut end) = (String::with_capacity(text.len()), 0);
    for (from, to) in secrets {
        shown += &text[end..from];
        shown += MASK;
        end = to;
    }
    Cow::Owned(shown + &text[end..])
}

/// Whether a URL contains a password or a token.
#[must_use]
pub fn has_secret(address: &str) -> bool {
    !secrets(address).is_empty()
}

/// Returns the ranges of the secrets in all URLs, in order.
fn secrets(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("://").map(|at| from + at) {
        let start = at + "://".len();
        let ends = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '|');
        let end = text[start..].find(ends).map_or(text.len(), |end| start + end);
        let word = &text[start..end];
        let before = &text[..at];
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let scheme = &before[before.trim_end_matches(is_name).len()..];
        let host = login(word).map_or(start, |length| {
            found.extend(secret_of_login(scheme, &word[..length]).map(|(one, other)| (start + one, start + other)));
            start + length
        });
        // Another URL may follow in the same word, as in a list.
        let next = text[host..end].find("://").map_or(end, |next| host + next);
        found.extend(parameters(&text[host..next]).into_iter().map(|(one, other)| (host + one, host + other)));
        from = next.max(start);
    }
    found
}

/// Returns the length of the credentials after the scheme of a URL, without the `@`.
fn login(word: &str) -> Option<usize> {
    let authority = &word[..word.find(['/', '?', '#', ',']).unwrap_or(word.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    // A password that contains a slash, which no URL parser accepts: the part after the colon is not a port.
    let (_, port) = authority.rsplit_once(':')?;
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) || authority.ends_with(']');
    let next = word.find("://").unwrap_or(word.len());
    if is_port && !port.is_empty() { None } else { word[..next].rfind('@') }
}

/// Returns the secret range of credentials: user names are not secret with ssh, but may be a token with a web server.
fn secret_of_login(scheme: &str, login: &str) -> Option<(usize, usize)> {
    if !scheme.to_ascii_lowercase().contains("ssh") {
        return (!login.is_empty() && login != MASK).then_some((0, login.len()));
    }
    let colon = login.find(':')?;
    (&login[colon + 1..] != MASK).then_some((colon + 1, login.len()))
}

/// Returns the ranges of secret parameter values, after `?` and after `#`.
fn parameters(address: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let Some(query) = address.find(['?', '#']) else { return found };
    let mut at = query + 1;
    for parameter in address[at..].split(['&', ';', '#', '?']) {
        if let Some((name, value)) = parameter.split_once('=') {
            let name = name.to_ascii_lowercase();
            let value = value.trim_end_matches([',', '.', ':', ')', ']', '}']);
            if SECRET_PARAMETERS.iter().any(|part| name.contains(part)) && !value.is_empty() && value != MASK {
                let from = at + name.len() + 1;
                found.push((from, from + value.len()));
            }
        }
        at += parameter.len() + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{has_secret, masked};

    #[test]
    fn logins_are_masked_wherever_an_address_stands() {
        for (text, shown) in [
            ("https://user:s3cret@mirror.example/debian", "https://***@mirror.example/debian"),
            ("fetching \"http://ghp_token@host:8080/a.git\": 403", "fetching \"http://***@host:8080/a.git\": 403"),
            ("https://a:b%2Fc@h,https://d:e,f@h/x|direct", "https://***@h,https://***@h/x|direct"),
            ("socks5h://u:p@ss@proxy:1080", "socks5h://***@proxy:1080"),
            ("http://user:pa/ss@host/x", "http://***@host/x"),
            ("é://u:p@h and oci://u:p@[::1]:5000/r", "é://***@h and oci://***@[::1]:5000/r"),
            ("ssh://git:pw@h/a, git+ssh://git@h/a", "ssh://git:***@h/a, git+ssh://git@h/a"),
        ] {
            assert_eq!(masked(text), shown);
            assert!(has_secret(text));
            assert_eq!(masked(shown), shown, "what is masked stays as it is");
        }
    }

    #[test]
    fn tokens_in_parameters_are_masked() {
        let signed = "https://s3.example/b?X-Amz-Credential=AKIA%2F1&X-Amz-Date=1&X-Amz-Signature=ab12";
        assert_eq!(masked(signed), "https://s3.example/b?X-Amz-Credential=***&X-Amz-Date=1&X-Amz-Signature=***");
        assert_eq!(masked("(https://h/x?sv=1&sig=a%3D)"), "(https://h/x?sv=1&sig=***)");
        assert_eq!(masked("https://h/?access_token=t#id_token=u"), "https://h/?access_token=***#id_token=***");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "https://host:6443/path@v1?ref=main",
            "https://[::1]:5000/v2/",
            "ssh://root@node:22/srv",
            "git@github.com:team/app.git",
            "docker.io/a/b:latest@sha256:12",
            "file:///tmp/a@b",
            "http://a.example, b@c",
            "://",
            "no address",
        ] {
            assert_eq!(masked(text), text);
        }
    }
}

//! The authentication challenges of a registry (`WWW-Authenticate`, RFC 9110 section 11.6.1), and the tokens that
//! answer them (distribution's token authentication).

use serde::Deserialize;

/// The required kind of authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// With name and password in every request.
    Basic,
    /// With a token from another server.
    Bearer { realm: String, service: Option<String> },
}

/// The response of a token server; some use `token`, others `access_token`.
#[derive(Deserialize)]
pub(super) struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Challenge {
    /// Returns the preferred supported challenge among these header values.
    pub(super) fn among<'a>(values: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for value in values {
            let (scheme, parameters) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                let parameters = parse(parameters);
                let find = |name: &str| {
                    let fits = |(known, _): &&(String, String)| known.eq_ignore_ascii_case(name);
                    parameters.iter().find(fits).map(|(_, value)| value.clone())
                };
                if let Some(realm) = find("realm") {
                    return Some(Self::Bearer { realm, service: find("service") });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

impl Token {
    pub(super) fn text(self) -> Option<String> {
        self.token.or(self.access_token).filter(|token| !token.is_empty())
    }
}

/// Parses `name="value", name=value`; quoted values may contain commas and escaped quotes.
fn parse(text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_owned();
        let mut value = String::new();
        let mut letters = after.chars();
        if after.starts_with('"') {
            letters.next();
            while let Some(letter) = letters.next() {
                match letter {
                    '"' => break,
                    '\\' => value.extend(letters.next()),
                    letter => value.push(letter),
                }
            }
        } else {
            value = after.split(',').next().unwrap_or_default().trim().to_owned();
            letters = after[after.find(',').unwrap_or(after.len())..].chars();
        }
        parameters.push((name, value));
        rest = letters.as_str();
    }
    parameters
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Challenge;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        let hub =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull,push""#;
        assert_eq!(Challenge::among([hub].into_iter()), bearer("https://auth.example/token", Some("registry.example")));
        let bare = "bearer error=invalid, realm=https://a.example/t";
        assert_eq!(Challenge::among(["Basic realm=\"x\"", bare].into_iter()), bearer("https://a.example/t", None));
        assert_eq!(Challenge::among(["Basic realm=\"x\""].into_iter()), Some(Challenge::Basic));
        assert_eq!(Challenge::among(["Negotiate", "Bearer service=\"x\""].into_iter()), None);
    }

    proptest! {
        #[test]
        fn any_words_are_read_without_a_panic(words in ".{0,80}") {
            let _ = Challenge::among([words.as_str(), &format!("Bearer {words}")].into_iter());
        }
    }
}

//! Templates in a project file, with `{name}` placeholders that are checked when the file is parsed.

/// A text with `{name}` placeholders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Piece {
    Text(String),
    Name(String),
}

impl Template {
    /// Parses a template with these names.
    ///
    /// # Errors
    /// When it contains another name or an unmatched brace; the error is a message.
    pub(crate) fn parse(text: &str, names: &[&str]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(start);
            let Some((name, after)) = brace.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
                return Err(format!("{text:?} has an unmatched brace"));
            };
            if !names.contains(&name) {
                return Err(format!("{text:?} contains {{{name}}}, but the allowed names are {}", list(names)));
            }
            pieces.extend([Piece::Text(before.to_owned()), Piece::Name(name.to_owned())]);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }

    /// Parses a template in which braces with other names have no special meaning, as in shell code.
    pub(crate) fn with_own_braces(text: &str, names: &[&str]) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        let first = |text: &str| {
            let places = names.iter().filter_map(|name| Some((text.find(&format!("{{{name}}}"))?, (*name).to_owned())));
            places.min()
        };
        while let Some((start, name)) = first(rest) {
            pieces.push(Piece::Text(rest[..start].to_owned()));
            rest = &rest[start + name.len() + 2..];
            pieces.push(Piece::Name(name));
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Self(pieces)
    }

    /// Replaces the placeholders by their values. A name without a value becomes empty.
    pub(crate) fn fill(&self, values: &[(&str, &str)]) -> String {
        let value = |name: &str| values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Name(name) => value(name),
            })
            .collect()
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::Template;

    #[test]
    fn names_give_way_to_values() {
        let template = Template::parse("vc_{component}-{arch}.tar", &["component", "arch"]).unwrap();
        assert_eq!(template.fill(&[("arch", "arm64"), ("component", "vn-agent")]), "vc_vn-agent-arm64.tar");
        assert_eq!(Template::parse("plain", &[]).unwrap().fill(&[]), "plain");
    }

    #[test]
    fn braces_of_others_stay() {
        let template = Template::with_own_braces("echo ${HOME} {arch}{arch} }{ {archive}", &["arch", "version"]);
        assert_eq!(template.fill(&[("arch", "{version}")]), "echo ${HOME} {version}{version} }{ {archive}");
    }

    #[test]
    fn what_cannot_stand_there_is_refused_by_name() {
        let refused = |text| Template::parse(text, &["component", "arch"]).unwrap_err();
        assert_eq!(refused("{os}.tar"), r#""{os}.tar" contains {os}, but the allowed names are {component}, {arch}"#);
        assert_eq!(refused("a}"), r#""a}" has an unmatched brace"#);
        assert_eq!(refused("{arch"), r#""{arch" has an unmatched brace"#);
    }
}

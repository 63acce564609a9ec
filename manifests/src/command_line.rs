//! What a component's container runs: the program and its arguments. Arguments of the caller replace those that the manifests
//! have for the same flag.

use std::collections::BTreeMap;

use crate::{Component, Error};

/// The program and arguments of one component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The program in the image; none for the component's own name, under which vcbuild's images have it.
    pub command: Option<Vec<String>>,
    /// Arguments beside those of the manifests. `--NAME=VALUE` replaces the one that the manifests have for `--NAME`.
    pub args: Vec<String>,
}

/// The command lines of all components.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLines(pub BTreeMap<Component, CommandLine>);

impl CommandLines {
    pub(crate) fn command(&self, component: Component) -> Vec<String> {
        let given = self.0.get(&component).and_then(|line| line.command.clone());
        given.unwrap_or_else(|| vec![component.name().to_owned()])
    }

    /// The arguments of a component, given those that the manifests have for it.
    pub(crate) fn args(&self, component: Component, ours: Vec<String>) -> Vec<String> {
        let given = self.0.get(&component).map(|line| line.args.as_slice()).unwrap_or_default();
        let is_replaced = |ours: &String| given.iter().any(|other| flag(other).is_some() && flag(other) == flag(ours));
        let kept = ours.into_iter().filter(|ours| !is_replaced(ours));
        kept.chain(given.iter().cloned()).collect()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let empty = self.0.iter().find(|(_, line)| line.command.as_ref().is_some_and(Vec::is_empty));
        empty.map_or(Ok(()), |(component, _)| Err(Error::NoCommand { component: component.name() }))
    }
}

/// The name of the flag that an argument is for; none for another word.
pub(crate) fn flag(argument: &str) -> Option<&str> {
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    Some(name.split_once('=').map_or(name, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, CommandLines};
    use crate::Component;

    fn given(component: Component, args: &[&str]) -> CommandLines {
        let args = args.iter().map(|&argument| argument.to_owned()).collect();
        CommandLines([(component, CommandLine { command: None, args })].into())
    }

    #[test]
    fn an_argument_replaces_the_one_of_the_same_flag_and_others_follow() {
        let ours = || vec!["--a=1".to_owned(), "--b=2".to_owned()];
        let args = |args: &[&str]| given(Component::Manager, args).args(Component::Manager, ours());
        assert_eq!(args(&[]), ["--a=1", "--b=2"]);
        assert_eq!(args(&["--b=3", "--c", "word"]), ["--a=1", "--b=3", "--c", "word"]);
        assert_eq!(args(&["-a=4", "-a=5"]), ["--b=2", "-a=4", "-a=5"]);
        assert_eq!(given(Component::Syncer, &["--a=9"]).args(Component::Manager, ours()), ours());
    }
}

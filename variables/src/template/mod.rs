//! Jinja as Ansible gives it variables: minijinja parses a text, and this module works out its value with Python's values and rules.
//!
//! A name that is not defined ends the work at once, unless `default`, `is defined` or another of that kind asks for it. Work and
//! depth are bounded by a [`Budget`].

mod arguments;
mod evaluate;
mod filters;
mod json;
mod lists;
mod methods;
mod nesting;
mod operators;
mod predicates;
mod regexes;
mod statements;
mod texts;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use minijinja::machinery::{ast, parse};
use minijinja::syntax::SyntaxConfig;
use regex::Regex;

use crate::value::Value;
use crate::yaml::Node;

/// The steps and bytes that resolving one variable may take.
const MOST: u64 = 1_000_000;

/// Those that all variables of a host may take together.
const MOST_IN_ALL: u64 = 5_000_000;

/// How many compiled regular expressions are kept.
const MOST_REGEXES: usize = 64;

/// How deep expressions and variables may refer to each other. A debug build's thread has 2 MiB for it.
const DEEPEST: usize = 160;

/// Why a value cannot be worked out. What refers to what is known to whoever resolves the names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fail {
    /// A name, an attribute or an item is not there: the words for it.
    Undefined(String, Vec<String>),
    /// Only Ansible can work it out: what it is, and what to do.
    Refused(String, Vec<String>),
    /// The template is wrong.
    Wrong(String, Vec<String>),
}

impl Fail {
    /// A template that is wrong.
    pub(crate) fn wrong(why: impl Into<String>) -> Self {
        Self::Wrong(why.into(), Vec::new())
    }

    /// What only Ansible can work out.
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused(what.into(), Vec::new())
    }

    /// What is not there.
    pub(crate) fn undefined(what: impl Into<String>) -> Self {
        Self::Undefined(what.into(), Vec::new())
    }

    /// The same, with the variables that led there, the outermost first, unless they are known.
    #[must_use]
    pub(crate) fn through(mut self, chain: impl FnOnce() -> Vec<String>) -> Self {
        let (Self::Undefined(_, known) | Self::Refused(_, known) | Self::Wrong(_, known)) = &mut self;
        if known.is_empty() {
            *known = chain();
        }
        self
    }
}

/// What names stand for.
pub(crate) trait Names {
    /// The value of a variable.
    ///
    /// # Errors
    /// When it has none.
    fn lookup(&self, name: &str) -> Result<Value, Fail>;

    /// A variable that is a list or a mapping, before anything in it is resolved, so that only what is asked for is.
    fn container(&self, name: &str) -> Option<Node>;

    /// The value of a part of a variable, by the path to it, such as `a.b`.
    ///
    /// # Errors
    /// When it has none.
    fn part(&self, path: &str, node: &Node) -> Result<Value, Fail>;

    /// A variable of another host.
    ///
    /// # Errors
    /// When it has none.
    fn of_host(&self, host: &str, name: &str) -> Result<Value, Fail>;

    /// A variable of the environment; empty where it is not set, as Ansible has it.
    fn environment(&self, name: &str) -> String;

    /// What may still be spent.
    fn budget(&self) -> &Budget;
}

/// What resolving a variable may take.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Cell<u64>,
    in_all: Cell<u64>,
    depth: Cell<usize>,
    /// Regular expressions by their pattern and flags, since many values are often matched by one.
    regexes: RefCell<BTreeMap<(String, bool, bool), Regex>>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: Cell::new(MOST), in_all: Cell::new(MOST_IN_ALL), depth: Cell::new(0), regexes: RefCell::default() }
    }
}

impl Budget {
    /// Takes from it.
    ///
    /// # Errors
    /// When it is used up.
    pub(crate) fn spend(&self, count: u64) -> Result<(), Fail> {
        let (left, in_all) = (self.left.get().checked_sub(count), self.in_all.get().checked_sub(count));
        // Once it is used up, nothing more is done.
        self.left.set(left.unwrap_or(0));
        self.in_all.set(in_all.unwrap_or(0));
        match (left, in_all) {
            (Some(_), Some(_)) => Ok(()),
            (None, _) => Err(Fail::wrong(format!("it takes more than {MOST} steps or bytes of text"))),
            (_, None) => Err(Fail::wrong(format!("the variables take more than {MOST_IN_ALL} steps or bytes of text"))),
        }
    }

    /// Takes what writing a value out takes.
    ///
    /// # Errors
    /// As [`Self::spend`].
    pub(crate) fn spend_on(&self, value: &Value) -> Result<(), Fail> {
        self.spend(value.size(self.left.get().saturating_add(1)))
    }

    /// Fills it again, for the next variable that is asked for.
    pub(crate) fn refill(&self) {
        self.left.set(MOST);
    }

    /// The regular expression of a pattern, which `compile` makes if it is not known.
    pub(crate) fn regex(
        &self,
        key: (String, bool, bool),
        compile: impl FnOnce() -> Result<Regex, Fail>,
    ) -> Result<Regex, Fail> {
        if let Some(known) = self.regexes.borrow().get(&key) {
            return Ok(known.clone());
        }
        // A compilation takes as long as many other steps.
        self.spend(5000 + 50 * key.0.len() as u64)?;
        let regex = compile()?;
        let mut regexes = self.regexes.borrow_mut();
        if regexes.len() >= MOST_REGEXES {
            regexes.clear();
        }
        regexes.insert(key, regex.clone());
        Ok(regex)
    }

    /// Goes one level deeper for as long as `work` takes.
    pub(crate) fn deeper<T>(&self, work: impl FnOnce() -> Result<T, Fail>) -> Result<T, Fail> {
        self.spend(1)?;
        if self.depth.get() >= DEEPEST {
            return Err(Fail::wrong(format!("its expressions and variables are nested more than {DEEPEST} deep")));
        }
        self.depth.set(self.depth.get() + 1);
        let result = work();
        self.depth.set(self.depth.get() - 1);
        result
    }
}

/// Works out a text with Jinja in it. What is one expression keeps its type; anything else is text.
///
/// # Errors
/// When it has no value.
pub(crate) fn render(text: &str, names: &dyn Names) -> Result<Value, Fail> {
    names.budget().spend(text.len() as u64)?;
    // Jinja drops one line end at the end; Ansible puts it back where the result is text.
    let body = text.strip_suffix('\n').unwrap_or(text);
    let body = literal_backslashes(body);
    let tree = tree(&body)?;
    let value = statements::Renderer::new(names).template(&tree)?;
    match value {
        Value::Str(rendered) if text.ends_with('\n') => {
            let ends = |text: &str| text.len() - text.trim_end_matches('\n').len();
            let missing = ends(text).saturating_sub(ends(&rendered));
            Ok(Value::text(format!("{rendered}{}", "\n".repeat(missing))))
        }
        value => Ok(value),
    }
}

/// The text with the backslashes doubled of strings within `{{ }}`, where Ansible takes them literally, so that people may write
/// regular expressions.
fn literal_backslashes(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len() + 16), text);
    while let Some(at) = rest.find("{{") {
        let (before, inside) = rest.split_at(at + 2);
        out.push_str(before);
        let mut quote = None;
        let mut end = inside.len();
        let mut chars = inside.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if quote.is_none() && inside[at..].starts_with("}}") {
                end = at;
                break;
            }
            out.push(c);
            match (quote, c) {
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if c == open => quote = None,
                (Some(_), '\\') => {
                    out.push('\\');
                    // What is behind it does not end the string, where Jinja looks for strings.
                    if let Some((_, next)) = chars.next() {
                        out.push_str(if next == '\\' { "\\\\" } else { "" });
                        out.extend((next != '\\').then_some(next));
                    }
                }
                _ => {}
            }
        }
        rest = &inside[end..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The syntax tree of a text.
fn tree(text: &str) -> Result<ast::Stmt<'_>, Fail> {
    let wrong = |error: minijinja::Error| {
        Fail::wrong(format!("it is not valid Jinja: {}", error.detail().unwrap_or("syntax error")))
    };
    let syntax = SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build().map_err(wrong)?;
    nesting::check(text, &syntax)?;
    parse(text, "variable", syntax).map_err(wrong)
}

//! Python's regular expressions, as Rust's: replacements and group references are read here, and what a pattern can do in Python
//! alone is refused.

use regex::{Captures, Regex, RegexBuilder};

use super::arguments::Arguments;
use super::{Budget, Fail};
use crate::value::Value;

/// The most memory that a compiled expression may take.
const LARGEST: usize = 1 << 20;

/// What a filter makes of a value.
pub(super) fn apply(name: &str, value: &Value, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    let text = value.to_string();
    match name {
        "regex_replace" => {
            arguments.only(4, &["pattern", "replacement", "ignorecase", "multiline"])?;
            let pattern = arguments.get(0, "pattern").map(Value::to_string).unwrap_or_default();
            let regex = compile(&pattern, arguments.is_on(2, "ignorecase"), arguments.is_on(3, "multiline"), budget)?;
            let replacement = arguments.get(1, "replacement").map(Value::to_string).unwrap_or_default();
            replace(&regex, &text, &Replacement::read(&replacement, &regex)?, budget).map(Value::text)
        }
        "regex_search" => search(&text, arguments, budget),
        "regex_findall" => {
            arguments.only(3, &["regex", "multiline", "ignorecase"])?;
            let regex = arguments.text(0, "regex")?;
            let regex = compile(&regex, arguments.is_on(2, "ignorecase"), arguments.is_on(1, "multiline"), budget)?;
            find_all(&regex, &text, budget)
        }
        _ => {
            arguments.only(0, &[])?;
            Ok(Value::text(escaped(&text)))
        }
    }
}

/// Whether a value matches: `match` from its beginning, the others anywhere.
pub(super) fn is_match(test: &str, value: &Value, arguments: &Arguments, budget: &Budget) -> Result<bool, Fail> {
    arguments.only(3, &["pattern", "ignorecase", "multiline", "match_type"])?;
    if arguments.get(usize::MAX, "match_type").is_some() {
        return Err(Fail::refused("the argument match_type"));
    }
    let pattern = arguments.text(0, "pattern")?;
    let pattern = if test.ends_with("match") { format!("\\A(?:{pattern})") } else { pattern };
    let regex = compile(&pattern, arguments.is_on(1, "ignorecase"), arguments.is_on(2, "multiline"), budget)?;
    Ok(regex.is_match(&value.to_string()))
}

fn compile(pattern: &str, ignore_case: bool, multi_line: bool, budget: &Budget) -> Result<Regex, Fail> {
    budget.regex((pattern.to_owned(), ignore_case, multi_line), || compile_new(pattern, ignore_case, multi_line))
}

fn compile_new(pattern: &str, ignore_case: bool, multi_line: bool) -> Result<Regex, Fail> {
    // Python's end of the text is \Z; Rust's is \z.
    let (mut own, mut chars) = (String::new(), pattern.chars());
    while let Some(c) = chars.next() {
        own.push(c);
        if c == '\\'
            && let Some(next) = chars.next()
        {
            own.push(if next == 'Z' { 'z' } else { next });
        }
    }
    RegexBuilder::new(&own)
        .case_insensitive(ignore_case)
        .multi_line(multi_line)
        .size_limit(LARGEST)
        .dfa_size_limit(LARGEST)
        .build()
        .map_err(|error| {
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Fail::refused(format!("the regular expression {pattern:?}, which vcdist cannot read ({why})"))
        })
}

fn search(text: &str, arguments: &Arguments, budget: &Budget) -> Result<Value, Fail> {
    arguments.only(usize::MAX, &["regex", "multiline", "ignorecase"])?;
    let on = |name| arguments.is_on(usize::MAX, name);
    let regex = compile(&arguments.text(0, "regex")?, on("ignorecase"), on("multiline"), budget)?;
    let Some(found) = regex.captures(text) else { return Ok(Value::Null) };
    let groups: Vec<Value> = arguments
        .by_place
        .iter()
        .skip(1)
        .map(|group| {
            let group = group.to_string();
            let unknown = || Fail::wrong(format!("{group:?} is not a group such as \\1 or \\g<name>"));
            let name = group.strip_prefix("\\g<").and_then(|rest| rest.strip_suffix('>')).or(group.strip_prefix('\\'));
            value_of(&found, &Group::read(name.ok_or_else(unknown)?, &regex)?)
        })
        .collect::<Result<_, Fail>>()?;
    if groups.is_empty() { Ok(Value::text(&found[0])) } else { Ok(Value::list(groups)) }
}

fn value_of(found: &Captures<'_>, group: &Group) -> Result<Value, Fail> {
    let text = match group {
        Group::Number(number) => found.get(*number),
        Group::Name(name) => found.name(name),
    };
    Ok(text.map_or(Value::Null, |text| Value::text(text.as_str())))
}

fn find_all(regex: &Regex, text: &str, budget: &Budget) -> Result<Value, Fail> {
    let group = |found: &Captures<'_>, at: usize| Value::text(found.get(at).map_or("", |text| text.as_str()));
    let mut all = Vec::new();
    for found in matches(regex, text) {
        budget.spend(1 + found[0].len() as u64)?;
        all.push(match found.len() {
            1 => group(&found, 0),
            2 => group(&found, 1),
            count => Value::list((1..count).map(|at| group(&found, at)).collect()),
        });
    }
    Ok(Value::list(all))
}

/// The matches as Python finds them: an empty one may follow right behind one that is not.
fn matches<'t>(regex: &Regex, text: &'t str) -> Vec<Captures<'t>> {
    let mut all = Vec::new();
    let mut at = 0;
    while at <= text.len() {
        let Some(found) = regex.captures_at(text, at) else { break };
        let (start, end) = found.get(0).map_or((at, at), |whole| (whole.start(), whole.end()));
        let step = text[end..].chars().next().map_or(1, char::len_utf8);
        all.push(found);
        at = if end > start { end } else { end + step };
    }
    all
}

/// A group of an expression.
enum Group {
    Number(usize),
    Name(String),
}

impl Group {
    fn read(text: &str, regex: &Regex) -> Result<Self, Fail> {
        let unknown = || Fail::wrong(format!("the regular expression has no group {text}"));
        match text.parse::<usize>() {
            Ok(number) if number < regex.captures_len() => Ok(Self::Number(number)),
            Ok(_) => Err(unknown()),
            Err(_) if regex.capture_names().flatten().any(|name| name == text) => Ok(Self::Name(text.to_owned())),
            Err(_) => Err(unknown()),
        }
    }
}

/// A replacement of Python's: text, and groups as `\1` or `\g<name>`.
struct Replacement(Vec<Part>);

enum Part {
    Text(String),
    Group(Group),
}

impl Replacement {
    fn read(text: &str, regex: &Regex) -> Result<Self, Fail> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\\') {
            plain.push_str(before);
            let Some(next) = after.chars().next() else { return Err(Fail::wrong("a replacement ends with \\")) };
            rest = &after[next.len_utf8()..];
            let group = match next {
                '0' => {
                    plain.push('\0');
                    None
                }
                '1'..='9' => {
                    let digits = after.bytes().take(2).take_while(u8::is_ascii_digit).count();
                    rest = &after[digits..];
                    Some(&after[..digits])
                }
                'g' => {
                    let named = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
                    let (name, behind) = named.ok_or_else(|| Fail::wrong("\\g in a replacement needs <NAME>"))?;
                    rest = behind;
                    Some(name)
                }
                'n' => push(&mut plain, '\n'),
                't' => push(&mut plain, '\t'),
                'r' => push(&mut plain, '\r'),
                '\\' => push(&mut plain, '\\'),
                letter if letter.is_ascii_alphabetic() => {
                    return Err(Fail::wrong(format!("\\{letter} in a replacement means nothing")));
                }
                other => {
                    plain.push('\\');
                    push(&mut plain, other)
                }
            };
            if let Some(group) = group {
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Group(Group::read(group, regex)?));
            }
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        Ok(Self(parts))
    }
}

fn push<'a>(text: &mut String, c: char) -> Option<&'a str> {
    text.push(c);
    None
}

fn replace(regex: &Regex, text: &str, replacement: &Replacement, budget: &Budget) -> Result<String, Fail> {
    let (mut out, mut at) = (String::new(), 0);
    for found in matches(regex, text) {
        let Some(whole) = found.get(0) else { continue };
        out.push_str(&text[at..whole.start()]);
        at = whole.end();
        let before = out.len();
        for part in &replacement.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(Group::Number(number)) => out.push_str(found.get(*number).map_or("", |text| text.as_str())),
                Part::Group(Group::Name(name)) => out.push_str(found.name(name).map_or("", |text| text.as_str())),
            }
        }
        budget.spend(1 + (out.len() - before) as u64)?;
    }
    out.push_str(&text[at..]);
    Ok(out)
}

/// Python's `re.escape()`.
fn escaped(text: &str) -> String {
    let special = |c: char| "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}".contains(c);
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

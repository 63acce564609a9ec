//! How deep the syntax tree of a template would be, before it is made: the parser takes room for each level, and giving a tree
//! back does too.

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::Fail;

/// More brackets within brackets than any expression has.
const MOST_BRACKETS: usize = 24;

/// More operators, filters and attributes in a row than any expression has.
const MOST_IN_A_ROW: usize = 100;

/// More statements than any variable has.
const MOST_STATEMENTS: usize = 200;

/// Refuses a text whose syntax tree would be deeper than any that people write.
pub(super) fn check(text: &str, syntax: &SyntaxConfig) -> Result<(), Fail> {
    let deep = |what: &str, most: usize| Fail::wrong(format!("it has more than {most} {what}"));
    let (mut statements, mut brackets) = (0, Vec::new());
    let mut row = 0;
    for token in tokenize(text, false, syntax.clone()) {
        // What is wrong with it the parser says.
        let Ok((token, _)) = token else { return Ok(()) };
        match token {
            Token::BlockStart => {
                statements += 1;
                (row, brackets) = (0, Vec::new());
            }
            Token::VariableStart => (row, brackets) = (0, Vec::new()),
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => {
                brackets.push(row + 1);
                row = 0;
            }
            Token::ParenClose | Token::BracketClose | Token::BraceClose => row = brackets.pop().unwrap_or(0),
            Token::Comma | Token::Colon => row = 0,
            Token::Ident(name) if !matches!(name, "and" | "or" | "not" | "in" | "is" | "if" | "else") => {}
            Token::TemplateData(_) | Token::Str(_) | Token::String(_) | Token::Int(_) | Token::Float(_) => {}
            _ => row += 1,
        }
        if statements > MOST_STATEMENTS {
            return Err(deep("statements", MOST_STATEMENTS));
        }
        if brackets.len() > MOST_BRACKETS {
            return Err(deep("brackets within each other", MOST_BRACKETS));
        }
        if row > MOST_IN_A_ROW {
            return Err(deep("operators in a row", MOST_IN_A_ROW));
        }
    }
    Ok(())
}

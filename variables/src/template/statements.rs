//! Templates and their statements: text, `{{ … }}`, `{% if %}`, `{% for %}`, `{% set %}`, `{% with %}`.

use std::cell::RefCell;

use indexmap::IndexMap;
use minijinja::machinery::ast::{Expr, ForLoop, Stmt};

use super::{Fail, Names};
use crate::value::{Key, Value};

/// Works out one template.
pub(super) struct Renderer<'n> {
    pub(super) names: &'n dyn Names,
    /// The names that the template itself sets, the innermost last.
    locals: RefCell<Vec<IndexMap<String, Value>>>,
}

impl<'n> Renderer<'n> {
    pub(super) fn new(names: &'n dyn Names) -> Self {
        Self { names, locals: RefCell::new(vec![IndexMap::new()]) }
    }

    /// A name that the template itself set.
    pub(super) fn local(&self, name: &str) -> Option<Value> {
        self.locals.borrow().iter().rev().find_map(|frame| frame.get(name).cloned())
    }

    /// The value of a whole template.
    pub(super) fn template(&self, tree: &Stmt<'_>) -> Result<Value, Fail> {
        let Stmt::Template(template) = tree else { return Err(Fail::wrong("it is not a template")) };
        if let [Stmt::EmitExpr(only)] = template.children.as_slice() {
            return self.eval(&only.expr);
        }
        let mut out = String::new();
        self.statements(&template.children, &mut out)?;
        Ok(Value::text(out))
    }

    fn statements(&self, statements: &[Stmt<'_>], out: &mut String) -> Result<(), Fail> {
        statements.iter().try_for_each(|statement| self.names.budget().deeper(|| self.statement(statement, out)))
    }

    fn statement(&self, statement: &Stmt<'_>, out: &mut String) -> Result<(), Fail> {
        match statement {
            Stmt::EmitRaw(raw) => self.add(out, raw.raw),
            Stmt::EmitExpr(emit) => {
                let text = self.text(&self.eval(&emit.expr)?)?;
                self.add(out, &text)
            }
            Stmt::IfCond(condition) => {
                let branch =
                    if self.eval(&condition.expr)?.is_true() { &condition.true_body } else { &condition.false_body };
                self.statements(branch, out)
            }
            Stmt::ForLoop(each) => self.each(each, out),
            Stmt::Set(set) => {
                let value = self.eval(&set.expr)?;
                self.bind(&set.target, value)
            }
            Stmt::WithBlock(with) => self.framed(|| {
                for (target, expr) in &with.assignments {
                    let value = self.eval(expr)?;
                    self.bind(target, value)?;
                }
                self.statements(&with.body, out)
            }),
            _ => Err(Fail::refused("a statement of Jinja other than if, for, set and with")),
        }
    }

    fn add(&self, out: &mut String, text: &str) -> Result<(), Fail> {
        self.names.budget().spend(text.len() as u64)?;
        out.push_str(text);
        Ok(())
    }

    /// A value as text. Ansible writes nothing for null.
    pub(super) fn text(&self, value: &Value) -> Result<String, Fail> {
        self.names.budget().spend_on(value)?;
        Ok(if *value == Value::Null { String::new() } else { value.to_string() })
    }

    fn framed<T>(&self, work: impl FnOnce() -> Result<T, Fail>) -> Result<T, Fail> {
        self.locals.borrow_mut().push(IndexMap::new());
        let result = work();
        self.locals.borrow_mut().pop();
        result
    }

    fn each(&self, each: &ForLoop<'_>, out: &mut String) -> Result<(), Fail> {
        if each.recursive {
            return Err(Fail::refused("a recursive loop"));
        }
        let mut items = self.items(&self.eval(&each.iter)?)?;
        if let Some(condition) = &each.filter_expr {
            let mut kept = Vec::new();
            for item in items {
                let meant = self.framed(|| {
                    self.bind(&each.target, item.clone())?;
                    Ok(self.eval(condition)?.is_true())
                })?;
                kept.extend(meant.then_some(item));
            }
            items = kept;
        }
        if items.is_empty() {
            return self.statements(&each.else_body, out);
        }
        let count = items.len();
        for (at, item) in items.into_iter().enumerate() {
            self.framed(|| {
                self.bind(&each.target, item)?;
                self.set("loop", position(at, count));
                self.statements(&each.body, out)
            })?;
        }
        Ok(())
    }

    fn set(&self, name: &str, value: Value) {
        if let Some(frame) = self.locals.borrow_mut().last_mut() {
            frame.insert(name.to_owned(), value);
        }
    }

    fn bind(&self, target: &Expr<'_>, value: Value) -> Result<(), Fail> {
        let targets = match target {
            Expr::Var(var) => {
                self.set(var.id, value);
                return Ok(());
            }
            Expr::List(list) => &list.items,
            Expr::Tuple(tuple) => &tuple.items,
            _ => return Err(Fail::refused("an assignment to something other than a name")),
        };
        let items = self.items(&value)?;
        if items.len() != targets.len() {
            return Err(Fail::wrong(format!("{} values are assigned to {} names", items.len(), targets.len())));
        }
        targets.iter().zip(items).try_for_each(|(target, item)| self.bind(target, item))
    }
}

/// Jinja's `loop`.
fn position(at: usize, count: usize) -> Value {
    let number = |number: usize| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    let entries = [
        ("index", number(at + 1)),
        ("index0", number(at)),
        ("revindex", number(count - at)),
        ("revindex0", number(count - at - 1)),
        ("first", Value::Bool(at == 0)),
        ("last", Value::Bool(at + 1 == count)),
        ("length", number(count)),
    ];
    Value::map(entries.into_iter().map(|(name, value)| (Key::of(name), value)).collect())
}

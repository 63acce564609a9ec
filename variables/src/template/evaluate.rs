//! Expressions: names, attributes, items, calls, filters and tests.

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, CallType, Expr, Filter, Slice, Test, UnaryOpKind};

use super::arguments::Arguments;
use super::operators::{binary, compare, negative, slice};
use super::statements::Renderer;
use super::{Fail, filters, methods, predicates};
use crate::value::{Key, Map, Value};
use crate::yaml::{Content, Node};

/// The result of an expression: a value, or a list or mapping whose items are not resolved yet.
enum Thing {
    Value(Value),
    /// With the path to it.
    Node(String, Node),
}

impl Renderer<'_> {
    /// The value of an expression.
    pub(super) fn eval(&self, expr: &Expr<'_>) -> Result<Value, Fail> {
        self.names.budget().deeper(|| match expr {
            Expr::Var(_) | Expr::GetAttr(_) | Expr::GetItem(_) => match self.thing(expr)? {
                Thing::Value(value) => Ok(value),
                Thing::Node(path, node) => self.names.part(&path, &node),
            },
            Expr::Const(constant) => self.constant(&constant.value),
            Expr::Slice(part) => self.part(part),
            Expr::UnaryOp(operation) => {
                let value = self.eval(&operation.expr)?;
                match operation.op {
                    UnaryOpKind::Not => Ok(Value::Bool(!value.is_true())),
                    UnaryOpKind::Neg => negative(&value),
                }
            }
            Expr::BinOp(operation) => self.operation(operation.op, &operation.left, &operation.right),
            Expr::Compare(chain) => {
                let mut left = self.eval(&chain.expr)?;
                for next in &chain.ops {
                    let right = self.eval(&next.expr)?;
                    self.names.budget().spend_on(&left)?;
                    self.names.budget().spend_on(&right)?;
                    if !compare(next.op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::IfExpr(choice) => {
                if self.eval(&choice.test_expr)?.is_true() {
                    self.eval(&choice.true_expr)
                } else if let Some(other) = &choice.false_expr {
                    self.eval(other)
                } else {
                    Err(Fail::undefined("the value of an if without else"))
                }
            }
            Expr::Filter(filter) => self.filter(filter),
            Expr::Test(test) => self.test(test).map(Value::Bool),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.all(&list.items).map(Value::list),
            Expr::Tuple(tuple) => self.all(&tuple.items).map(Value::list),
            Expr::Map(map) => self.mapping(&map.keys, &map.values),
        })
    }

    fn all(&self, items: &[Expr<'_>]) -> Result<Vec<Value>, Fail> {
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn mapping(&self, keys: &[Expr<'_>], values: &[Expr<'_>]) -> Result<Value, Fail> {
        let mut map = Map::new();
        for (key, value) in keys.iter().zip(values) {
            let key = self.eval(key)?;
            let key = key.key().ok_or_else(|| Fail::wrong(format!("{} cannot be a key", key.kind())))?;
            map.insert(key, self.eval(value)?);
        }
        Ok(Value::map(map))
    }

    fn part(&self, part: &Slice<'_>) -> Result<Value, Fail> {
        let bound = |expr: &Option<Expr<'_>>| match expr.as_ref().map(|expr| self.eval(expr)).transpose()? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Int(int)) => Ok(Some(int)),
            Some(other) => Err(Fail::wrong(format!("{} cannot be a bound", other.kind()))),
        };
        let value = self.eval(&part.expr)?;
        self.names.budget().spend_on(&value)?;
        slice(&value, bound(&part.start)?, bound(&part.stop)?, bound(&part.step)?)
    }

    /// A constant of the template, which the parser has made a value of its own from.
    fn constant(&self, value: &minijinja::Value) -> Result<Value, Fail> {
        use minijinja::value::ValueKind;
        let odd = || Fail::wrong(format!("the constant {value} is out of range"));
        Ok(match value.kind() {
            ValueKind::None => Value::Null,
            ValueKind::Bool => Value::Bool(value.is_true()),
            ValueKind::Number if value.is_integer() => Value::Int(value.as_i64().ok_or_else(odd)?),
            ValueKind::Number => Value::Float(f64::try_from(value.clone()).map_err(|_| odd())?),
            ValueKind::String => Value::text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().map_err(|_| odd())?;
                Value::list(items.map(|item| self.constant(&item)).collect::<Result<_, _>>()?)
            }
            _ => return Err(odd()),
        })
    }

    /// A name, an attribute or an item. Of a list or mapping among the variables, only the part that is asked for is resolved.
    fn thing(&self, expr: &Expr<'_>) -> Result<Thing, Fail> {
        match expr {
            Expr::Var(var) => {
                if let Some(value) = self.local(var.id) {
                    return Ok(Thing::Value(value));
                }
                match self.names.container(var.id) {
                    Some(node) => Ok(Thing::Node(var.id.to_owned(), node)),
                    None => self.names.lookup(var.id).map(Thing::Value),
                }
            }
            Expr::GetAttr(get) => self.member_of(&get.expr, &Value::text(get.name)),
            Expr::GetItem(get) => {
                let key = self.eval(&get.subscript_expr)?;
                self.member_of(&get.expr, &key)
            }
            other => self.eval(other).map(Thing::Value),
        }
    }

    fn member_of(&self, expr: &Expr<'_>, key: &Value) -> Result<Thing, Fail> {
        self.names.budget().deeper(|| {
            if is_name(expr, "vars") {
                return self.names.lookup(&key.to_string()).map(Thing::Value);
            }
            let host = match expr {
                Expr::GetAttr(get) if is_name(&get.expr, "hostvars") => Some(get.name.to_owned()),
                Expr::GetItem(get) if is_name(&get.expr, "hostvars") => {
                    Some(self.eval(&get.subscript_expr)?.to_string())
                }
                _ => None,
            };
            if let Some(host) = host {
                return self.names.of_host(&host, &key.to_string()).map(Thing::Value);
            }
            match self.thing(expr)? {
                Thing::Node(path, node) => self.member_of_node(&path, &node, key),
                Thing::Value(value) => {
                    self.names.budget().spend(value.as_str().map_or(0, str::len) as u64)?;
                    member(&value, key).map(Thing::Value)
                }
            }
        })
    }

    fn member_of_node(&self, path: &str, node: &Node, key: &Value) -> Result<Thing, Fail> {
        let found = match (&node.content, key) {
            (Content::Map(map), key) => key.key().and_then(|key| map.get(&key)),
            (Content::List(items), Value::Int(at)) => index(items.len(), *at).and_then(|at| items.get(at)),
            (Content::List(_), _) => None,
            _ => return member(&self.names.part(path, node)?, key).map(Thing::Value),
        };
        let found = found.cloned().ok_or_else(|| no_member(key))?;
        Ok(Thing::Node(format!("{path}.{key}"), found))
    }

    fn operation(&self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Result<Value, Fail> {
        let left = self.eval(left)?;
        match op {
            BinOpKind::ScAnd => return if left.is_true() { self.eval(right) } else { Ok(left) },
            BinOpKind::ScOr => return if left.is_true() { Ok(left) } else { self.eval(right) },
            _ => {}
        }
        let right = self.eval(right)?;
        self.names.budget().spend_on(&left)?;
        self.names.budget().spend_on(&right)?;
        if matches!(op, BinOpKind::Concat) {
            // Python's str(), where null is a word.
            return Ok(Value::text(format!("{left}{right}")));
        }
        binary(op, &left, &right, self.names.budget())
    }

    /// The arguments of a filter, test or call.
    fn arguments(&self, arguments: &[CallArg<'_>]) -> Result<Arguments, Fail> {
        let mut read = Arguments::default();
        for argument in arguments {
            match argument {
                CallArg::Pos(expr) => read.by_place.push(self.eval(expr)?),
                CallArg::Kwarg(name, expr) => read.by_name.push(((*name).to_owned(), self.eval(expr)?)),
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => return Err(Fail::refused("arguments by * or **")),
            }
        }
        Ok(read)
    }

    fn filter(&self, filter: &Filter<'_>) -> Result<Value, Fail> {
        let Some(expr) = &filter.expr else { return Err(Fail::refused("a filter of a block")) };
        let name = plain_name(filter.name);
        // These two take arguments that need not be defined, and the first a value that need not be.
        match name {
            "default" | "d" => return self.or_default(expr, &filter.args),
            "ternary" => return self.ternary(expr, &filter.args),
            _ => {}
        }
        let value = self.eval(expr)?;
        let arguments = self.arguments(&filter.args)?;
        filters::apply(name, &value, &arguments, self.names.budget())
    }

    fn or_default(&self, expr: &Expr<'_>, arguments: &[CallArg<'_>]) -> Result<Value, Fail> {
        let argument = |place: usize, name: &str| {
            let named = arguments.iter().find_map(|argument| match argument {
                CallArg::Kwarg(known, expr) if *known == name => Some(expr),
                _ => None,
            });
            match arguments.get(place) {
                Some(CallArg::Pos(expr)) => Some(expr),
                _ => named,
            }
        };
        let default = || argument(0, "default_value").map_or_else(|| Ok(Value::text("")), |expr| self.eval(expr));
        match self.eval(expr) {
            Err(Fail::Undefined(..)) => default(),
            Ok(value) if !value.is_true() => {
                let also_empty = argument(1, "boolean").map(|expr| self.eval(expr)).transpose()?;
                if also_empty.is_some_and(|value| value.is_true()) { default() } else { Ok(value) }
            }
            other => other,
        }
    }

    fn ternary(&self, expr: &Expr<'_>, arguments: &[CallArg<'_>]) -> Result<Value, Fail> {
        let value = self.eval(expr)?;
        let none = arguments.iter().find_map(|argument| match argument {
            CallArg::Kwarg("none_val", expr) => Some(expr),
            _ => None,
        });
        let place = |place: usize, name: &str| {
            arguments.iter().enumerate().find_map(|(at, argument)| match argument {
                CallArg::Pos(expr) if at == place => Some(expr),
                CallArg::Kwarg(known, expr) if *known == name => Some(expr),
                _ => None,
            })
        };
        let chosen = match value {
            Value::Null if none.or(place(2, "none_val")).is_some() => none.or(place(2, "none_val")),
            value if value.is_true() => place(0, "true_val"),
            _ => place(1, "false_val"),
        };
        chosen.map_or_else(|| Err(Fail::wrong("ternary needs two values")), |expr| self.eval(expr))
    }

    fn test(&self, test: &Test<'_>) -> Result<bool, Fail> {
        let name = plain_name(test.name);
        if matches!(name, "defined" | "undefined") {
            return match self.eval(&test.expr) {
                Ok(_) => Ok(name == "defined"),
                Err(Fail::Undefined(..)) => Ok(name == "undefined"),
                Err(other) => Err(other),
            };
        }
        let value = self.eval(&test.expr)?;
        self.names.budget().spend_on(&value)?;
        predicates::holds(name, &value, &self.arguments(&test.args)?, self.names.budget())
    }

    fn call(&self, call: &Call<'_>) -> Result<Value, Fail> {
        match call.identify_call() {
            CallType::Function(name @ ("lookup" | "query" | "q")) => {
                let arguments = self.arguments(&call.args)?;
                self.plugin(name, &arguments)
            }
            CallType::Function("range") => {
                let arguments = self.arguments(&call.args)?;
                super::lists::range(&arguments, self.names.budget())
            }
            CallType::Function("dict") => {
                let arguments = self.arguments(&call.args)?;
                arguments.only(0, &arguments.by_name.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>())?;
                Ok(Value::map(arguments.by_name.iter().map(|(name, value)| (Key::of(name), value.clone())).collect()))
            }
            CallType::Function(name) => {
                Err(Fail::refused(format!("the function {name}, which vcdist does not support")))
            }
            CallType::Method(expr, name) => {
                let value = self.eval(expr)?;
                methods::call(&value, name, &self.arguments(&call.args)?, self.names.budget())
            }
            CallType::Object(_) => Err(Fail::refused("a call of something other than a name")),
        }
    }

    fn plugin(&self, function: &str, arguments: &Arguments) -> Result<Value, Fail> {
        let plugin = arguments.text(0, "plugin")?;
        if function == "lookup" && plain_name(&plugin) == "env" {
            arguments.only(usize::MAX, &["default"])?;
            let mut values = Vec::new();
            for name in arguments.by_place.iter().skip(1) {
                let value = self.names.environment(&name.to_string());
                self.names.budget().spend(value.len() as u64)?;
                let default = arguments.get(usize::MAX, "default").filter(|_| value.is_empty());
                values.push(default.map_or(value, Value::to_string));
            }
            return Ok(Value::text(values.join(",")));
        }
        Err(Fail::refused(format!("{function}('{plugin}', …), which only Ansible can run")))
    }
}

/// The name of a filter, test or plugin without the collection that every installation has.
fn plain_name(name: &str) -> &str {
    name.strip_prefix("ansible.builtin.").unwrap_or(name)
}

fn is_name(expr: &Expr<'_>, name: &str) -> bool {
    matches!(expr, Expr::Var(var) if var.id == name)
}

/// The place that Python's index means.
pub(super) fn index(length: usize, at: i64) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let at = if at < 0 { at.checked_add(length)? } else { at };
    usize::try_from(at).ok().filter(|_| at < length)
}

/// An attribute or item of a value.
pub(super) fn member(value: &Value, key: &Value) -> Result<Value, Fail> {
    let found = match (value, key) {
        (Value::Map(map), key) => key.key().and_then(|key| map.get(&key)).cloned(),
        (Value::List(items), Value::Int(at)) => index(items.len(), *at).and_then(|at| items.get(at)).cloned(),
        (Value::Str(text), Value::Int(at)) => {
            index(text.chars().count(), *at).and_then(|at| text.chars().nth(at)).map(|c| Value::text(c.to_string()))
        }
        _ => None,
    };
    found.ok_or_else(|| no_member(key))
}

fn no_member(key: &Value) -> Fail {
    Fail::undefined(format!("the item {key}"))
}

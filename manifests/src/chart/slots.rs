//! Places in an object's YAML that a template of Helm fills in. An object is YAML before it is a template, so each place is first a
//! name that the YAML keeps as it is.

use serde_json::{Map, Value};

use crate::YamlError;

/// What an object has in place of the release's namespace while it is made. Nobody gives a namespace this name.
pub(super) const NAMESPACE: &str = "the-namespace-that-helm-installs-this-release-into";

/// How a place begins. The keys of Kubernetes come before it in the alphabet, so that a place among them is never the first key of
/// a list's item.
const MARK: &str = "zzz-place-of-the-chart-";

/// What takes a place.
#[derive(Debug)]
enum Slot {
    /// An expression, in place of a value.
    Value(String),
    /// Lines, in place of an entry of a mapping or an item of a list.
    Lines(Vec<String>),
}

/// The places of one object.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
}

impl Slots {
    /// A value that an expression gives.
    pub(super) fn value(&mut self, expression: impl Into<String>) -> Value {
        self.add(Slot::Value(expression.into())).into()
    }

    /// Further entries of a mapping.
    pub(super) fn entries<const N: usize>(&mut self, mapping: &mut Map<String, Value>, lines: [String; N]) {
        let key = self.add(Slot::Lines(lines.into()));
        mapping.insert(key, Value::Null);
    }

    /// Further items of a list.
    pub(super) fn items<const N: usize>(&mut self, list: &mut Vec<Value>, lines: [String; N]) {
        let item = self.add(Slot::Lines(lines.into()));
        list.push(item.into());
    }

    /// The object as a template.
    pub(super) fn template(mut self, mut object: Value) -> Result<String, YamlError> {
        self.namespaces(&mut object);
        let yaml = crate::to_yaml(&object)?;
        // Braces of the object's own are none of the template's.
        let yaml = yaml.replace("{{", "{{ \"{{\" }}").replace(NAMESPACE, "{{ .Release.Namespace }}");
        let mut template = String::new();
        for line in yaml.lines() {
            match self.find(line) {
                None => template += line,
                Some((mark, Slot::Value(expression))) => {
                    template += &line.replace(&mark, &format!("{{{{ {expression} }}}}"));
                }
                Some((_, Slot::Lines(lines))) => {
                    let indent = &line[..line.len() - line.trim_start().len()];
                    let lines: Vec<String> = lines.iter().map(|line| format!("{indent}{line}")).collect();
                    template += &lines.join("\n");
                }
            }
            template.push('\n');
        }
        Ok(template)
    }

    fn add(&mut self, slot: Slot) -> String {
        self.slots.push(slot);
        mark(self.slots.len() - 1)
    }

    fn find(&self, line: &str) -> Option<(String, &Slot)> {
        let at = line.find(MARK)? + MARK.len();
        let digits: String = line[at..].chars().take_while(char::is_ascii_digit).collect();
        let number: usize = digits.parse().ok()?;
        Some((mark(number), self.slots.get(number)?))
    }

    /// A namespace could be a word that YAML reads as a number.
    fn namespaces(&mut self, value: &mut Value) {
        match value {
            Value::String(text) if text == NAMESPACE => *value = self.value(".Release.Namespace | quote"),
            Value::Array(items) => items.iter_mut().for_each(|item| self.namespaces(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.namespaces(field)),
            _ => {}
        }
    }
}

fn mark(number: usize) -> String {
    format!("{MARK}{number}-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{NAMESPACE, Slots};

    #[test]
    fn places_become_expressions_and_lines_at_their_indentation() {
        let mut slots = Slots::default();
        let mut args = vec![json!(format!("--at={NAMESPACE}/a"))];
        slots.items(
            &mut args,
            ["{{- range .Values.args }}".to_owned(), "- {{ . }}".to_owned(), "{{- end }}".to_owned()],
        );
        let mut one = json!({ "args": args, "image": slots.value(".Values.image"), "env": "{{x}}" });
        slots.entries(one.as_object_mut().unwrap(), ["more: 1".to_owned(), "other: 2".to_owned()]);
        let object = json!({ "namespace": NAMESPACE, "spec": { "containers": [one] } });
        assert_eq!(
            slots.template(object).unwrap(),
            "namespace: {{ .Release.Namespace | quote }}
spec:
  containers:
  - args:
    - --at={{ .Release.Namespace }}/a
    {{- range .Values.args }}
    - {{ . }}
    {{- end }}
    env: \"{{ \"{{\" }}x}}\"
    image: {{ .Values.image }}
    more: 1
    other: 2
"
        );
    }
}

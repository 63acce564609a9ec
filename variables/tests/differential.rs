//! The values of generated variables, by this crate and by Ansible itself: one run of `ansible-playbook` over all hosts.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::Command;

use camino::Utf8Path;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value as Json;
use vcvariables::{Given, Repository, Resolver};

/// One file of variables each.
const HOSTS: usize = 200;

/// What the generated variables depend on; `VARIABLES_SEED` repeats another run.
const SEED: u64 = 20_260_211;

/// The environment of both.
const HOME: &str = "/home/tester";

/// The groups, each with the one above it.
const GROUPS: [(&str, Option<&str>); 6] =
    [("top", None), ("a", Some("top")), ("b", Some("top")), ("inner", Some("b")), ("zone", None), ("k8s_worker", None)];

/// Scalars as people write them.
const SCALARS: [&str; 34] = [
    "yes",
    "No",
    "on",
    "TRUE",
    "y",
    "~",
    "null",
    "",
    "0755",
    "0o755",
    "08",
    "1:30",
    "1_000",
    "0x1f",
    "0b101",
    "-7",
    "1.5",
    "1.",
    ".5",
    "1e3",
    "1.5e+3",
    "1.31",
    "1.31.4",
    "10Gi",
    "2026-01-02",
    "'0755'",
    "\"a\\tb\"",
    "'it''s'",
    "plain text # comment",
    "|\n    two\n    lines\n",
    ">-\n    folded\n    text\n",
    "{k: 1, k: 2, n: [yes, '7']}",
    "[1, two, 3.0]",
    "!unsafe '{{ raw }}'",
];

/// Makes expressions of a kind from the variables of one host.
struct Generator {
    random: StdRng,
    texts: usize,
    numbers: usize,
    switches: usize,
    lists: usize,
}

impl Generator {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.gen_range(0..from.len())]
    }

    fn word(&mut self) -> String {
        let length = self.random.gen_range(1..6);
        (0..length).map(|_| self.pick(&["a", "b", "c", "Ab", "-", ".", "1", "7", "x y"])).collect()
    }

    fn text(&mut self, depth: u32) -> String {
        let kind = if depth == 0 { self.random.gen_range(0..3) } else { self.random.gen_range(0..22) };
        let next = depth.saturating_sub(1);
        match kind {
            0 => format!("'{}'", self.word()),
            1 => format!("\"{}\"", self.word()),
            2 => format!("t{}", self.random.gen_range(0..self.texts)),
            3 => format!("({} ~ {})", self.text(next), self.text(next)),
            4 => format!("({} + {})", self.text(next), self.text(next)),
            5 => format!(
                "({} | {})",
                self.text(next),
                self.pick(&["lower", "upper", "trim", "string", "capitalize", "default('d')"])
            ),
            6 => format!("({} | replace('{}', '{}'))", self.text(next), self.pick(&["a", "b", "-"]), self.word()),
            7 => format!("(nowhere{} | default({}))", self.pick(&["", ".x", "['y'].z"]), self.text(next)),
            8 => format!("({} if {} else {})", self.text(next), self.switch(next), self.text(next)),
            9 => format!("({} | ternary({}, {}))", self.switch(next), self.text(next), self.text(next)),
            10 => format!("({} | regex_replace('([a-c]+)(x?)', '<\\\\1>'))", self.text(next)),
            11 => format!("({} | regex_replace('^(?P<first>.)', '\\\\g<first>-'))", self.text(next)),
            12 => format!("({} | join('{}'))", self.list(next), self.pick(&["", "-", ", "])),
            13 => format!("(({}) | first | default('none', true))", self.list(next)),
            14 => format!("({} ~ '')", self.number(next)),
            15 => format!("{}.split('-')[0]", self.text(next)),
            16 => format!("({}{})", self.text(next), self.pick(&["[1:]", "[:-1]", "[::2]", "[::-1]"])),
            17 => format!("map.k{}", self.random.gen_range(0..3)),
            18 => "lookup('env', 'HOME')".to_owned(),
            19 => format!("('{}' | default({}, true))", self.pick(&["", "a"]), self.text(next)),
            20 => self
                .pick(&[
                    "inventory_hostname",
                    "(group_names | first | default('none', true))",
                    "hostvars['h000'].t0",
                    "groups['top'][0]",
                ])
                .to_owned(),
            _ => format!("(({} | regex_search('[a-c]+')) | default('none', true))", self.text(next)),
        }
    }

    fn number(&mut self, depth: u32) -> String {
        let kind = if depth == 0 { self.random.gen_range(0..2) } else { self.random.gen_range(0..10) };
        let next = depth.saturating_sub(1);
        match kind {
            0 => self.random.gen_range(0..50).to_string(),
            1 => format!("n{}", self.random.gen_range(0..self.numbers)),
            2 => format!("({} + {})", self.number(next), self.number(next)),
            3 => format!("({} - {})", self.number(next), self.number(next)),
            4 => format!("({} * {})", self.number(0), self.number(0)),
            5 => format!("({} // {})", self.number(next), self.random.gen_range(1..9)),
            6 => format!("({} % {})", self.number(next), self.random.gen_range(1..9)),
            7 => format!("({} | length)", self.text(next)),
            8 => format!("({} | length)", self.list(next)),
            _ => format!("({} | int({}))", self.text(next), self.random.gen_range(0..9)),
        }
    }

    fn switch(&mut self, depth: u32) -> String {
        let kind = if depth == 0 { self.random.gen_range(0..2) } else { self.random.gen_range(0..13) };
        let next = depth.saturating_sub(1);
        match kind {
            0 => self.pick(&["true", "false"]).to_owned(),
            1 => format!("b{}", self.random.gen_range(0..self.switches)),
            2 => format!("({} and {})", self.switch(next), self.switch(next)),
            3 => format!("({} or {})", self.switch(next), self.switch(next)),
            4 => format!("(not {})", self.switch(next)),
            5 => format!(
                "({} {} {})",
                self.number(next),
                self.pick(&["<", "<=", "==", "!=", ">", ">="]),
                self.number(next)
            ),
            6 => format!("({} {} {})", self.text(next), self.pick(&["==", "!=", "in", "not in", "<"]), self.text(next)),
            7 => format!("({} {} {})", self.text(next), self.pick(&["in", "not in"]), self.list(next)),
            8 => self
                .pick(&["(nowhere is defined)", "(t0 is defined)", "(nowhere.x is not defined)", "(b0 is boolean)"])
                .to_owned(),
            9 => format!("(('{}') | bool)", self.pick(&["yes", "no", "True", "1", "off", "maybe"])),
            10 => format!("(({} | regex_search('^[ab]')) is {})", self.text(next), self.pick(&["none", "not none"])),
            11 => format!(
                "({} is {})",
                self.text(next),
                self.pick(&["match('a')", "search('[bc]$')", "string", "number", "mapping"])
            ),
            _ => format!("(map.k0 is {})", self.pick(&["string", "defined", "none"])),
        }
    }

    fn list(&mut self, depth: u32) -> String {
        let kind = if depth == 0 { self.random.gen_range(0..2) } else { self.random.gen_range(0..11) };
        let next = depth.saturating_sub(1);
        match kind {
            0 => format!("['{}', '{}']", self.word(), self.word()),
            1 => format!("l{}", self.random.gen_range(0..self.lists)),
            2 => format!("({} + [{}])", self.list(next), self.text(next)),
            3 => format!("({} | unique | list)", self.list(next)),
            4 => format!("({} | map('{}') | list)", self.list(next), self.pick(&["upper", "trim", "string"])),
            5 => format!("({} | reject('equalto', {}) | list)", self.list(next), self.text(0)),
            6 => format!(
                "({} | regex_findall('{}'))",
                self.text(next),
                self.pick(&["[a-c]", "(a)(b?)') | map('first", "a*", "([0-9])"])
            ),
            7 => format!("({} | select('match', '[ab]') | list)", self.list(next)),
            8 => format!("{}.split({})", self.text(next), self.pick(&["'-'", "'.'", "'ab'"])),
            9 => format!("({} | sort)", self.texts_only()),
            _ => format!("({} | map('regex_replace', '[0-9]', 'n') | list)", self.texts_only()),
        }
    }

    fn texts_only(&mut self) -> String {
        format!("[{}, {}, {}]", self.text(1), self.text(1), self.text(0))
    }

    /// A value with templates, as it stands in YAML.
    fn value(&mut self, expression: &str) -> String {
        let spaces = self.pick(&["", " "]);
        let template = match self.random.gen_range(0..5) {
            0 => format!("{}{{{{{spaces}{expression}{spaces}}}}}", self.word()),
            1 => format!("x{{{{ {expression} }}}}{}", self.word()),
            _ => format!("{{{{{spaces}{expression}{spaces}}}}}"),
        };
        // Ansible itself keeps backslashes within expressions as they are.
        match self.random.gen_range(0..3) {
            0 => format!("\"{}\"", template.replace('"', "\\\"")),
            1 => format!(">-\n  {}", template.replace("\\\\", "\\")),
            _ => format!("'{}'", template.replace("\\\\", "\\").replace('\'', "''")),
        }
    }

    /// The variables of one host. Each refers to those after it, so that nothing is circular.
    fn host(&mut self) -> String {
        let mut file = String::new();
        let mut names = Vec::new();
        let put = |file: &mut String, names: &mut Vec<String>, name: String, value: &str| {
            writeln!(file, "{name}: {value}").unwrap();
            names.push(name);
        };
        (self.texts, self.numbers, self.switches, self.lists) = (3, 2, 2, 2);
        for name in ["t0", "t1", "t2"] {
            let word = self.word();
            put(&mut file, &mut names, name.into(), &format!("'{word}'"));
        }
        for (name, value) in
            [("n0", "7"), ("n1", "-3"), ("b0", "yes"), ("b1", "off"), ("l0", "[a, b, a]"), ("l1", "[Ab, ab, '-']")]
        {
            put(&mut file, &mut names, name.into(), value);
        }
        let one = format!("{} ~ t{}", self.text(0), self.random.gen_range(0..3));
        let (one, two) = (self.value(&one), self.word());
        put(
            &mut file,
            &mut names,
            "map".into(),
            &format!("{{k0: {}, k1: '{two}', k2: v}}", if one.starts_with('>') { "'x'" } else { &one }),
        );
        for at in 0..6 {
            let scalar = self.pick(&SCALARS);
            put(&mut file, &mut names, format!("s{at}"), scalar);
        }
        for at in 3..7 {
            let text = self.text(3);
            let value = self.value(&text);
            put(&mut file, &mut names, format!("t{at}"), &value);
            self.texts = at + 1;
        }
        for at in 0..5 {
            let depth = self.random.gen_range(1..4);
            let expression = match self.random.gen_range(0..4) {
                0 => self.number(depth),
                1 => self.switch(depth),
                2 => self.list(depth),
                _ => self.text(depth),
            };
            let value = self.value(&expression);
            put(&mut file, &mut names, format!("e{at}"), &value);
        }
        // What leads to something that is not defined, and says so.
        let lost = self.pick(&["nowhere", "map.none", "lost0", "nowhere.x.y"]);
        writeln!(
            file,
            "lost0: '{{{{ nowhere }}}}'\nlost1: '{{{{ {lost} }}}}'\nfound: \"{{{{ lost1 | default('none') }}}}\""
        )
        .unwrap();
        names.push("found".into());
        names.extend((0..6).map(|at| format!("p{at}")));
        file += "values:\n";
        for name in names {
            writeln!(file, "  {name}: '{{{{ {name} }}}}'").unwrap();
        }
        file
    }

    /// Definitions of `p0` to `p5`, of which the last is always there.
    fn layer(&mut self, name: &str) -> String {
        let mut file = String::new();
        for at in 0..5 {
            if self.random.gen_bool(0.4) {
                writeln!(file, "p{at}: '{name} {{{{ inventory_hostname }}}}'").unwrap();
            }
        }
        file
    }
}

/// Writes a repository with an inventory of 200 hosts.
fn write(folder: &Utf8Path, generator: &mut Generator) {
    let put = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let mut inventory = String::new();
    let mut members: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for at in 0..HOSTS {
        let name = format!("h{at:03}");
        put(&format!("host_vars/{name}{}", generator.pick(&["", ".yml", "/one.yaml"])), &generator.host());
        let own = if generator.random.gen_bool(0.3) { " p1='line' p2=line" } else { "" };
        writeln!(inventory, "{name}{own}").unwrap();
        for (group, _) in GROUPS {
            if at == 0 || generator.random.gen_bool(0.3) {
                members.entry(group).or_default().push(name.clone());
            }
        }
    }
    for (group, above) in GROUPS {
        writeln!(inventory, "[{group}]\n{}", members[group].join("\n")).unwrap();
        if let Some(above) = above {
            writeln!(inventory, "[{above}:children]\n{group}").unwrap();
        }
        if generator.random.gen_bool(0.7) {
            writeln!(inventory, "[{group}:vars]\np0='{group} in the inventory'\np3=[1, 'two']").unwrap();
        }
        for folder in ["inventory/group_vars", "group_vars"] {
            let layer = generator.layer(&format!("{folder}/{group}"));
            put(&format!("{folder}/{group}.yml"), &format!("{layer}q: 1\n"));
        }
    }
    inventory += "[all:vars]\np0=all\np1=all\np4=True\nansible_connection=local\n";
    put("inventory/hosts", &inventory);
    // A second inventory of the folder, in the other form: a group above `a`, and one that speaks after its equals.
    put(
        "inventory/more.yml",
        "all:\n  vars: {p4: 'yaml {{ inventory_hostname }}'}\n  children:\n    extra:\n      children: {a: {}}\n      hosts:\n        \
         h[000:049]: {p1: yaml}\n        h[050:198:3]:\n      vars: {p2: [yaml, 0755], p0: extra}\n    urgent:\n      hosts:\n        h[100:199]:\n      \
         vars: {ansible_group_priority: 7, p0: urgent, p3: urgent}\n",
    );
    for folder in ["inventory/group_vars", "group_vars"] {
        let layer = generator.layer(&format!("{folder}/all"));
        put(&format!("{folder}/all/main.yml"), &format!("{layer}p5: {folder}\n"));
    }
    put("roles/k8s-virtual-cluster/defaults/main.yml", "p0: d\np1: d\np2: d\np3: d\np4: d\np5: d\n");
    put("roles/k8s-virtual-cluster/vars/main.yml", "p4: 'of the role'\n");
    put("vars/all-config.yml", "p5: 'config {{ p4 }} {{ t0 }}'\n");
    put(
        "roles/k8s-virtual-cluster/tasks/main.yml",
        "- include_vars: '{{ playbook_dir }}/vars/all-config.yml'\n- debug: {var: values}\n",
    );
    put("site.yml", "- hosts: all\n  gather_facts: false\n  roles: [k8s-virtual-cluster]\n");
}

/// What Ansible prints of each host, and its version.
fn of_ansible(folder: &Utf8Path) -> (BTreeMap<String, Json>, (u32, u32)) {
    let program = std::env::var("ANSIBLE_PLAYBOOK").unwrap_or_else(|_| "ansible-playbook".to_owned());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .current_dir(folder)
            .env("HOME", HOME)
            .env("ANSIBLE_NOCOLOR", "1")
            .env("LC_ALL", "C.UTF-8");
        command
            .env("ANSIBLE_LOCAL_TEMP", folder.join("tmp"))
            .env("ANSIBLE_HOME", folder.join("home"))
            .env("ANSIBLE_FORKS", "4");
        command
            .env_remove("ANSIBLE_CONFIG")
            .env("ANSIBLE_LOCALHOST_WARNING", "0")
            .env("ANSIBLE_DEPRECATION_WARNINGS", "0");
        let output = command.output().unwrap_or_else(|error| {
            panic!("running {program}: {error}; install the Debian package ansible-core, which `cargo xtask test` does")
        });
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    let version = run(&["--version"]);
    let numbers = version.split("core ").nth(1).and_then(|rest| rest.split(']').next()).expect("a version");
    let mut numbers = numbers.split('.').map(|number| number.parse().expect("a number"));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let output = run(&["-i", "inventory", "site.yml"]);
    let mut found = BTreeMap::new();
    for part in output.split("ok: [").skip(1) {
        let (host, rest) = part.split_once(']').unwrap();
        if let Some(json) = rest.strip_prefix(" => ").filter(|rest| rest.contains("\"values\"")) {
            let document = serde_json::Deserializer::from_str(json).into_iter::<Json>().next().expect("a document");
            found.insert(host.to_owned(), document.expect("JSON")["values"].clone());
        }
    }
    let fatal: Vec<&str> = output
        .lines()
        .filter(|line| line.starts_with("fatal:") || line.starts_with("ERROR"))
        .map(|line| line.rsplit("while templating").next().unwrap_or(line))
        .collect();
    assert_eq!(
        found.len(),
        HOSTS,
        "{program} has no values of some hosts:
{}",
        fatal.join(
            "
"
        )
    );
    (found, version)
}

/// Ansible before 2.19 makes text of numbers that an expression comes to.
fn comparable(value: &Json, version: (u32, u32)) -> Json {
    match value {
        Json::Number(number) if version < (2, 19) => Json::String(number.to_string()),
        Json::Array(items) => Json::Array(items.iter().map(|item| comparable(item, version)).collect()),
        Json::Object(map) => {
            Json::Object(map.iter().map(|(key, item)| (key.clone(), comparable(item, version))).collect())
        }
        other => other.clone(),
    }
}

#[test]
fn values_are_those_of_ansible() {
    let seed = std::env::var("VARIABLES_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    eprintln!("VARIABLES_SEED={seed}");
    let mut generator = Generator { random: StdRng::seed_from_u64(seed), texts: 0, numbers: 0, switches: 0, lists: 0 };
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    write(folder, &mut generator);
    let (expected, version) = of_ansible(folder);
    let repository =
        Repository::open(&Given { vars: vec![folder.to_owned()], inventory: Some(folder.join("inventory")) }).unwrap();
    let (mut count, mut differences) = (0, Vec::new());
    for (host, expected) in &expected {
        let home = |name: &str| (name == "HOME").then(|| HOME.to_owned());
        let resolver = Resolver::new(&repository, host, home).unwrap();
        let file = ["", ".yml", "/one.yaml"].iter().map(|end| folder.join(format!("host_vars/{host}{end}")));
        let text = file.filter_map(|file| fs::read_to_string(file).ok()).next().unwrap();
        let Some(expected) = expected.as_object() else {
            differences.push(format!("{host}: Ansible says {expected}\n{text}"));
            continue;
        };
        for (name, expected) in expected {
            count += 1;
            let ours = resolver.value(name).map(|value| value.to_json());
            let agree = ours.as_ref().is_ok_and(|ours| comparable(ours, version) == comparable(expected, version));
            if !agree {
                let line = text.split(&format!("\n{name}: ")).nth(1).and_then(|rest| rest.split("\n").next());
                let ours = ours.map_or_else(|error| error.to_string(), |ours| ours.to_string());
                differences.push(format!("{host} {name}: {line:?}\n  Ansible: {expected}\n  vcdist:  {ours}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} of {count} values differ:\n{}", differences.len(), differences.join("\n"));
    assert!(count > 20 * HOSTS, "{count} values were compared");
}

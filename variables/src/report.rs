//! What a person asks of variables: each value, where it comes from, what it replaced, and what to know about it.

use crate::error::Error;
use crate::layers::{Definition, Level};
use crate::repository::Repository;
use crate::resolve::Resolver;
use crate::settings::{ReadSettings, RoleSettings};
use crate::table::{self, Effect, Row};
use crate::value::Value;
use crate::yaml::{Content, read_text};

/// All variables of a host.
#[derive(Debug)]
pub struct Report {
    /// The host.
    pub host: String,
    /// The variables, in the order of the table; of one that was asked for, that one.
    pub variables: Vec<Explained>,
    /// What to know, one sentence each.
    pub warnings: Vec<String>,
    /// All variables, typed; nothing where one was asked for, or something is wrong.
    pub settings: Option<RoleSettings>,
    /// What is wrong. Nothing can be done with these variables before it is corrected.
    pub errors: Vec<Error>,
}

/// One variable.
#[derive(Debug)]
pub struct Explained {
    /// Its name.
    pub name: String,
    /// Its row of the table, if it is one of the roles'.
    pub row: Option<&'static Row>,
    /// Its value; nothing where it has none or nobody defined it.
    pub value: Option<Value>,
    /// Why it has no value.
    pub error: Option<String>,
    /// The definition that counts; nothing where nobody defined it.
    pub winner: Option<Definition>,
    /// The definitions that it replaced, the strongest first.
    pub replaced: Vec<Definition>,
}

impl Report {
    /// Explains one variable, or all of the table, of the host that a resolver is for.
    #[must_use]
    pub fn of(repository: &Repository, resolver: &Resolver<'_>, name: Option<&str>) -> Self {
        let mut report = Self {
            host: resolver.host().to_owned(),
            variables: Vec::new(),
            warnings: Vec::new(),
            settings: None,
            errors: Vec::new(),
        };
        match name {
            Some(name) => {
                let explained = explain(resolver, name);
                if let Some(row) = explained.row {
                    report.errors.extend(conflicts(resolver, row));
                }
                if explained.error.is_some() || (explained.winner.is_none() && explained.row.is_none()) {
                    report.errors.extend(resolver.value(name).err());
                }
                report.variables.push(explained);
            }
            None => {
                report.variables = table::rows().iter().map(|row| explain(resolver, row.name)).collect();
                report.errors = table::rows().iter().flat_map(|row| conflicts(resolver, row)).collect();
                let read = ReadSettings::of(resolver);
                report.errors.extend(read.errors);
                report.settings = read.settings.filter(|_| report.errors.is_empty());
                report.warnings = read.warnings;
                report.warnings.extend(table::rows().iter().flat_map(|row| remarks(resolver, row)));
                report.warnings.extend(slips(resolver));
            }
        }
        let encrypted = repository.encrypted();
        report.warnings.extend(encrypted.iter().map(|path| format!("{path} is encrypted, and was not read")));
        report
    }
}

/// What is said of a variable.
fn explain(resolver: &Resolver<'_>, name: &str) -> Explained {
    // An older name is explained as the one that it stands for.
    let row = table::find(name).or(table::find_older(name));
    let name = row.map_or(name, |row| row.name);
    let definitions = resolver.layers().of(name);
    let (value, error) = match resolver.layers().winner(name).map(|_| resolver.value(name)) {
        None => (None, None),
        Some(Ok(value)) => (Some(value), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    let mut strongest_first = definitions.iter().rev().cloned();
    let winner = strongest_first.next();
    Explained { name: name.to_owned(), row, value, error, winner, replaced: strongest_first.collect() }
}

/// Whether an older name and the new one have different values.
fn conflicts(resolver: &Resolver<'_>, row: &Row) -> Vec<Error> {
    let Some(new) = resolver.layers().said(row.name).last().filter(|one| one.older_name.is_none()) else {
        return Vec::new();
    };
    let differs = |older: &&&str| {
        let other = resolver.layers().said(older).last().is_some();
        other && !matches!((resolver.value(row.name), resolver.value(older)), (Ok(one), Ok(two)) if one.equals(&two))
    };
    let conflict = |older: &&str| Error::Conflict {
        name: row.name.to_owned(),
        place: new.node.place.to_string(),
        older: (*older).to_owned(),
        older_place: resolver.layers().said(older).last().map(|one| one.node.place.to_string()).unwrap_or_default(),
    };
    row.older.iter().filter(differs).map(conflict).collect()
}

/// What to know of a variable that somebody set.
fn remarks(resolver: &Resolver<'_>, row: &Row) -> Vec<String> {
    let layers = resolver.layers();
    let mut remarks = Vec::new();
    for older in row.older {
        if let Some(said) = layers.said(older).last() {
            remarks.push(format!("{older} ({}) is an older name of {}", said.node.place, row.name));
        }
    }
    let said: Vec<&Definition> = layers.said(row.name).filter(|one| one.level != Level::RoleVars).collect();
    if row.is_constant {
        remarks.extend(said.last().map(|one| {
            let loser = layers.winner(row.name).is_some_and(|winner| winner.level == Level::RoleVars);
            let why = if loser { "the role sets it itself" } else { "vcdist does not read it" };
            format!("{} ({}) has no effect: {why}", row.name, one.node.place)
        }));
        return remarks;
    }
    match (row.effect, said.last()) {
        // Who sets it to its default expects nothing.
        (Effect::Nothing(why), Some(one)) if !is_default(resolver, row) => {
            remarks.push(format!("{} ({}) is accepted and has no effect: {why}", row.name, one.node.place));
        }
        (Effect::Destroys(what), Some(one)) if resolver.value(row.name).is_ok_and(|value| value.is_true()) => {
            remarks.push(format!("{} ({}) is shown and not acted on: {what}", row.name, one.node.place));
        }
        _ => {}
    }
    remarks
}

/// Whether a variable has the value of its default.
fn is_default(resolver: &Resolver<'_>, row: &Row) -> bool {
    let default = row.default.and_then(|default| read_text("default", default).ok());
    match default.map(|document| document.root.content) {
        Some(Content::Value(default)) => resolver.value(row.name).is_ok_and(|value| value.equals(&default)),
        _ => false,
    }
}

/// Names that look like these roles' and are none, unless another variable needs them.
fn slips(resolver: &Resolver<'_>) -> Vec<String> {
    let slip = |name: &str| {
        let nearest = table::unknown(name)?;
        let place = &resolver.layers().winner(name)?.node.place;
        let said = resolver.layers().said(name).next().is_some() && !resolver.is_reached(name);
        said.then(|| format!("{name} ({place}) is not a variable of these roles; did you mean {nearest}?"))
    };
    resolver.layers().names().filter_map(slip).collect()
}

#[cfg(test)]
mod tests {
    use super::Report;
    use crate::layers::Level;
    use crate::table::{Effect, Kind, Row, rows};
    use crate::tests::{environment, folder};
    use crate::value::Value;
    use crate::yaml::{Content, Node, read_text};
    use crate::{Given, Repository, Resolver};

    const BASE: &str =
        "ansible_user: ansible\nansible_home_dir: '/home/{{ ansible_user }}'\nk8s_ctrlplane_endpoint: 192.0.2.41\n";

    fn report(vars: &str, name: Option<&str>) -> Report {
        let (_folder, path) = folder(&[("group_vars/all.yml", BASE), ("host_vars/cp", vars)]);
        let repository = Repository::open(&Given { vars: vec![path], inventory: None }).expect("a repository");
        let host = repository.choose(None).expect("a host");
        assert_eq!(host, "cp");
        let resolver = Resolver::new(&repository, &host, environment).expect("variables");
        Report::of(&repository, &resolver, name)
    }

    #[test]
    fn nothing_is_said_of_what_nobody_set() {
        let report = report("", None);
        assert!(report.warnings.is_empty() && report.errors.is_empty(), "{:?} {:?}", report.warnings, report.errors);
    }

    #[test]
    fn names_of_two_generations_must_agree() {
        let agree = report("virtualcluster_enabled: true\nk8s_virtualcluster_enabled: yes\n", None);
        assert!(agree.errors.is_empty(), "{:?}", agree.errors);
        assert!(
            agree.warnings[0].contains("virtualcluster_enabled (")
                && agree.warnings[0].ends_with("is an older name of k8s_virtualcluster_enabled")
        );
        let differ = report("virtualcluster_enabled: true\nk8s_virtualcluster_enabled: no\n", None);
        let [error] = differ.errors.as_slice() else { panic!("{:?}", differ.errors) };
        let error = error.to_string();
        assert!(error.contains("host_vars/cp:1)") && error.contains("host_vars/cp:2)"), "{error}");
        assert!(error.ends_with("are two names of one variable and have different values"), "{error}");
        let old = report("virtualcluster_enabled: true\n", Some("virtualcluster_enabled"));
        assert_eq!(old.variables[0].name, "k8s_virtualcluster_enabled");
        assert_eq!(old.variables[0].value, Some(crate::value::Value::Bool(true)));
    }

    #[test]
    fn what_has_no_effect_and_what_would_be_deleted_is_said() {
        let report = report(
            "virtualcluster_etcd_replicas: 3\nvirtualcluster_clean_build: true\nvcinstances_force_recreate_resources: false\n\
             virtualcluster_api_version: v1\nvirtualcluster_namspace: x\nvirtualcluster_own: team\n\
             virtualcluster_manager_image: '{{ virtualcluster_own }}/manager:1'\n",
            None,
        );
        let expected = [
            "virtualcluster_clean_build (",
            "virtualcluster_etcd_replicas (",
            "virtualcluster_api_version (",
            "virtualcluster_namspace (",
        ];
        assert_eq!(report.warnings.len(), expected.len(), "{:?}", report.warnings);
        for (warning, begin) in report.warnings.iter().zip(expected) {
            assert!(warning.starts_with(begin) && warning.contains("host_vars/cp:"), "{warning}");
        }
        assert!(report.warnings[3].ends_with("did you mean virtualcluster_namespace?"));
    }

    /// A value other than the default.
    fn other(row: &Row) -> &'static str {
        match row.kind {
            Kind::Boolean | Kind::Switch if row.default == Some("true") => "false",
            Kind::Boolean | Kind::Switch => "true",
            Kind::Number | Kind::Seconds | Kind::Port => "77",
            Kind::Texts => "[other]",
            Kind::Resources => "{cpu: 77m, memory: 77Mi}",
            Kind::Volumes => "[{name: a, capacity: 1Gi, host_path: /a, node_name: w}]",
            Kind::ClusterVersions => "[{name: a}]",
            Kind::VirtualClusters => "[{name: a, clusterVersionName: b}]",
            Kind::Map => "{a: b}",
            Kind::Text if row.name.ends_with("_scheme") => "http",
            Kind::Text if row.name.ends_with("_pull_policy") => "Always",
            Kind::Text if row.name.ends_with("_size") => "77Gi",
            Kind::Text => "other",
        }
    }

    #[test]
    fn every_variable_that_is_set_has_an_effect_or_it_is_said_that_it_has_none() {
        let by_older = |row: &Row| row.older.first().copied().unwrap_or(row.name);
        for name_of in [|row: &Row| row.name, by_older] {
            let vars: String = rows().iter().map(|row| format!("{}: {}\n", name_of(row), other(row))).collect();
            let set = report(&vars, None);
            assert!(set.errors.is_empty(), "{:?}", set.errors);
            for (row, explained) in rows().iter().zip(&set.variables) {
                let is_said = set.warnings.iter().any(|warning| warning.starts_with(&format!("{} (", row.name)));
                let is_set = explained.value.as_ref() == Some(&read_value(other(row)))
                    && explained.winner.as_ref().is_some_and(|one| one.level == Level::HostVars);
                match row.effect {
                    Effect::Nothing(_) => assert!(is_said, "{}: {:?}", row.name, set.warnings),
                    Effect::Does(_) => assert!(is_set, "{}: {:?}", row.name, explained.value),
                    Effect::Destroys(_) => assert!(is_set && !is_said, "{}", row.name),
                }
            }
        }
    }

    fn read_value(yaml: &str) -> Value {
        let root = read_text("x", yaml).expect("YAML").root;
        let json = |node: &Node| match &node.content {
            Content::Value(value) => value.clone(),
            other => panic!("{other:?}"),
        };
        let list = |items: &[Node], item: &dyn Fn(&Node) -> Value| Value::list(items.iter().map(item).collect());
        let map = |node: &Node| {
            Value::map(node.mapping().expect("a mapping").iter().map(|(key, node)| (key.clone(), json(node))).collect())
        };
        match &root.content {
            Content::List(items) => {
                list(items, &|item| if matches!(item.content, Content::Map(_)) { map(item) } else { json(item) })
            }
            Content::Map(_) => map(&root),
            _ => json(&root),
        }
    }

    #[test]
    fn a_variable_is_explained_with_all_that_it_replaced() {
        let report = report(
            "virtualcluster_namespace: one\nvirtualcluster_namespace: 't{{ 1 + 1 }}'\n",
            Some("virtualcluster_namespace"),
        );
        let explained = &report.variables[0];
        assert_eq!(explained.value.as_ref().map(ToString::to_string).as_deref(), Some("t2"));
        let winner = explained.winner.as_ref().expect("one");
        assert_eq!((winner.node.place.line, winner.node.text()), (2, "'t{{ 1 + 1 }}'".to_owned()));
        let replaced: Vec<String> = explained.replaced.iter().map(|one| one.node.text()).collect();
        assert_eq!(replaced, ["one", "vc-manager"]);
    }
}

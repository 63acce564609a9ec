//! The variables of the role and its siblings: one row for each, with its kind, its default, and what it corresponds to.

mod instances;
mod register_image;
mod shared;
mod tenant_dns;
mod virtual_cluster;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use crate::layers::Layers;
use crate::yaml::{Node, read_text};

/// A role. Those that run later come later, and their defaults win where several have one of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `k8s-register-image`
    RegisterImage,
    /// `k8s-vc-tenant-dns`
    TenantDns,
    /// `k8s-vc-instances`
    Instances,
    /// `k8s-virtual-cluster`
    VirtualCluster,
}

/// All roles, in that order.
pub const ROLES: [Role; 4] = [Role::RegisterImage, Role::TenantDns, Role::Instances, Role::VirtualCluster];

impl Role {
    /// Its folder in `roles/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RegisterImage => "k8s-register-image",
            Self::TenantDns => "k8s-vc-tenant-dns",
            Self::Instances => "k8s-vc-instances",
            Self::VirtualCluster => "k8s-virtual-cluster",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What values a variable takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A boolean; the role refuses text such as "true".
    Boolean,
    /// A boolean, or text that Ansible takes for one.
    Switch,
    /// Text.
    Text,
    /// A whole number, not below zero.
    Number,
    /// A port.
    Port,
    /// A time in seconds.
    Seconds,
    /// A list of texts.
    Texts,
    /// A mapping with `cpu` and `memory`.
    Resources,
    /// A list of persistent volumes.
    Volumes,
    /// A list of ClusterVersions.
    ClusterVersions,
    /// A list of VirtualClusters.
    VirtualClusters,
    /// A mapping of names to texts.
    Map,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Switch => "switch",
            Self::Text => "text",
            Self::Number => "number",
            Self::Port => "port",
            Self::Seconds => "seconds",
            Self::Texts => "list of texts",
            Self::Resources => "cpu and memory",
            Self::Volumes => "list of volumes",
            Self::ClusterVersions => "list of ClusterVersions",
            Self::VirtualClusters => "list of VirtualClusters",
            Self::Map => "mapping",
        })
    }
}

/// What a variable corresponds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A command and its option, or a part of what it makes.
    Does(&'static str),
    /// Nothing, and why.
    Nothing(&'static str),
    /// What the role deletes. It is shown, and never done without an option of vcdist's own.
    Destroys(&'static str),
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Does(what) => f.write_str(what),
            Self::Nothing(why) => write!(f, "no effect: {why}"),
            Self::Destroys(what) => write!(f, "shown, never done without an option of vcdist's own: {what}"),
        }
    }
}

/// A variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// The role that it is of; shared variables are of the one that is named first.
    pub role: Role,
    /// What it takes.
    pub kind: Kind,
    /// The role's default, in YAML; nothing where it has none.
    pub default: Option<&'static str>,
    /// What it corresponds to.
    pub effect: Effect,
    /// Its older names.
    pub older: &'static [&'static str],
    /// Whether the role sets it itself, so that the variables of hosts have no effect.
    pub is_constant: bool,
    /// Defaults of other roles that have a variable of this name.
    pub elsewhere: &'static [(Role, &'static str)],
}

/// A row of a variable with this default.
const fn row(role: Role, name: &'static str, kind: Kind, default: &'static str, effect: Effect) -> Row {
    Row { name, role, kind, default: Some(default), effect, older: &[], is_constant: false, elsewhere: &[] }
}

impl Row {
    /// The same without a default.
    const fn absent(self) -> Self {
        Self { default: None, ..self }
    }

    /// The same with these older names.
    const fn older(self, older: &'static [&'static str]) -> Self {
        Self { older, ..self }
    }

    /// The same, set by the role itself.
    const fn constant(self) -> Self {
        Self { is_constant: true, ..self }
    }

    /// The same, with the defaults of other roles.
    const fn elsewhere(self, elsewhere: &'static [(Role, &'static str)]) -> Self {
        Self { elsewhere, ..self }
    }
}

/// How names begin that are of these roles.
const PREFIXES: [&str; 7] = [
    "virtualcluster_",
    "vcinstances_",
    "k8s_vcinstances_",
    "k8s_virtualcluster_",
    "k8s_vc_",
    "k8s_register_image_",
    "k8s_api_wait_",
];

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    [virtual_cluster::ROWS, shared::ROWS, instances::ROWS, tenant_dns::ROWS, register_image::ROWS].concat()
});

static BY_NAME: LazyLock<BTreeMap<&'static str, Row>> =
    LazyLock::new(|| ROWS.iter().map(|row| (row.name, *row)).collect());

/// All rows.
#[must_use]
pub fn rows() -> &'static [Row] {
    &ROWS
}

/// The row of a name; nothing for older names.
#[must_use]
pub fn find(name: &str) -> Option<&'static Row> {
    BY_NAME.get(name)
}

/// The row that a name is an older name of.
#[must_use]
pub fn find_older(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.older.contains(&name))
}

/// Whether a name looks like one of these roles' and is none, with the nearest that is.
#[must_use]
pub fn unknown(name: &str) -> Option<&'static str> {
    if !PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || find(name).is_some() || find_older(name).is_some() {
        return None;
    }
    ROWS.iter().map(|row| row.name).min_by_key(|known| strsim::damerau_levenshtein(known, name))
}

/// The values of rows, read once.
static VALUES: LazyLock<Vec<(&'static Row, Node)>> = LazyLock::new(|| {
    let node = |row: &'static Row| {
        let document = read_text(&format!("<the default of {}>", row.role), row.default?).ok()?;
        Some((row, document.root))
    };
    ROWS.iter().filter_map(node).collect()
});

/// The roles' defaults.
pub fn defaults() -> impl Iterator<Item = (&'static str, Node)> {
    VALUES.iter().filter(|(row, _)| !row.is_constant).map(|(row, node)| (row.name, node.clone()))
}

/// What the roles set themselves.
pub fn constants() -> impl Iterator<Item = (&'static str, Node)> {
    VALUES.iter().filter(|(row, _)| row.is_constant).map(|(row, node)| (row.name, node.clone()))
}

/// Has older names count for the new ones where these are not set.
pub(crate) fn adopt_older(layers: &mut Layers) {
    for row in ROWS.iter().filter(|row| !row.older.is_empty()) {
        let is_said = |name: &str| layers.said(name).next().is_some();
        let older = row.older.iter().find(|older| is_said(older));
        if let Some(older) = older.filter(|_| !is_said(row.name)) {
            layers.adopt(row.name, older);
        }
    }
}

/// The table of the documentation, a row for each variable.
#[must_use]
pub fn document() -> String {
    let mut text = String::new();
    for role in ROLES.iter().rev() {
        text +=
            &format!("### `{role}`\n\n| variable | takes | default | corresponds to |\n| --- | --- | --- | --- |\n");
        for row in ROWS.iter().filter(|row| row.role == *role) {
            let cell = |text: &str| text.replace('|', "\\|");
            let default = match row.default {
                None => "none".to_owned(),
                Some(default) => format!("`{}`", cell(default)),
            };
            let elsewhere = row.elsewhere.iter().map(|(role, default)| format!("; `{default}` in {role}"));
            let default = default + &elsewhere.collect::<String>();
            let constant = if row.is_constant { "set by the role itself; " } else { "" };
            let older: Vec<String> = row.older.iter().map(|older| format!("`{older}`")).collect();
            let older = if older.is_empty() { String::new() } else { format!("; older name {}", older.join(", ")) };
            text += &format!(
                "| `{}` | {} | {default} | {constant}{}{older} |\n",
                row.name,
                row.kind,
                cell(&row.effect.to_string())
            );
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;

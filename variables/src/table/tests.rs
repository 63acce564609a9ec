//! The table has each name once, with defaults that can be read and what it corresponds to.

use std::collections::BTreeSet;

use super::{Effect, Kind, ROLES, defaults, document, find, find_older, rows, unknown};

#[test]
fn each_name_is_there_once() {
    let names = rows().iter().flat_map(|row| row.older.iter().copied().chain([row.name]));
    let all: Vec<&str> = names.collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert!(rows().len() > 130, "{}", rows().len());
    assert!(find("virtualcluster_namespace").is_some() && find("virtualcluster_enabled").is_none());
    assert_eq!(find_older("virtualcluster_enabled").map(|row| row.name), Some("k8s_virtualcluster_enabled"));
}

#[test]
fn every_default_can_be_read() {
    let of = rows().iter().filter(|row| row.default.is_some() && !row.is_constant).count();
    assert_eq!(defaults().count(), of);
    assert!(ROLES.iter().all(|role| rows().iter().any(|row| row.role == *role)));
}

#[test]
fn what_the_role_destroys_is_marked() {
    let marked: Vec<&str> =
        rows().iter().filter(|row| matches!(row.effect, Effect::Destroys(_))).map(|row| row.name).collect();
    assert_eq!(
        marked,
        ["virtualcluster_clean_build", "vcinstances_cleanup_failed_pvs", "vcinstances_force_recreate_resources"]
    );
}

#[test]
fn the_switches_that_the_role_asserts_are_booleans() {
    let marked: Vec<&str> = rows().iter().filter(|row| row.kind == Kind::Boolean).map(|row| row.name).collect();
    assert_eq!(marked, ["k8s_virtualcluster_enabled", "k8s_vcinstances_enabled", "k8s_vc_tenant_dns_enabled"]);
}

#[test]
fn a_name_with_a_slip_has_a_nearest_one() {
    assert_eq!(unknown("virtualcluster_namspace"), Some("virtualcluster_namespace"));
    assert_eq!(unknown("vcinstances_etcd_storage_siez"), Some("vcinstances_etcd_storage_size"));
    assert_eq!(unknown("virtualcluster_namespace"), None);
    assert_eq!(unknown("virtualcluster_enabled"), None);
    assert_eq!(unknown("gpm_mgmt_ipv4_prefix"), None);
}

/// `UPDATE_DOCS=1 cargo test -p vcvariables` writes the table into the page.
#[test]
fn the_documentation_has_this_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/role-variables.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let (begin, end) = ("<!-- The table begins here. -->\n", "<!-- The table ends here. -->");
    let (before, rest) = page.split_once(begin).expect("a beginning");
    let (table, after) = rest.split_once(end).expect("an end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{begin}\n{}{end}{after}", document()))
            .expect("a page that can be written");
        return;
    }
    assert_eq!(
        table.trim(),
        document().trim(),
        "docs/reference/role-variables.md differs: run UPDATE_DOCS=1 cargo test -p vcvariables"
    );
}

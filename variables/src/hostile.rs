//! What reads files of variables and inventories, for hostile input alone: nothing is expected of a reader but that it ends, without
//! a panic.

use crate::inventory;
use crate::report::Report;
use crate::repository::Repository;
use crate::resolve::Resolver;
use crate::source::Source;

/// What parts the variables from the inventory.
const MARK: &str = "\n--- inventory\n";

/// Variables, all of which are resolved for the first host of an inventory.
pub fn variables(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (vars, hosts) = text.split_once(MARK).unwrap_or((&text, "[k8s_ctrl_plane]\nh1\nh2\n"));
    let source = Source::new("vars.yml", vars);
    for groups in inventory::hostile(hosts) {
        let Some(repository) = Repository::in_memory(groups, &source) else { return };
        let Ok(host) = repository.choose(None) else { continue };
        let Ok(resolver) = Resolver::new(&repository, &host, |_| None) else { continue };
        let names: Vec<String> = resolver.layers().names().map(str::to_owned).collect();
        for name in names {
            let _ = resolver.value(&name).map(|value| value.to_json());
        }
        let report = Report::of(&repository, &resolver, None);
        for explained in &report.variables {
            let _ = explained.winner.as_ref().map(|winner| winner.node.text());
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn variables_and_inventories_are_read_or_refused() {
        mutate::hostile("variables", super::variables);
    }
}

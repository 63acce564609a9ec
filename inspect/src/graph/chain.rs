//! Finds the shortest path in a dependency graph.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Returns the shortest chain from any of `roots` to an item for which `found` is true, including both ends; the first
/// by name of equally short ones. Visits each item at most once.
pub(crate) fn shortest<'a>(
    roots: impl IntoIterator<Item = &'a str>,
    needs: impl Fn(&'a str) -> Vec<&'a str>,
    found: impl Fn(&str) -> bool,
) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, Option<&str>> = BTreeMap::new();
    let mut todo: VecDeque<&str> = roots.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    for root in &todo {
        came_from.insert(root, None);
    }
    while let Some(name) = todo.pop_front() {
        if found(name) {
            let mut chain = vec![name];
            while let Some(Some(before)) = chain.last().and_then(|last| came_from.get(last)) {
                chain.push(before);
            }
            chain.reverse();
            return Some(chain);
        }
        for needed in needs(name).into_iter().collect::<BTreeSet<_>>() {
            came_from.entry(needed).or_insert_with(|| {
                todo.push_back(needed);
                Some(name)
            });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::shortest;

    #[test]
    fn the_shortest_chain_is_found_and_rings_end() {
        let edges = [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("x", "c"), ("x", "y")];
        let needs = |name: &str| edges.iter().filter(|(from, _)| *from == name).map(|(_, to)| *to).collect();
        let chain = |roots: &[&'static str], to: &str| shortest(roots.iter().copied(), needs, |name| name == to);
        assert_eq!(chain(&["a"], "d").unwrap(), ["a", "b", "c", "d"]);
        assert_eq!(chain(&["a", "x"], "d").unwrap(), ["x", "c", "d"]);
        assert_eq!(chain(&["a"], "a").unwrap(), ["a"]);
        assert_eq!(chain(&["a"], "y"), None);
    }
}

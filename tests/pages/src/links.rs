//! Links between pages: the file is there, and the heading too.

use crate::{Page, repository};

/// The links of a page that lead nowhere. Addresses on the web are not looked at.
#[must_use]
pub fn dead(page: &Page) -> Vec<String> {
    let folder = repository().join(&page.path).parent().unwrap().to_owned();
    let targets = page.text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let is_dead = |target: &&str| {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let path = if file.is_empty() { repository().join(&page.path) } else { folder.join(file) };
        if heading.is_empty() {
            !path.exists()
        } else {
            !std::fs::read_to_string(path).is_ok_and(|text| has(&text, heading))
        }
    };
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    local.filter(is_dead).map(|target| format!("{}: {target}", page.path)).collect()
}

/// Whether a page has this anchor, which forges make from its headings.
fn has(text: &str, anchor: &str) -> bool {
    let mut fenced = false;
    text.lines().any(|line| {
        fenced ^= line.trim_start().starts_with("```");
        !fenced && line.starts_with('#') && of_heading(line) == anchor
    })
}

fn of_heading(line: &str) -> String {
    let text = line.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::{dead, has};
    use crate::{Page, pages};

    #[test]
    fn no_link_of_a_page_is_dead() {
        let pages = pages();
        assert!(pages.len() > 20, "{} pages", pages.len());
        let dead: Vec<_> = pages.iter().flat_map(dead).collect();
        assert!(dead.is_empty(), "{dead:#?}");
    }

    #[test]
    fn dead_links_are_found() {
        let text =
            "# A\n\n[a](../README.md) [b](none.md) [c](#a) [d](#b) [e](https://example.org/none) [f](README.md#none)";
        let page = Page { path: "docs/a.md".into(), text: text.to_owned() };
        // The page itself is not there to be read.
        assert_eq!(dead(&page), ["docs/a.md: none.md", "docs/a.md: #a", "docs/a.md: #b", "docs/a.md: README.md#none"]);
        assert!(has("## `vcdist push`, and more\n", "vcdist-push-and-more"));
        assert!(!has("```sh\n# no heading\n```\n", "no-heading"));
    }
}

//! The HTML page, with inline style and script, and no external resources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use vcstore::Digest;

use super::html::escape;
use super::{ImageReport, PreviousImage, Report, timeline, treemap};
use crate::compare::{Change, PlatformChanges};
use crate::image_fs::Placed;
use crate::journal::{Build, Outcome};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The maximum numbers of files in the list of large files, and of listed changes.
const LARGEST: usize = 15;
const CHANGES: usize = 60;

/// The title, which identifies a report.
const TITLE: &str = "<title>Images — vcbuild report</title>";

/// Returns whether a file with this beginning is a report.
pub fn is_page(beginning: &[u8]) -> bool {
    beginning.windows(TITLE.len()).any(|part| part == TITLE.as_bytes())
}

/// Renders the report as an HTML document.
pub fn page(report: &Report) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n{TITLE}\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>Images</h1>\n"
    );
    match report.builds.last() {
        Some(build) => {
            let failed = if build.succeeded { "" } else { " and failed" };
            let _ = writeln!(
                html,
                "<p class=\"quiet\">Last built {}, took {}{failed}.</p>",
                timeline::when(build.began),
                timeline::took(build.took)
            );
        }
        None => html += "<p class=\"quiet\">This store remembers no build.</p>\n",
    }
    cards(report, &mut html);
    html += "</header>\n<nav aria-label=\"Images\">\n";
    for (number, one) in report.images.iter().enumerate() {
        let _ = writeln!(html, "<a href=\"#image-{number}\">{}</a>", escape(&title(one)));
    }
    html += "<a href=\"#build\">Last build</a>\n</nav>\n<main>\n";
    for (number, one) in report.images.iter().enumerate() {
        image(number, one, &mut html);
    }
    builds(&report.builds, &mut html);
    html + &format!("</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n")
}

fn cards(report: &Report, html: &mut String) {
    let mut layers: BTreeMap<Digest, u64> = BTreeMap::new();
    for layer in report.images.iter().flat_map(|one| &one.one.layers) {
        layers.insert(layer.digest, layer.size);
    }
    let names: BTreeSet<&str> = report.images.iter().map(|one| one.image.name.as_str()).collect();
    let all: u64 = report.images.iter().flat_map(|one| &one.one.layers).map(|layer| layer.size).sum();
    let stored: u64 = layers.values().sum();
    let changed = report.images.iter().filter(|one| matches!(one.before, PreviousImage::Changed(..))).count();
    let cards = [
        ("images", names.len().to_string()),
        ("stored, layers shared", vcterminal::bytes(stored)),
        ("if nothing were shared", vcterminal::bytes(all)),
        ("changed since they were last another", changed.to_string()),
    ];
    *html += "<ul class=\"cards\">\n";
    for (name, value) in cards {
        let _ = writeln!(html, "<li><strong>{value}</strong><span>{name}</span></li>");
    }
    *html += "</ul>\n";
}

/// Returns the last component of the image's name, with the platform if the image has several.
fn title(one: &ImageReport) -> String {
    let name = one.image.name.rsplit('/').next().unwrap_or(&one.image.name);
    if one.image.platforms.len() > 1 { format!("{name} ({})", one.one.platform) } else { name.to_owned() }
}

fn image(number: usize, one: &ImageReport, html: &mut String) {
    let unpacked: u64 = one.files.entries.values().map(|placed| placed.entry.kind.size()).sum();
    let stored: u64 = one.one.layers.iter().map(|layer| layer.size).sum();
    let packages = if one.packages == 0 { String::new() } else { format!(", {} Debian packages", one.packages) };
    let _ = writeln!(
        html,
        "<section id=\"image-{number}\">\n<h2>{}</h2>\n<p class=\"quiet\">{}<br><code>{}</code></p>\n\
         <p>{} as stored, {} unpacked; {} files{packages}; {}.</p>",
        escape(&title(one)),
        escape(&one.image.name),
        one.image.digest(),
        vcterminal::bytes(stored),
        vcterminal::bytes(unpacked),
        one.files.entries.values().filter(|placed| placed.entry.kind.word() == "file").count(),
        one.one.platform
    );
    *html += "<figure>\n";
    *html += &treemap::draw(&one.files, &title(one));
    *html +=
        "<figcaption class=\"pointed\" aria-live=\"off\">Areas are sizes. Point at one for its path.</figcaption>\n";
    *html += "<ul class=\"legend\">\n";
    for (place, layer) in one.one.layers.iter().enumerate() {
        let made = one.layers.get(place).and_then(Option::as_deref).unwrap_or("a layer of the base");
        let _ = writeln!(
            html,
            "<li><span class=\"swatch layer{}\"></span>{} — {} <code>{}</code></li>",
            place % 8,
            escape(made),
            vcterminal::bytes(layer.size),
            &layer.digest.to_string()[..19]
        );
    }
    *html += "</ul>\n</figure>\n";
    changes(&one.before, html);
    largest(one, html);
    *html += "</section>\n";
}

fn largest(one: &ImageReport, html: &mut String) {
    let mut files: Vec<(&String, &Placed)> = one.files.entries.iter().collect();
    files
        .sort_by(|one, other| other.1.entry.kind.size().cmp(&one.1.entry.kind.size()).then_with(|| one.0.cmp(other.0)));
    files.retain(|(_, placed)| placed.entry.kind.size() > 0);
    if files.is_empty() {
        return;
    }
    *html += "<details>\n<summary>Largest files</summary>\n<table>\n<thead><tr><th>file</th><th>size</th><th>layer</th></tr></thead>\n<tbody>\n";
    for (path, placed) in files.into_iter().take(LARGEST) {
        let _ = writeln!(
            html,
            "<tr><td>/{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            escape(path),
            vcterminal::bytes(placed.entry.kind.size()),
            placed.layer + 1
        );
    }
    *html += "</tbody>\n</table>\n</details>\n";
}

fn changes(before: &PreviousImage, html: &mut String) {
    match before {
        PreviousImage::Nothing => {
            *html += "<p class=\"quiet\">No build is remembered in which it was another image.</p>\n";
        }
        PreviousImage::Gone(began) => {
            let _ = writeln!(
                html,
                "<p class=\"quiet\">The image differed in the build of {}; that version is no longer in the store.</p>",
                timeline::when(*began)
            );
        }
        PreviousImage::Changed(began, changes) => {
            let _ = writeln!(html, "<h3>Changed since the build of {}</h3>", timeline::when(*began));
            for platform in &changes.platforms {
                platform_changes(platform, html);
            }
        }
    }
}

fn platform_changes(changes: &PlatformChanges, html: &mut String) {
    let (files, packages) = (&changes.files, &changes.packages);
    let mut rows: Vec<(&str, String, String)> = Vec::new();
    for setting in &changes.config {
        rows.push(("changed", setting.name.clone(), format!("{} → {}", setting.before, setting.after)));
    }
    for one in &packages.removed {
        rows.push(("removed", format!("package {}", one.name), one.version.clone()));
    }
    for one in &packages.added {
        rows.push(("added", format!("package {}", one.name), one.version.clone()));
    }
    for one in &packages.changed {
        let version = format!("{} → {}", one.version.before, one.version.after);
        rows.push(("changed", format!("package {}", one.name), version));
    }
    for shape in &files.removed {
        rows.push(("removed", shape.path.clone(), vcterminal::bytes(shape.size)));
    }
    for shape in &files.added {
        rows.push(("added", shape.path.clone(), vcterminal::bytes(shape.size)));
    }
    for change in files.changed.iter().filter(|change| change.changes != [Change::Time]) {
        let (old, new) = (&change.shape.before, &change.shape.after);
        let detail = if change.changes.contains(&Change::Content) {
            format!("{} → {}", vcterminal::bytes(old.size), vcterminal::bytes(new.size))
        } else {
            format!("{} {} → {} {}", old.mode, old.owner, new.mode, new.owner)
        };
        rows.push(("changed", change.path.clone(), detail));
    }
    let size = |size: Option<u64>| size.map_or("nothing".to_owned(), vcterminal::bytes);
    let _ = writeln!(
        html,
        "<p>{} → {} as stored: {} files added, {} removed, {} changed.</p>",
        size(changes.size.before),
        size(changes.size.after),
        files.added.len(),
        files.removed.len(),
        files.changed.len()
    );
    if rows.is_empty() {
        return;
    }
    let left_out = rows.len().saturating_sub(CHANGES);
    *html += "<table class=\"changes\">\n<tbody>\n";
    for (class, what, detail) in rows.into_iter().take(CHANGES) {
        let sign = match class {
            "added" => "+",
            "removed" => "−",
            _ => "~",
        };
        let _ = writeln!(
            html,
            "<tr class=\"{class}\"><td>{sign}</td><td>{}</td><td>{}</td></tr>",
            escape(&what),
            escape(&detail)
        );
    }
    *html += "</tbody>\n</table>\n";
    if left_out > 0 {
        let _ = writeln!(html, "<p class=\"quiet\">{left_out} more: <code>vcbuild diff</code> shows all.</p>");
    }
}

fn builds(builds: &[Build], html: &mut String) {
    *html += "<section id=\"build\">\n<h2>Last build</h2>\n";
    match builds.last() {
        None => *html += "<p class=\"quiet\">The timeline of a build is drawn here once there is one.</p>\n",
        Some(build) => {
            let count = |outcome| build.steps.iter().filter(|step| step.outcome == outcome).count();
            let more = |outcome, word| match count(outcome) {
                0 => String::new(),
                count => format!(", {count} {word}"),
            };
            let others = more(Outcome::Substituted, "came from a cache") + &more(Outcome::Failed, "failed");
            let _ = writeln!(
                html,
                "<p>{}: {} actions ran, {} were reused{others}, in {}.</p>",
                timeline::when(build.began),
                count(Outcome::Run),
                count(Outcome::Reused),
                timeline::took(build.took)
            );
            *html += "<figure>\n";
            *html += &timeline::draw(build);
            *html += "</figure>\n<h3>How long builds took</h3>\n<figure>\n";
            *html += &timeline::history(builds);
            *html += "</figure>\n";
        }
    }
    *html += "</section>\n";
}

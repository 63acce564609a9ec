//! Draws a build as a timeline, and previous builds as bars.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::DateTime;

use super::html::escape;
use crate::journal::{Build, JournalStep, Outcome};

const WIDTH: f64 = 1000.0;
const NAMES: f64 = 250.0;
const ROW: f64 = 20.0;
/// The space on the right for the duration of the last bar.
const TAIL: f64 = 70.0;

/// The maximum number of drawn actions; the longest take precedence.
const ROWS: usize = 60;

/// The maximum number of drawn builds.
const BUILDS: usize = 40;

/// The maximum number of characters of an action's name.
const LETTERS: usize = 34;

/// Draws the timeline of a build's actions.
pub(super) fn draw(build: &Build) -> String {
    let mut steps: Vec<&JournalStep> = build.steps.iter().filter(|step| step.outcome != Outcome::Reused).collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.took));
    let left_out = steps.len().saturating_sub(ROWS);
    steps.truncate(ROWS);
    steps.sort_by_key(|step| (step.start, step.start + step.took));
    if steps.is_empty() {
        return "<p class=\"quiet\">Nothing had to run: the store had everything.</p>\n".to_owned();
    }
    let total = build.took.max(steps.iter().map(|step| step.start + step.took).max().unwrap_or(0)).max(1);
    let x = |time: u64| NAMES + (WIDTH - NAMES - TAIL) * ratio(time, total);
    let height = ROW * count(steps.len()) + 24.0;
    let mut svg = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"When each action ran\">\n"
    );
    for quarter in 0..=4 {
        let time = total * quarter / 4;
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"0\" y2=\"{1:.1}\"/>\
             <text class=\"tick\" x=\"{0:.1}\" y=\"{2:.1}\">{3}</text>",
            x(time),
            height - 18.0,
            height - 5.0,
            took(time)
        );
    }
    for (row, step) in steps.into_iter().enumerate() {
        let y = ROW * count(row);
        let (start, end) = (x(step.start), x(step.start + step.took));
        let name = format!("{} {}", step.kind, step.name);
        let shown: String = if name.chars().count() > LETTERS {
            name.chars().take(LETTERS - 1).chain(['…']).collect()
        } else {
            name.clone()
        };
        let failed = if step.outcome == Outcome::Failed { " failed" } else { "" };
        let _ = writeln!(
            svg,
            "<g><title>{} — {}, began after {}</title><text class=\"action\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <rect class=\"bar {}{failed}\" x=\"{start:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>\
             <text class=\"took\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
            escape(&name),
            took(step.took),
            took(step.start),
            NAMES - 8.0,
            y + 14.0,
            escape(&shown),
            class(&step.kind),
            y + 3.0,
            (end - start).max(1.5),
            ROW - 6.0,
            end.max(start + 1.5) + 5.0,
            y + 14.0,
            took(step.took)
        );
    }
    svg += "</svg>\n";
    if left_out > 0 {
        let _ = writeln!(svg, "<p class=\"quiet\">{left_out} shorter actions are not drawn.</p>");
    }
    svg
}

/// Draws the durations of the latest builds.
pub(super) fn history(builds: &[Build]) -> String {
    let latest = &builds[builds.len().saturating_sub(BUILDS)..];
    let longest = latest.iter().map(|build| build.took).max().unwrap_or(0).max(1);
    let wide = WIDTH / count(BUILDS);
    let mut svg =
        "<svg class=\"history\" viewBox=\"0 0 1000 90\" role=\"img\" aria-label=\"How long builds took\">\n".to_owned();
    for (place, build) in latest.iter().enumerate() {
        let tall = (80.0 * ratio(build.took, longest)).max(2.0);
        let ran = build.steps.iter().filter(|step| step.outcome == Outcome::Run).count();
        let reused = build.steps.iter().filter(|step| step.outcome == Outcome::Reused).count();
        let class = if build.succeeded { "bar" } else { "bar failed" };
        let failed = if build.succeeded { "" } else { ", failed" };
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.1}\" rx=\"2\">\
             <title>{} — {}{failed}: {ran} run, {reused} reused</title></rect>",
            wide * count(place) + 2.0,
            88.0 - tall,
            wide - 4.0,
            when(build.began),
            took(build.took)
        );
    }
    svg + "</svg>\n"
}

/// Formats a time of the journal.
pub(super) fn when(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds).ok().and_then(DateTime::from_timestamp_millis);
    time.map_or_else(String::new, |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// Formats a duration of the journal.
pub(super) fn took(milliseconds: u64) -> String {
    vcterminal::duration(Duration::from_millis(milliseconds))
}

/// Returns the CSS class that determines the colour of an action kind; unknown kinds share one.
fn class(kind: &str) -> &'static str {
    match kind {
        "compile" => "compile",
        "layer" => "layer",
        "base" => "base",
        "image" => "image",
        "archive" => "archive",
        "scan" => "scan",
        "clone" => "clone",
        _ => "other",
    }
}

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::{draw, history, when};
    use crate::journal::{Build, JournalStep, Outcome};

    fn build() -> Build {
        let step = |name: &str, start, took, outcome| JournalStep {
            kind: "compile".to_owned(),
            name: name.to_owned(),
            key: None,
            start,
            took,
            outcome,
        };
        let steps = vec![
            step("b <linux/amd64>", 500, 1500, Outcome::Run),
            step("a linux/amd64", 0, 700, Outcome::Failed),
            step("c linux/amd64", 0, 0, Outcome::Reused),
        ];
        Build { began: 1_700_000_000_000, took: 2000, succeeded: false, images: [].into(), steps }
    }

    #[test]
    fn actions_stand_in_the_order_they_began_and_reused_ones_are_not_drawn() {
        let svg = draw(&build());
        let (first, second) = (svg.find("compile a linux").unwrap(), svg.find("compile b &lt;linux").unwrap());
        assert!(first < second && !svg.contains("compile c") && svg.contains("class=\"bar compile failed\""), "{svg}");
        assert!(svg.contains("— 1.50 s, began after 500 ms</title>"), "{svg}");
        let nothing = Build { steps: Vec::new(), ..build() };
        assert!(draw(&nothing).contains("Nothing had to run"));
    }

    #[test]
    fn builds_are_bars_with_their_dates() {
        let svg = history(&[build(), Build { succeeded: true, ..build() }]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert!(svg.contains("<title>2023-11-14 22:13:20 UTC — 2.00 s, failed: 1 run, 1 reused</title>"), "{svg}");
        assert_eq!(when(0), "1970-01-01 00:00:00 UTC");
    }
}

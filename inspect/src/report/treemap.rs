//! Draws the files of an image as a treemap: rectangles with areas proportional to sizes, nested by folder (Bruls,
//! Huizing and van Wijk, "Squarified Treemaps", 2000).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::html::escape;
use crate::image_fs::Files;

/// The size of the drawing in its own units; the page scales it.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 460.0;

/// The minimum area of a drawn rectangle in square units; smaller ones would not be visible.
const SMALLEST: f64 = 7.0;

/// The height of a folder's name, and the padding around a folder's content.
const HEAD: f64 = 13.0;
const PADDING: f64 = 1.5;

/// The maximum width of a letter in the font of the names.
const LETTER: f64 = 6.0;

/// The maximum depth of drawn folders; a deeper folder is a single rectangle.
const DEPTH: usize = 7;

/// A folder or file with its size.
#[derive(Debug, Default)]
struct Node {
    size: u64,
    files: u64,
    layer: usize,
    children: BTreeMap<String, Node>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Draws the files as SVG, coloured by layer.
pub(super) fn draw(files: &Files, name: &str) -> String {
    let mut root = Node::default();
    for (path, placed) in &files.entries {
        let size = placed.entry.kind.size();
        if size > 0 {
            root.add(path, size, placed.layer);
        }
    }
    let mut svg = format!(
        "<svg class=\"treemap\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Sizes of the files of {}\">\n",
        escape(name)
    );
    root.draw("", Rect { x: 0.0, y: 0.0, width: WIDTH, height: HEIGHT }, 0, &mut svg);
    svg + "</svg>\n"
}

impl Node {
    fn add(&mut self, path: &str, size: u64, layer: usize) {
        self.size += size;
        self.files += 1;
        self.layer = self.layer.max(layer);
        if !path.is_empty() {
            let (name, rest) = path.split_once('/').unwrap_or((path, ""));
            self.children.entry(name.to_owned()).or_default().add(rest, size, layer);
        }
    }

    fn draw(&self, path: &str, rect: Rect, depth: usize, svg: &mut String) {
        let inner = if depth == 0 { rect } else { rect.inside() };
        if self.children.is_empty() || depth >= DEPTH || inner.width < 4.0 || inner.height < 4.0 {
            self.draw_leaf(path, rect, svg);
            return;
        }
        if depth > 0 {
            self.open_folder(path, rect, svg);
        }
        let mut children: Vec<_> = self.children.iter().collect();
        children.sort_by(|one, other| other.1.size.cmp(&one.1.size).then_with(|| one.0.cmp(other.0)));
        let sizes: Vec<u64> = children.iter().map(|(_, child)| child.size).collect();
        for ((name, child), rect) in children.into_iter().zip(squarify(&sizes, inner)) {
            if rect.width * rect.height >= SMALLEST {
                child.draw(&format!("{path}/{name}"), rect, depth + 1, svg);
            }
        }
        if depth > 0 {
            *svg += "</g>\n";
        }
    }

    fn open_folder(&self, path: &str, rect: Rect, svg: &mut String) {
        let _ = write!(svg, "<g><rect class=\"folder\" {}>{}</rect>", rect.attributes(), self.title(path));
        if rect.has_head() {
            label(path, rect.x + 3.0, rect.y + 10.0, rect.width, "head", svg);
        }
        *svg += "\n";
    }

    fn draw_leaf(&self, path: &str, rect: Rect, svg: &mut String) {
        let class = format!("file layer{}", self.layer % 8);
        let _ = write!(svg, "<rect class=\"{class}\" {}>{}</rect>", rect.attributes(), self.title(path));
        if rect.height >= 13.0 {
            label(path, rect.x + 3.0, rect.y + 10.5, rect.width, "name", svg);
        }
        *svg += "\n";
    }

    fn title(&self, path: &str) -> String {
        let files = if self.children.is_empty() { String::new() } else { format!(", {} files", self.files) };
        format!("<title>{} — {}{files}</title>", escape(path), vcterminal::bytes(self.size))
    }
}

/// Writes the last component of a path, if there is enough space.
fn label(path: &str, x: f64, y: f64, width: f64, class: &str, svg: &mut String) {
    let name = path.rsplit('/').next().unwrap_or(path);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a handful of letters, never negative")]
    let room = ((width - 5.0) / LETTER).max(0.0) as usize;
    let letters = name.chars().count();
    let text = if letters <= room {
        name.to_owned()
    } else if room >= 4 {
        format!("{}…", name.chars().take(room - 1).collect::<String>())
    } else {
        return;
    };
    let _ = write!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(&text));
}

impl Rect {
    fn has_head(self) -> bool {
        self.width >= 34.0 && self.height >= 30.0
    }

    /// Returns the area for a folder's content.
    fn inside(self) -> Self {
        let head = if self.has_head() { HEAD } else { PADDING };
        Self {
            x: self.x + PADDING,
            y: self.y + head,
            width: self.width - 2.0 * PADDING,
            height: self.height - head - PADDING,
        }
    }

    fn attributes(self) -> String {
        // Leave a small gap between neighbours.
        let (width, height) = ((self.width - 0.6).max(0.1), (self.height - 0.6).max(0.1));
        format!("x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"", self.x, self.y)
    }
}

/// Divides a rectangle into parts with areas proportional to `sizes`, which are in descending order, and with sides of
/// similar length.
#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn squarify(sizes: &[u64], within: Rect) -> Vec<Rect> {
    let total: u64 = sizes.iter().sum();
    if total == 0 {
        return vec![Rect { width: 0.0, height: 0.0, ..within }; sizes.len()];
    }
    let scale = within.width * within.height / total as f64;
    let areas: Vec<f64> = sizes.iter().map(|size| *size as f64 * scale).collect();
    let mut rects = Vec::with_capacity(areas.len());
    let (mut left, mut rest) = (within, areas.as_slice());
    while !rest.is_empty() {
        let side = left.width.min(left.height);
        // Extend the row while this improves its worst aspect ratio.
        let mut count = 1;
        while count < rest.len() && worst(&rest[..=count], side) <= worst(&rest[..count], side) {
            count += 1;
        }
        let row = &rest[..count];
        let thick = if side > 0.0 { row.iter().sum::<f64>() / side } else { 0.0 };
        let mut along = 0.0;
        for area in row {
            let long = if thick > 0.0 { area / thick } else { 0.0 };
            rects.push(if left.width >= left.height {
                Rect { x: left.x, y: left.y + along, width: thick, height: long }
            } else {
                Rect { x: left.x + along, y: left.y, width: long, height: thick }
            });
            along += long;
        }
        if left.width >= left.height {
            left = Rect { x: left.x + thick, width: (left.width - thick).max(0.0), ..left };
        } else {
            left = Rect { y: left.y + thick, height: (left.height - thick).max(0.0), ..left };
        }
        rest = &rest[count..];
    }
    rects
}

/// Returns the worst aspect ratio in a row of these areas along a side.
fn worst(row: &[f64], side: f64) -> f64 {
    let sum: f64 = row.iter().sum();
    let ratio = |area: &f64| {
        let (long, thick) = (area / (sum / side), sum / side);
        (long / thick).max(thick / long)
    };
    row.iter().map(ratio).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Rect, draw, squarify};
    use crate::image_fs::Files;
    use crate::image_fs::tests::layer;

    proptest! {
        #[test]
        fn areas_are_as_the_sizes_and_all_lie_within(mut sizes in proptest::collection::vec(1..1_000_000u64, 1..60)) {
            sizes.sort_unstable_by(|one, other| other.cmp(one));
            let within = Rect { x: 10.0, y: 20.0, width: 300.0, height: 200.0 };
            let total: u64 = sizes.iter().sum();
            let rects = squarify(&sizes, within);
            prop_assert_eq!(rects.len(), sizes.len());
            for (rect, size) in rects.iter().zip(&sizes) {
                let expected = 60_000.0 * *size as f64 / total as f64;
                prop_assert!((rect.width * rect.height - expected).abs() < 0.01, "{rect:?} for {size} of {total}");
                prop_assert!(rect.x >= 9.99 && rect.y >= 19.99);
                prop_assert!(rect.x + rect.width <= 310.01 && rect.y + rect.height <= 220.01);
            }
        }
    }

    #[test]
    fn folders_hold_their_files_and_names_are_escaped() {
        let big = format!("usr/bin/a&<b> {}", "x".repeat(600));
        let svg =
            draw(&Files::of([&layer(&["usr/", "usr/bin/", &big, "etc/passwd root", "link -> etc"])]), "an \"image\"");
        assert!(svg.contains("aria-label=\"Sizes of the files of an &quot;image&quot;\""), "{svg}");
        assert!(svg.contains("<title>/usr/bin/a&amp;&lt;b&gt; — 600 B</title>"), "{svg}");
        assert!(svg.contains("<title>/usr — 600 B, 1 files</title>"), "{svg}");
        assert!(!svg.contains("link") && svg.matches("<g>").count() == svg.matches("</g>").count());
    }
}

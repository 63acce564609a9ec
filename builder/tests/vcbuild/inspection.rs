//! Looking into images: what differs, what made them, what pulled something in, and the page about all of it.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, text, untar};

fn list<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    value.as_array().unwrap().iter().map(|one| one[key].as_str().unwrap()).collect()
}

#[test]
fn diff_names_what_other_tools_did_to_an_image() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--components", "one", "--compression", "gzip"]);
    untar(&bench.path("out/one-amd64.tar"), &bench.path("layout"));
    bench.write("motd", "hello\n");
    for path in ["/etc/motd", "/etc/issue"] {
        bench.tool("umoci", &["insert", "--rootless", "--image", "layout:v1", "motd", path]);
    }
    bench.tool("umoci", &["insert", "--rootless", "--image", "layout:v1", "--whiteout", "/usr/local/bin/one"]);
    bench.tool("umoci", &["config", "--image", "layout:v1", "--config.env", "COLOUR=blue", "--config.user", "65532"]);

    let document = bench.json(&["diff", "one", "layout"]);
    assert_eq!(document["identical"], false);
    let changes = &document["images"][0]["platforms"][0];
    let layers = list(&changes["layers"], "change");
    assert_eq!(layers, ["same", "added", "added", "added"], "what is below stays as it is");
    let files = &changes["files"];
    assert_eq!(list(&files["removed"], "path"), ["/usr/local/bin/one"]);
    assert_eq!((list(&files["added"], "path").pop(), &files["changed"]), (Some("/etc/motd"), &json!([])));
    let added = &files["added"].as_array().unwrap().last().unwrap();
    assert_eq!((&added["kind"], &added["size"]), (&json!("file"), &json!(6)));
    assert_eq!(added["digest"], "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    let settings = changes["config"].as_array().unwrap();
    let setting = |name: &str| settings.iter().find(|one| one["name"] == name).unwrap();
    assert_eq!(setting("config.Env.COLOUR"), &json!({"name": "config.Env.COLOUR", "before": null, "after": "blue"}));
    assert_eq!(setting("config.User")["after"], "65532");

    let printed = bench.run(&["diff", "one", "layout", "--exit-code"]);
    assert_eq!(printed.code, Some(3));
    for line in ["\n  - /usr/local/bin/one  0755  ", "\n  + /etc/motd  0", "\n  + config.Env.COLOUR  blue\n"] {
        assert!(printed.stdout.contains(line), "{line:?} is not in\n{}", printed.stdout);
    }
    let back = bench.run(&["diff", "layout", "one", "--limit", "1"]);
    assert_eq!((back.code, back.stdout.contains("\n  … ")), (Some(0), true), "{back:?}");
    let same = bench.run(&["diff", "one", "out/one-amd64.tar", "--exit-code"]);
    assert_eq!((same.code, same.stdout.lines().last()), (Some(0), Some("identical")));
}

#[test]
fn diff_tells_two_programs_apart() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello"]);
    let changes = bench.json(&["diff", "one", "two"])["images"][0]["platforms"][0].clone();
    assert_eq!(list(&changes["layers"], "change"), ["added", "removed"]);
    assert_eq!(list(&changes["files"]["removed"], "path"), ["/usr/local/bin/one"]);
    assert_eq!(list(&changes["files"]["added"], "path"), ["/usr/local/bin/two"]);
    bench.edit("hello/cmd/one/main.go", "\"one\"", "\"ONE\"");
    bench.json(&["images", "--source-dir", "hello", "--components", "one", "--out", "new"]);
    let changed = bench.json(&["diff", "out/one-amd64.tar", "new/one-amd64.tar"])["images"][0]["platforms"][0].clone();
    assert_eq!(list(&changed["files"]["changed"], "path"), ["/usr/local/bin/one"]);
    assert_eq!(changed["files"]["changed"][0]["changes"], json!(["content"]));
    assert_eq!((&changed["files"]["added"], &changed["config"]), (&json!([]), &json!([])));

    // What is damaged is said to be, and never compared.
    let layer = text(&changed["layers"][0]["digest"]["after"]).replacen(':', "/", 1);
    let path = bench.path("store/blobs").join(layer);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    bench.run(&["diff", "one", "out/one-amd64.tar"]).failed(1, &["reading layer "]);
}

#[test]
fn the_way_from_inputs_to_an_image_is_told() {
    let bench = Bench::with_hello();
    // A vendored module, which needs no network.
    bench.edit("hello/go.mod", "go 1.21\n", "go 1.21\n\nrequire example.org/dep v1.2.3\n");
    bench.write(
        "hello/vendor/modules.txt",
        "# example.org/dep v1.2.3\n## explicit; go 1.21\nexample.org/dep/deep\nexample.org/dep/shallow\n",
    );
    bench.write(
        "hello/vendor/example.org/dep/shallow/shallow.go",
        "package shallow\n\nimport \"example.org/dep/deep\"\n\nvar Value = deep.Value\n",
    );
    bench.write("hello/vendor/example.org/dep/deep/deep.go", "package deep\n\nvar Value = \"deep\"\n");
    bench.edit(
        "hello/cmd/one/main.go",
        "import \"example.org/hello/pkg/version\"",
        "import (\n\t\"example.org/dep/shallow\"\n\t\"example.org/hello/pkg/version\"\n)",
    );
    bench.edit("hello/cmd/one/main.go", "\"one\",", "shallow.Value,");
    let built = bench.json(&["images", "--source-dir", "hello"]);
    let image = text(&built["images"][0]["reference"]);

    let inspected = bench.json(&["inspect", "one"]);
    let provenance = &inspected["images"][0]["platforms"][0]["provenance"];
    assert_eq!(list(provenance, "kind"), ["compile", "layer", "image"]);
    assert!(provenance[0]["inputs"]["files"]["cmd/one/main.go"].is_string(), "{provenance}");
    assert!(provenance[0]["notes"]["sandbox"].is_string());
    assert_eq!(bench.json(&["inspect", "out/one-amd64.tar"]), inspected, "the store knows what made the archive");
    let printed = bench.run(&["inspect", "one"]).stdout;
    assert!(printed.contains("\n  MADE BY") && printed.contains("\n  compile one linux/amd64"), "{printed}");
    assert!(printed.contains("\n  sandbox: "), "{printed}");

    let why = |what: &str| {
        let document = bench.json(&["why", what]);
        let reasons = document["reasons"].as_array().unwrap();
        let chain = reasons[0]["chain"].as_array().unwrap().clone();
        (
            text(&reasons[0]["image"]),
            chain.iter().map(|link| format!("{} {}", text(&link["kind"]), text(&link["name"]))).collect::<Vec<_>>(),
        )
    };
    let actions = ["action image one linux/amd64", "action layer one", "action compile one linux/amd64"];
    let imports = ["import example.org/hello/cmd/one", "import example.org/dep/shallow"];
    let module = "module example.org/dep";
    assert_eq!(
        why("example.org/dep"),
        (image.clone(), [&actions[..], &imports, &[module]].concat().iter().map(|&link| link.to_owned()).collect())
    );
    let deep = [&actions[..], &imports, &["import example.org/dep/deep", module]].concat();
    assert_eq!(why("example.org/dep/deep").1, deep);
    let (_, file) = why("/usr/local/bin/one");
    assert_eq!(file[1..], ["action layer one", "action compile one linux/amd64", "file /usr/local/bin/one"]);
    let binary = text(&provenance[1]["outputs"].as_object().unwrap().values().next().unwrap()["digest"]);
    assert_eq!(why(&binary).1.last().map(|link| link.starts_with("layer ") || link.starts_with("action ")), Some(true));
    let compiled = text(&provenance[0]["outputs"].as_object().unwrap().values().next().unwrap()["digest"]);
    assert_eq!(why(&compiled[7..19]).1.last().unwrap(), &format!("blob {compiled}"), "twelve digits are enough");
    bench.run(&["why", "example.org/none"]).failed(1, &["looking for example.org/none: no inspected image", "help: "]);

    let graph = bench.json(&["graph"]);
    let nodes = graph["nodes"].as_object().unwrap();
    for edge in graph["edges"].as_array().unwrap() {
        assert!(nodes.contains_key(&text(&edge["from"])) && nodes.contains_key(&text(&edge["to"])), "{edge}");
    }
    let count = |kind: &str| nodes.values().filter(|node| node["kind"] == kind).count();
    assert_eq!((count("image"), nodes.values().filter(|node| node["title"] == "compile").count()), (2, 2));
    assert_eq!(nodes.values().filter(|node| node["title"] == "toolchain").count(), 1, "one compiler, one node");
    let (dot, mermaid) =
        (bench.run(&["graph", "one"]).stdout, bench.run(&["graph", "one", "--format", "mermaid"]).stdout);
    assert!(dot.starts_with("digraph ") && dot.contains(&image) && !dot.contains("hello/two"), "{dot}");
    assert!(mermaid.starts_with("flowchart LR\n") && mermaid.contains(&image), "{mermaid}");
}

#[test]
fn a_debian_package_is_there_for_the_sake_of_another() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--components", "one", "--compression", "gzip", "--out", "bases"]);
    untar(&bench.path("bases/one-amd64.tar"), &bench.path("layout"));
    bench.write(
        "root/var/lib/dpkg/status",
        "Package: bash\nEssential: yes\nStatus: install ok installed\nVersion: 5\nArchitecture: amd64\nPre-Depends: libc (>= 2)\n\n\
         Package: libc\nStatus: install ok installed\nVersion: 2\nArchitecture: amd64\n",
    );
    bench.write("root/var/lib/dpkg/info/libc:amd64.list", "/.\n/lib\n/lib/libc.so\n");
    bench.write("root/usr/lib/libc.so", "code");
    std::os::unix::fs::symlink("usr/lib", bench.path("root/lib")).unwrap();
    bench.tool("umoci", &["insert", "--rootless", "--image", "layout:v1", "root", "/"]);
    bench.json(&["images", "--source-dir", "hello", "--components", "two", "--base", "oci:layout"]);
    let links = |what: &str| {
        let reasons = bench.json(&["why", what, "two"])["reasons"].clone();
        let chain = reasons[0]["chain"].as_array().unwrap().clone();
        chain[1..].iter().map(|link| text(&link["name"])).collect::<Vec<_>>()
    };
    assert_eq!(links("/lib/libc.so"), ["base oci:layout", "bash 5", "libc 2", "/usr/lib/libc.so"]);
    assert_eq!(links("libc"), ["base oci:layout", "bash 5", "libc 2"]);
    let printed = bench.run(&["why", "libc", "two"]).stdout;
    assert!(printed.contains("  package  bash 5  amd64; essential\n"), "{printed}");
}

#[test]
fn the_report_is_one_page_that_needs_nothing_else() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--stamp", "version=<b>"]);
    let first = bench.json(&["report", "--out", "first.html"]);
    assert_eq!((first["images"].as_array().unwrap().len(), &first["builds"]), (2, &json!(1)));
    let page = bench.read("first.html");
    assert!(page.contains("No build is remembered in which it was another image."));
    bench.edit("hello/cmd/one/main.go", "\"one\"", "\"ONE\"");
    bench.json(&["images", "--source-dir", "hello", "--stamp", "version=<b>"]);
    assert!(bench.run(&["report"]).stdout.starts_with("wrote vcbuild-report.html: 2 images, 2 builds, "));
    let page = bench.read("vcbuild-report.html");
    let kinds: BTreeSet<_> = elements(&page).into_iter().collect();
    for kind in ["title", "svg", "rect", "table", "script", "style"] {
        assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
    }
    assert!(page.starts_with("<!DOCTYPE html>\n"));
    for fetched in ["http:", "https:", "src=", "url(", "@import", "<link", "<img"] {
        assert!(!page.contains(fetched), "the page fetches: {fetched}");
    }
    assert!(
        page.contains("<title>/usr/local/bin/one — ") && page.contains("<h3>Changed since the build of 20"),
        "{page}"
    );
    assert!(page.contains("<td>/usr/local/bin/one</td>") && page.contains("<title>compile one linux/amd64 — "));
    assert!(page.contains("prefers-color-scheme: dark"));

    // A build that fails is part of the story.
    bench.edit("hello/cmd/two/main.go", "func main() {", "func main() { undefined();");
    assert_eq!(bench.run(&["images", "--source-dir", "hello"]).code, Some(1));
    bench.json(&["report", "one"]);
    let page = bench.read("vcbuild-report.html");
    elements(&page);
    assert!(page.contains(" and failed.</p>") && page.contains("class=\"bar compile failed\""), "{page}");
}

/// The elements of a page by name, checked to be closed in the order they were opened.
fn elements(page: &str) -> Vec<String> {
    const VOID: [&str; 2] = ["meta", "br"];
    let (mut open, mut all): (Vec<String>, Vec<String>) = Default::default();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').unwrap();
        rest = after;
        if tag.starts_with('!') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{} bytes before the end", rest.len());
            continue;
        }
        let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if matches!(name.as_str(), "style" | "script") {
            rest = rest.split_once(&format!("</{name}>")).unwrap().1;
        } else if !VOID.contains(&name.as_str()) && !tag.ends_with('/') {
            open.push(name.clone());
        }
        all.push(name);
    }
    assert_eq!(open, Vec::<String>::new());
    all
}

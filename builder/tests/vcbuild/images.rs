//! `vcbuild images`: the same everywhere, nothing twice, and read by others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rigs::Run;
use serde_json::{Value, json};

use crate::bench::{Actions, Bench, copy, digests, sha256, text, untar};

#[test]
fn two_copies_in_different_worlds_give_the_same_archives() {
    let bench = Bench::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/virtualcluster");
    copy(&fixture, &bench.path("a"));
    copy(&fixture, &bench.path("some/where/else"));
    bench.write("some/where/else/.git/HEAD", "ref: refs/heads/main\n");
    let arguments = ["images", "--base", "scratch", "--output", "json"];
    let here = Run::of(&mut bench.vcbuild(&[&arguments[..], &["--source-dir", "a", "--out", "out-a"]].concat()));
    let script = "umask 077; exec \"$0\" \"$@\"";
    let mut elsewhere = bench.around(Command::new("sh"), &["-c", script, env!("CARGO_BIN_EXE_vcbuild")]);
    elsewhere
        .args(arguments)
        .args(["--source-dir", "some/where/else", "--out", "out-b", "-j", "1"])
        .env("VCBUILD_STORE", bench.path("other store"))
        .env("HOME", bench.path("nobody"))
        .env("TZ", "Pacific/Kiritimati")
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("GOFLAGS", "-buildvcs=true -trimpath=false -tags=other")
        .env("CGO_ENABLED", "1")
        .env("GOAMD64", "v3");
    let there = Run::of(&mut elsewhere);
    assert_eq!(digests(&here.json()), digests(&there.json()));
    let archives = ["manager", "syncer", "vn-agent"].map(|component| format!("vc_{component}-amd64.tar"));
    for archive in &archives {
        let [one, other] = ["out-a", "out-b"].map(|out| sha256(&bench.path(out).join(archive)));
        assert_eq!(one, other, "{archive}");
    }
    let names: Vec<_> =
        here.json()["images"].as_array().unwrap().iter().map(|image| text(&image["reference"])).collect();
    assert_eq!(names[2], "docker.io/virtualcluster/vn-agent-amd64:latest");
}

#[test]
fn nothing_is_done_twice() {
    let bench = Bench::with_hello();
    let build = || bench.run(&["images", "--source-dir", "hello", "--output", "json"]);
    let first = build().json();
    // One scan, and for each of two components: compile, layer, image, archive.
    assert_eq!(first["actions"], json!({"total": 9, "run": 9, "reused": 0, "substituted": 0}));

    let again = build();
    assert_eq!(again.json()["actions"], json!({"total": 9, "run": 0, "reused": 9, "substituted": 0}));
    assert_eq!(again.stderr, "", "what is not done is not told");

    bench.write("hello/README.md", "Changed.\n");
    bench.write("hello/cmd/one/one_test.go", "package main\n");
    fs::remove_file(bench.path("hello/cmd/one/one_test.go")).unwrap();
    assert_eq!(build().json()["actions"]["run"], 0, "no program is made of a README");

    bench.edit("hello/cmd/one/main.go", "\"one\"", "\"ONE\"");
    let changed = build();
    assert_eq!((changed.ran("scan"), changed.ran("compile"), changed.ran("layer")), (1, 1, 1), "{changed:?}");
    assert_eq!(changed.json()["actions"]["run"], 5);
    let (before, after) = (digests(&first), digests(&changed.json()));
    assert!(before["one"] != after["one"] && before["two"] == after["two"]);

    bench.edit("hello/cmd/two/main.go", "package main\n", "package main // a comment\n");
    let comment = build();
    assert_eq!((comment.ran("compile"), comment.ran("layer")), (1, 0), "{comment:?}");
    assert_eq!(digests(&comment.json()), after, "a comment makes no other program");

    fs::remove_file(bench.path("out/one-amd64.tar")).unwrap();
    fs::write(bench.path("out/two-amd64.tar"), "damaged").unwrap();
    let archives = build();
    assert_eq!((archives.ran("archive"), archives.json()["actions"]["run"].clone()), (2, json!(2)));
    assert_eq!(build().json()["actions"]["run"], 0);
}

#[test]
fn archives_beside_the_code_hide_none_of_it() {
    let bench = Bench::with_hello();
    let build = || bench.run(&["images", "--source-dir", "hello", "--out", "hello", "--output", "json"]);
    build().json();
    assert_eq!(build().json()["actions"]["run"], 0, "an archive is no part of the source");
    bench.write("hello/cmd/one/more.go", "package main\n\nfunc init() { println(\"more\") }\n");
    let more = build();
    assert_eq!((more.ran("scan"), more.ran("compile")), (1, 1), "{more:?}");
}

#[test]
fn what_is_printed_is_a_contract() {
    let bench = Bench::with_hello();
    let document = bench.json(&["images", "--source-dir", "hello", "--components", "two", "--compression", "none"]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&document), ["actions", "elapsed_seconds", "images"]);
    let image = &document["images"][0];
    assert_eq!(keys(image), ["archive", "component", "digest", "platforms", "reference"]);
    assert_eq!((text(&image["component"]), text(&image["archive"])), ("two".into(), "out/two-amd64.tar".into()));
    let platform = &image["platforms"][0];
    assert_eq!(keys(platform), ["layers", "manifest", "platform"]);
    assert_eq!((&platform["platform"], &platform["manifest"]), (&json!("linux/amd64"), &image["digest"]));
    let layer = &platform["layers"][0];
    assert_eq!(keys(layer), ["diff_id", "digest", "media_type", "size"]);
    assert_eq!(layer["digest"], layer["diff_id"], "the layer is not compressed");
    assert_eq!(document["images"].as_array().unwrap().len(), 1);

    let printed = bench.run(&["images", "--source-dir", "hello"]).stdout;
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["COMPONENT", "IMAGE", "DIGEST", "SIZE", "ARCHIVE"]);
    assert!(lines[1].starts_with("one ") && lines[1].ends_with("out/one-amd64.tar"), "{printed}");
    assert!(lines[3].starts_with("9 actions: ") && lines[3].contains(" reused, "), "{printed}");
}

#[test]
fn others_read_the_archives() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--compression", "gzip", "--stamp", "version=v1.2"]);
    for form in ["oci-archive", "docker-archive"] {
        let seen = bench.tool("skopeo", &["inspect", &format!("{form}:out/one-amd64.tar")]);
        let seen: Value = serde_json::from_str(&seen).unwrap();
        assert_eq!((&seen["Architecture"], &seen["Os"]), (&json!("amd64"), &json!("linux")), "{form}");
        let config = bench.tool("skopeo", &["inspect", "--config", &format!("{form}:out/one-amd64.tar")]);
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/local/bin/one"]), "{form}");
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
    }
    untar(&bench.path("out/one-amd64.tar"), &bench.path("layout"));
    bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
    let program = bench.path("bundle/rootfs/usr/local/bin/one");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o755);
    let said = Run::of(&mut Command::new(program));
    assert_eq!(said.stderr, "one v1.2 unknown 1970-01-01T00:00:00Z\n");
}

#[test]
fn inspect_shows_images_of_the_store_and_archives_alike() {
    let bench = Bench::with_hello();
    let built = bench.json(&["images", "--source-dir", "hello", "--components", "one"]);
    let named = bench.json(&["inspect", "one"]);
    let file = bench.json(&["inspect", "out/one-amd64.tar"]);
    assert_eq!(named, file);
    let image = &named["images"][0];
    assert_eq!((&image["name"], &image["digest"]), (&built["images"][0]["reference"], &built["images"][0]["digest"]));
    let platform = &image["platforms"][0];
    assert_eq!(platform["layers"], built["images"][0]["platforms"][0]["layers"]);
    assert_eq!(platform["config"]["config"]["Entrypoint"], json!(["/usr/local/bin/one"]));
    let printed = bench.run(&["inspect", "hello/one"]).stdout;
    assert!(printed.starts_with("registry.example/hello/one-amd64:v1\n  digest      sha256:"), "{printed}");
    assert!(printed.contains("\n  entrypoint  /usr/local/bin/one\n") && printed.contains("\n  LAYER "), "{printed}");
}

#[test]
fn platforms_have_their_own_images_or_share_an_index() {
    let bench = Bench::with_hello();
    let arguments = ["images", "--source-dir", "hello", "--components", "one", "--platform", "linux/arm64,linux/amd64"];
    let document = bench.json(&arguments);
    let images: BTreeMap<_, _> = document["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| (text(&image["archive"]), text(&image["platforms"][0]["platform"])))
        .collect();
    let expected = [("out/one-amd64.tar", "linux/amd64"), ("out/one-arm64.tar", "linux/arm64")];
    assert_eq!(images, expected.map(|(archive, platform)| (archive.to_owned(), platform.to_owned())).into());

    bench.edit("hello/vcbuild.toml", "{component}-{arch}:v1", "{component}:v1");
    bench.edit("hello/vcbuild.toml", "[components.one]", "[components.one]\narchive = \"one.tar\"");
    let shared = bench.json(&arguments);
    let image = &shared["images"][0];
    let platforms: Vec<_> = image["platforms"].as_array().unwrap().iter().map(|one| text(&one["platform"])).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(shared["actions"]["run"], 1, "the programs and manifests are those of before; the archive is new");
    assert_eq!(annotation(&bench, &image["digest"], "org.opencontainers.image.title"), "one", "an index says it, too");
    for (platform, architecture) in [("amd64", "amd64"), ("arm64", "arm64")] {
        let arguments = ["--override-arch", platform, "inspect", "oci-archive:out/one.tar"];
        let seen: Value = serde_json::from_str(&bench.tool("skopeo", &arguments)).unwrap();
        assert_eq!(seen["Architecture"], architecture);
    }
}

#[test]
fn the_time_in_an_image_is_the_one_asked_for() {
    let bench = Bench::with_hello();
    let mut command = bench.vcbuild(&["images", "--source-dir", "hello", "--components", "one"]);
    assert_eq!(Run::of(command.env("SOURCE_DATE_EPOCH", "1700000000")).code, Some(0));
    let image = bench.json(&["inspect", "one"]);
    assert_eq!(image["images"][0]["platforms"][0]["config"]["created"], "2023-11-14T22:13:20Z");
}

/// An annotation of a manifest or index of the store.
fn annotation(bench: &Bench, digest: &Value, name: &str) -> Value {
    let path = format!("store/blobs/{}", text(digest).replacen(':', "/", 1));
    serde_json::from_str::<Value>(&bench.read(&path)).unwrap()["annotations"][name].clone()
}

#[test]
fn a_processor_with_a_variant_has_it_in_program_manifest_and_index() {
    let bench = Bench::with_hello();
    bench.edit("hello/vcbuild.toml", "{component}-{arch}:v1", "{component}:v1");
    let arguments =
        ["images", "--source-dir", "hello", "--components", "one", "--platform", "linux/arm/v7,linux/amd64"];
    let image = bench.json(&arguments)["images"][0].clone();
    assert_eq!(image["platforms"][1]["platform"], "linux/arm/v7");
    let index = format!("store/blobs/{}", text(&image["digest"]).replacen(':', "/", 1));
    let index: Value = serde_json::from_str(&bench.read(&index)).unwrap();
    let platform = json!({"architecture": "arm", "os": "linux", "variant": "v7"});
    assert_eq!(index["manifests"][1]["platform"], platform);
    let inspected = bench.json(&["inspect", "one"]);
    assert_eq!(inspected["images"][0]["platforms"][1]["config"]["variant"], "v7");
    bench.tool(
        "skopeo",
        &[
            "--override-arch",
            "arm",
            "--override-variant",
            "v7",
            "copy",
            "--quiet",
            "oci:store:registry.example/hello/one:v1",
            "dir:arm",
        ],
    );
}

#[test]
fn an_image_says_how_it_runs_and_what_it_is() {
    let bench = Bench::with_hello();
    bench.edit(
        "hello/vcbuild.toml",
        "[components.one]",
        "[components.one]\nuser = \"65532:65532\"\nworkdir = \"/srv\"\nports = [\"8080\", \"53/udp\"]\nvolumes = [\"/data\"]\n\
         stop_signal = \"SIGINT\"\nenv = { A = \"1\" }\nlabels = { team = \"red\" }\ncmd = [\"--serve\"]\n\
         annotations = { \"org.opencontainers.image.vendor\" = \"us\", \"org.opencontainers.image.title\" = \"\" }",
    );
    let built = bench.json(&["images", "--source-dir", "hello", "--stamp", "version=v1.2", "--stamp", "commit=abc"]);
    let config = bench.json(&["inspect", "one"])["images"][0]["platforms"][0]["config"]["config"].clone();
    let expected = json!({
        "User": "65532:65532",
        "WorkingDir": "/srv",
        "ExposedPorts": {"53/udp": {}, "8080/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGINT",
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=1"],
        "Labels": {"team": "red"},
        "Entrypoint": ["/usr/local/bin/one"],
        "Cmd": ["--serve"],
    });
    assert_eq!(config, expected);
    let images = built["images"].as_array().unwrap();
    let said = |image: &Value| {
        let path = format!("store/blobs/{}", text(&image["digest"]).replacen(':', "/", 1));
        serde_json::from_str::<Value>(&bench.read(&path)).unwrap()["annotations"].clone()
    };
    let expected = json!({
        "org.opencontainers.image.revision": "abc",
        "org.opencontainers.image.version": "v1.2",
        "org.opencontainers.image.vendor": "us",
    });
    assert_eq!(said(&images[0]), expected, "the title was taken away");
    assert_eq!(said(&images[1])["org.opencontainers.image.title"], "two");
    let folder = bench.json(&["images", "--source-dir", "hello", "--components", "two"]);
    let expected = json!({"org.opencontainers.image.title": "two"});
    assert_eq!(said(&folder["images"][0]), expected, "of a folder nothing else is known");
}

#[test]
fn files_of_the_project_and_the_source_are_in_the_image() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let bench = Bench::with_hello();
    bench.write("project/vcbuild.toml", &bench.read("hello/vcbuild.toml").replace(
        "[components.one]",
        "[components.one]\n[components.one.files]\n\"/etc/one.conf\" = { from = \"conf/{component}-{arch}.conf\", mode = \"0640\", owner = \"1:2\" }\n\
         \"/usr/share/web\" = { from = \"web\" }\n\"/usr/share/README\" = { from = \"README.md\", in = \"source\" }\n\
         \"/usr/bin/one\" = { link = \"/usr/local/bin/one\" }\n\"/data\" = { mode = \"0700\", owner = \"65532\" }",
    ));
    bench.write("project/conf/one-amd64.conf", "amd64");
    bench.write("project/web/z.html", "z");
    bench.write("project/web/a/run", "#!/bin/sh");
    fs::set_permissions(bench.path("project/web/a/run"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(bench.path("project/web/z.html"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("../z.html", bench.path("project/web/a/link")).unwrap();
    let build = || {
        bench.run(&[
            "images",
            "--project",
            "project/vcbuild.toml",
            "--source-dir",
            "hello",
            "--components",
            "one",
            "--compression",
            "none",
            "--output",
            "json",
        ])
    };
    let first = build().json();
    let layers = first["images"][0]["platforms"][0]["layers"].as_array().unwrap().clone();
    assert_eq!(layers.len(), 2, "the files, and above them the program");
    let layer =
        fs::read(bench.path(&format!("store/blobs/{}", text(&layers[0]["digest"]).replacen(':', "/", 1)))).unwrap();
    let listed: Vec<_> = tar::Archive::new(layer.as_slice())
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let (path, link) = (entry.path().unwrap().display().to_string(), entry.link_name().unwrap());
            let link = link.map(|link| format!(" -> {}", link.display())).unwrap_or_default();
            let head = entry.header().clone();
            assert_eq!(head.mtime().unwrap(), 0);
            let (mode, uid, gid) = (head.mode().unwrap(), head.uid().unwrap(), head.gid().unwrap());
            let mut content = String::new();
            std::io::Read::read_to_string(&mut entry, &mut content).unwrap();
            format!("{mode:o} {uid}:{gid} {path}{link} {}", content.trim_end())
        })
        .collect();
    let expected = [
        "700 65532:65532 data/ ",
        "755 0:0 etc/ ",
        "640 1:2 etc/one.conf amd64",
        "755 0:0 usr/ ",
        "755 0:0 usr/bin/ ",
        "777 0:0 usr/bin/one -> /usr/local/bin/one ",
        "755 0:0 usr/share/ ",
        "644 0:0 usr/share/README Hello.",
        "755 0:0 usr/share/web/ ",
        "755 0:0 usr/share/web/a/ ",
        "777 0:0 usr/share/web/a/link -> ../z.html ",
        "755 0:0 usr/share/web/a/run #!/bin/sh",
        "644 0:0 usr/share/web/z.html z",
    ];
    assert_eq!(listed, expected);

    assert_eq!(build().json()["actions"]["run"], 0, "nothing changed");
    fs::set_permissions(bench.path("project/web/z.html"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(build().json()["actions"]["run"], 0, "who may read a file here is not told there");
    bench.write("project/web/z.html", "changed");
    let changed = build();
    assert_eq!((changed.ran("compile"), changed.ran("layer"), changed.ran("image")), (0, 1, 1), "{changed:?}");
    let above = &changed.json()["images"][0]["platforms"][0]["layers"][1];
    assert_eq!(*above, layers[1], "the program's layer is as it was");

    symlink("../../secret", bench.path("project/web/out")).unwrap();
    let messages = ["adding /usr/share/web to one: ", "project/web/out points outside ", "use `link` in vcbuild.toml"];
    build().failed(1, &messages);
    fs::remove_file(bench.path("project/web/out")).unwrap();
    symlink("/etc/passwd", bench.path("project/web/out")).unwrap();
    build().failed(1, &["project/web/out points outside "]);
    fs::remove_file(bench.path("project/web/out")).unwrap();
    fs::remove_file(bench.path("project/conf/one-amd64.conf")).unwrap();
    build().failed(1, &["adding /etc/one.conf to one: there is no conf/one-amd64.conf in ", "No such file"]);
    symlink("/etc/passwd", bench.path("project/conf/one-amd64.conf")).unwrap();
    build().failed(1, &["adding /etc/one.conf to one: conf/one-amd64.conf points outside "]);
}

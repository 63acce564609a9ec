//! Where files come to be on a base: through its links, in its folders, and beside each other.

use std::fs;

use serde_json::{Value, json};
use tar::EntryType::{Directory, Regular, Symlink};

use crate::bench::{Actions, Bench, digests, text, untar};

/// An entry of a base's layer: what it is, its path, a link's target, and a folder's or file's permissions and owner.
type Entry<'a> = (tar::EntryType, &'a str, &'a str, u32, u64);

/// Makes a base of these layers: an image layout in the folder `name`.
fn base(bench: &Bench, name: &str, layers: &[&[Entry<'_>]]) {
    let blob = |bytes: &[u8]| {
        let digest = vcstore::Digest::of(bytes).to_string();
        let path = bench.path(&format!("{name}/blobs/{}", digest.replacen(':', "/", 1)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        (digest, bytes.len())
    };
    let (mut described, mut diff_ids) = (Vec::new(), Vec::new());
    for entries in layers {
        let mut builder = tar::Builder::new(Vec::new());
        for (kind, path, target, mode, owner) in *entries {
            if let Some((path, name)) = path.split_once(" user.") {
                builder.append_pax_extensions([(format!("SCHILY.xattr.user.{name}").as_str(), &b"noted"[..])]).unwrap();
                append(&mut builder, (*kind, path, target, *mode, *owner));
            } else {
                append(&mut builder, (*kind, path, target, *mode, *owner));
            }
        }
        let bytes = builder.into_inner().unwrap();
        let (digest, size) = blob(&bytes);
        diff_ids.push(digest.clone());
        described.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size}));
    }
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let (digest, size) = blob(config.to_string().as_bytes());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": size},
        "layers": described,
    });
    let (digest, size) = blob(manifest.to_string().as_bytes());
    let target = json!({"mediaType": media_type, "digest": digest, "size": size});
    bench.write(&format!("{name}/index.json"), &json!({"schemaVersion": 2, "manifests": [target]}).to_string());
    bench.write(&format!("{name}/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
}

fn append(builder: &mut tar::Builder<Vec<u8>>, (kind, path, target, mode, owner): Entry<'_>) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    if kind.is_symlink() || kind.is_hard_link() {
        header.set_size(0);
        builder.append_link(&mut header, path, target).unwrap();
    } else {
        header.set_size(target.len() as u64);
        builder.append_data(&mut header, path, target.as_bytes()).unwrap();
    }
}

/// The entries of a layer of the store, in their order: permissions, owner, path and a link's target.
pub(crate) fn entries(bench: &Bench, layer: &Value) -> Vec<String> {
    let path = format!("store/blobs/{}", text(&layer["digest"]).replacen(':', "/", 1));
    let bytes = fs::read(bench.path(&path)).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let shown = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let link = entry.link_name().unwrap().map(|link| format!(" -> {}", link.display())).unwrap_or_default();
        let head = entry.header();
        let (mode, owner) = (head.mode().unwrap(), head.uid().unwrap());
        format!("{mode:o} {owner} {}{link}", entry.path().unwrap().display())
    });
    shown.collect()
}

/// The layers of ours in the one image of a build.
fn own(document: &Value, of_base: usize) -> Vec<Value> {
    document["images"][0]["platforms"][0]["layers"].as_array().unwrap()[of_base..].to_vec()
}

const BUILD: [&str; 5] = ["images", "--compression", "none", "--output", "json"];

#[test]
fn a_path_leads_through_the_links_of_the_base_and_its_folders_stay_as_they_are() {
    let bench = Bench::new();
    let lower: &[Entry<'_>] = &[
        (Directory, "usr/bin", "", 0o755, 0),
        (Regular, "usr/bin/sh", "shell", 0o755, 0),
        (Symlink, "bin", "usr/bin", 0o777, 0),
        (Symlink, "var/run", "/run", 0o777, 0),
        (Directory, "run", "", 0o2775, 3),
        (Directory, "tmp", "", 0o755, 0),
        (Directory, "opt", "", 0o755, 0),
        (Regular, "opt/old", "", 0o644, 0),
        (Directory, "home/nonroot user.note", "", 0o700, 65532),
        (Directory, "root", "", 0o700, 0),
    ];
    // What a later layer says of a folder holds, and so does what it takes away.
    let upper: &[Entry<'_>] =
        &[(Directory, "tmp", "", 0o1777, 0), (Regular, ".wh.opt", "", 0o644, 0), (Symlink, "lib", "usr/lib", 0o777, 0)];
    base(&bench, "base", &[lower, upper]);
    bench.write("app.sh", "#!/bin/sh\n");
    bench.write("web/index.html", "hi");
    bench.write(
        "vcbuild.toml",
        "base = \"oci:base\"\n[components.app]\nimage = \"registry.example/app:v1\"\nbinary = \"/bin/app\"\n\
         prebuilt = { \"/bin/app\" = \"app.sh\", \"/var/run/app/seed\" = \"app.sh\" }\n[components.app.files]\n\
         \"/tmp\" = { from = \"web\", owner = \"7\" }\n\"/home/nonroot/.config\" = { from = \"app.sh\", owner = \"65532\" }\n\
         \"/root/.netrc\" = { from = \"app.sh\", mode = \"0600\" }\n\"/opt/new\" = { from = \"app.sh\" }\n\
         \"/lib/app/note\" = { from = \"app.sh\" }\n\"/bin/alias\" = { link = \"app\" }\n",
    );
    let build = || bench.run(&BUILD);
    let first = build().json();
    let layers = own(&first, 2);
    let files = [
        "755 0 home/",
        "700 65532 home/nonroot/",
        "644 65532 home/nonroot/.config",
        "755 0 opt/",
        "644 0 opt/new",
        "700 0 root/",
        "600 0 root/.netrc",
        "1777 0 tmp/",
        "644 7 tmp/index.html",
        "755 0 usr/",
        "755 0 usr/bin/",
        "777 0 usr/bin/alias -> app",
        "755 0 usr/lib/",
        "755 0 usr/lib/app/",
        "644 0 usr/lib/app/note",
    ];
    assert_eq!(entries(&bench, &layers[0]), files);
    let program =
        ["2775 3 run/", "755 0 run/app/", "644 0 run/app/seed", "755 0 usr/", "755 0 usr/bin/", "644 0 usr/bin/app"];
    assert_eq!(entries(&bench, &layers[1]), program);
    let path = format!("store/blobs/{}", text(&layers[0]["digest"]).replacen(':', "/", 1));
    let bytes = fs::read(bench.path(&path)).unwrap();
    let has = |messages: &[u8]| bytes.windows(messages.len()).any(|part| part == messages);
    assert!(has(b" SCHILY.xattr.user.note=noted\n"), "the folder's extended attributes go with it");

    // Others unpack it to what was meant: the base's program is still where its link leads.
    untar(&bench.path("out/app-amd64.tar"), &bench.path("layout"));
    bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
    assert_eq!(bench.read("bundle/rootfs/bin/sh"), "shell");
    assert_eq!(bench.read("bundle/rootfs/bin/app"), "#!/bin/sh\n");
    assert_eq!(bench.read("bundle/rootfs/lib/app/note"), "#!/bin/sh\n");

    // The base is not read again, not even where it would be damaged.
    assert_eq!(build().json()["actions"]["run"], 0);
    // Another base that agrees in the folders that matter has the same layers of ours.
    let other: &[Entry<'_>] = &[(Regular, "etc/issue", "other", 0o644, 0)];
    base(&bench, "other", &[lower, upper, other]);
    let changed = bench.run(&[&BUILD[..], &["--base", "oci:other"]].concat());
    assert_eq!((changed.ran("outline"), changed.ran("layer"), changed.ran("image")), (1, 0, 1), "{changed:?}");
    // One that does not has others.
    let other: &[Entry<'_>] = &[(Directory, "root", "", 0o750, 0)];
    base(&bench, "third", &[lower, upper, other]);
    let changed = bench.run(&[&BUILD[..], &["--base", "oci:third"]].concat());
    assert_eq!((changed.ran("outline"), changed.ran("layer")), (1, 1), "{changed:?}");
}

#[test]
fn what_would_take_something_of_the_base_away_is_refused() {
    let bench = Bench::new();
    let layer: &[Entry<'_>] = &[
        (Symlink, "loop", "loop", 0o777, 0),
        (Regular, "etc/passwd", "", 0o644, 0),
        (Directory, "etc/app", "", 0o755, 0),
        (Regular, "etc/app/a", "", 0o644, 0),
        (Symlink, "bin", "usr/bin", 0o777, 0),
    ];
    base(&bench, "base", &[layer]);
    bench.write("app", "app");
    let project = |path: &str, files: &str| {
        bench.write(
            "vcbuild.toml",
            &format!(
                "base = \"oci:base\"\n[components.app]\nimage = \"registry.example/app:v1\"\n\
                 prebuilt = {{ \"{path}\" = \"app\" }}\n[components.app.files]\n{files}\n"
            ),
        );
        bench.run(&BUILD)
    };
    let cases = [
        ("/loop/app", "", "adding /loop/app to app: its path passes through too many symbolic links of the base"),
        ("/etc/passwd/app", "", "passes through /etc/passwd, which is a file in the base"),
        ("/etc/app", "", "the base has a folder at /etc/app, whose content would be lost"),
        ("/bin/app", "\"/usr/bin/app\" = { from = \"app\" }", "the component already has another file at /usr/bin/app"),
        ("/app", "\"/bin/a\" = { from = \"app\" }\n\"/usr/bin/a\" = { from = \"app\" }", "another file at /usr/bin/a"),
    ];
    for (path, files, why) in cases {
        project(path, files).failed(1, &[why, "help: "]);
    }
    let layers = own(&project("/srv/app", "\"/srv\" = { mode = \"0700\", owner = \"5\" }").json(), 1);
    assert_eq!(
        entries(&bench, &layers[1]),
        ["700 5 srv/", "644 0 srv/app"],
        "what `files` says of a folder holds above"
    );
    let replaced = own(&project("/etc/passwd", "").json(), 1);
    assert_eq!(entries(&bench, &replaced[0]), ["755 0 etc/", "644 0 etc/passwd"], "a file may stand over a file");
}

#[test]
fn a_base_of_a_docker_archive_has_the_same_layers_above_it() {
    let bench = Bench::new();
    let layer: &[Entry<'_>] = &[
        (Directory, "tmp", "", 0o1777, 0),
        (Symlink, "sbin", "usr/sbin", 0o777, 0),
        (Directory, "usr/sbin", "", 0o711, 0),
    ];
    base(&bench, "base", &[layer]);
    bench.write("app", "app");
    bench.write(
        "vcbuild.toml",
        "[components.app]\nimage = \"registry.example/app:v1\"\nprebuilt = { \"/sbin/app\" = \"app\" }\n\
         files.\"/tmp/seed\" = { from = \"app\" }\n",
    );
    bench.tool("skopeo", &["copy", "--quiet", "oci:base", "docker-archive:base.tar:a/b:v1"]);
    let build = |base: &str| bench.json(&[&BUILD[..3], &["--base", base]].concat());
    let (one, other) = (build("oci:base"), build("docker-archive:base.tar"));
    assert_eq!(own(&one, 1), own(&other, 1));
    assert_eq!(entries(&bench, &own(&one, 1)[0]), ["1777 0 tmp/", "644 0 tmp/seed"]);
    assert_eq!(entries(&bench, &own(&one, 1)[1]), ["755 0 usr/", "711 0 usr/sbin/", "644 0 usr/sbin/app"]);
    assert_eq!(digests(&build("oci:base")), digests(&one));
}

//! Compilers as distributions lay them out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rigs::Run;

use crate::bench::{Actions, Bench, digests};

/// Runs the Go beside it, and is linked with the machine's C library, as a distribution's `go` is.
const LOADED: &str = "#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n\
    int main(int count, char **words) {\n  char path[4096];\n  ssize_t length = readlink(\"/proc/self/exe\", path, 4000);\n  \
    if (length < 0) return 1;\n  path[length] = 0;\n  strcpy(strrchr(path, '/'), \"/go-itself\");\n  \
    execv(path, words);\n  perror(path);\n  return 1;\n}\n";

#[test]
fn a_go_of_links_that_is_loaded_with_libraries_compiles_the_same() {
    let bench = Bench::with_hello();
    let build = || bench.vcbuild(&["images", "--source-dir", "hello", "--components", "one", "--output", "json"]);
    let digest = digests(&Run::of(&mut build()).json());
    let root = Run::of(Command::new("go").args(["env", "GOROOT"])).stdout;
    let root = Path::new(root.trim());
    // /usr/lib/go-1.N has the programs, and links to /usr/share/go-1.N.
    fs::create_dir_all(bench.path("lib/go/bin")).unwrap();
    fs::create_dir_all(bench.path("lib/go/pkg")).unwrap();
    fs::create_dir(bench.path("share")).unwrap();
    for part in ["src", "VERSION", "go.env", "lib"] {
        symlink(root.join(part), bench.path("share").join(part)).unwrap();
        symlink(Path::new("../../share").join(part), bench.path("lib/go").join(part)).unwrap();
    }
    for part in ["tool", "include"] {
        symlink(root.join("pkg").join(part), bench.path("lib/go/pkg").join(part)).unwrap();
    }
    fs::copy(root.join("bin/go"), bench.path("lib/go/bin/go-itself")).unwrap();
    bench.write("loaded.c", LOADED);
    bench.tool("cc", &["-o", "lib/go/bin/go", "loaded.c"]);
    // Version managers have a script in its place.
    let go = bench.path("lib/go/bin/go").display().to_string();
    bench.write("bin/go", &format!("#!/bin/sh\nexec {go} \"$@\"\n"));
    bench.tool("chmod", &["+x", "bin/go"]);
    let path = format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap());
    let there = |store: &str| {
        let mut command = build();
        command.env("PATH", &path).env("VCBUILD_STORE", bench.path(store));
        Run::of(&mut command)
    };
    let built = there("other");
    assert_eq!((digests(&built.json()), built.ran("compile")), (digest, 1), "{built:?}");
    // It is known by what is behind the links.
    fs::remove_file(bench.path("share/VERSION")).unwrap();
    fs::write(bench.path("share/VERSION"), fs::read_to_string(root.join("VERSION")).unwrap() + "# mine\n").unwrap();
    assert_eq!(there("other").ran("compile"), 1);

    bench.write("lib/go/bin/script", "#!/bin/sh\nexec \"$(dirname \"$(readlink -f \"$0\")\")/go-itself\" \"$@\"\n");
    bench.tool("chmod", &["+x", "lib/go/bin/script"]);
    fs::rename(bench.path("lib/go/bin/script"), bench.path("lib/go/bin/go")).unwrap();
    there("other").failed(1, &["lib/go/bin/go is a script, not a program", "--go 1.26.x"]);
}

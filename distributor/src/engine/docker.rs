//! Docker: asked by `docker image inspect`, filled by `docker load`. It knows images by their tags alone.

use super::{first, quoted};
use crate::fallback::END;
use crate::wanted::Wanted;

/// The first Docker that reads layers compressed with zstd.
const READS_ZSTD: u32 = 23;

/// The script that asks.
pub(super) fn probe(wanted: &[Wanted]) -> String {
    let mut lines = vec![
        first("docker /usr/bin/docker /usr/local/bin/docker /snap/bin/docker"),
        format!(r#"stop() {{ say "$1"; say {END}; exit 0; }}"#),
        r#"[ -n "$c" ] || stop "no-docker there is none in the login user's PATH""#.to_owned(),
        r#"x="$as $c"; say "call $c"; say "machine $(uname -m)""#.to_owned(),
        r#"v=$($x version --format '{{.Server.Version}}' 2>&1) || stop "no-docker $(echo "$v" | tail -n 1)""#
            .to_owned(),
        r#"say "version $v"; r=$($x info --format '{{.DockerRootDir}}')"#.to_owned(),
        r#"say disk; if [ -n "$r" ]; then echo "$r"; $as df -Pk "$r" | tail -n 1; $as df -Pi "$r" | tail -n 1; fi"#
            .to_owned(),
    ];
    lines.extend(wanted.iter().map(inspect));
    lines.join("\n")
}

/// The script that loads an archive of `length` bytes.
pub(super) fn load(call: &str, length: u64, open: &[&Wanted]) -> String {
    let mut lines = vec![
        format!("x=\"$as {call}\""),
        format!(r#"head -c {length} | (e=$($x load --quiet 2>&1) || say "failed $(echo "$e" | tail -n 1)")"#),
    ];
    lines.extend(open.iter().map(|wanted| inspect(wanted)));
    lines.join("\n")
}

/// Whether Docker of this version reads zstd.
pub(super) fn reads_zstd(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= READS_ZSTD)
}

fn inspect(wanted: &Wanted) -> String {
    let name = quoted(wanted.name());
    format!(r#"i=$($x image inspect --format '{{{{.Id}}}}' {name} 2>/dev/null) && say "image "{name}" $i""#)
}

#[cfg(test)]
mod tests {
    use super::reads_zstd;

    #[test]
    fn docker_reads_zstd_from_some_version_on() {
        let read = ["20.10.24+dfsg1", "19.03", "", "dev", "23.0.1", "28.5.1-rc.1"].map(reads_zstd);
        assert_eq!(read, [false, false, false, false, true, true]);
    }
}

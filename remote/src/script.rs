//! The script that a shell on a remote machine runs before a program of the project. It enters a folder that no
//! other user of that machine can change, checks the folder that it has entered instead of the path that led there,
//! and verifies the program through the file descriptor from which it is then executed. It works in all POSIX shells:
//! dash, bash, busybox.

/// A program that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program<'a> {
    /// The SHA-256 digest of its content, in hexadecimal.
    pub hash: &'a str,
    /// Its size in bytes.
    pub size: u64,
}

/// The functions at the beginning of every script. They return values in variables: `at`, the path of the entered
/// folder without links; `why`, the reason if it was not entered; `u`, the UID; `got`, whether descriptor 9 is the
/// program.
///
/// - `sound`: checks that nobody but the user and root can change or replace the current folder: it and its parents
///   belong to them, and nobody else may write there, unless the folder is sticky. The parents are found through
///   `..` from the folder itself, so that links do not matter.
/// - `enter FOLDER`: changes to the folder, creates its missing parts, and checks it.
/// - `own FOLDER`: does the same for a folder that belongs to the user, is not a link, and that nobody else may
///   write to.
/// - `sweep`: removes partially received files of logins that have ended from the folder.
/// - `same`: checks that the file open as 9 is the program.
/// - `has FILE`: opens a file in the folder as 9, if it is the program.
/// - `room`: creates the file `$t` for the program; checks that it fits, and that programs can be executed from there.
const FUNCTIONS: &str = r#"umask 077; unset CDPATH; u=$(id -u); n=$(uname -n); t=new.$n.$$; at= why= got=
sound() {
at=$(pwd -P) || return 1; rest=${at#/} up=.; set -- .
while [ -n "$rest" ]; do up=$up/..; set -- "$@" "$up"; case $rest in */*) rest=${rest#*/};; *) rest=;; esac; done
why=$(LC_ALL=C ls -ldn "$@" 2>/dev/null | { left=$# path=$at
while read -r mode links owner rest; do left=$((left - 1))
case $owner in 0|"$u") ;; *) echo "${path:-/} belongs to user $owner"; exit;; esac
case $mode in ?????????[tT]*) ;; ?????w*|????????w*) echo "${path:-/} is writable by other users"; exit;; esac
path=${path%/*}; done
[ "$left" = 0 ] || echo "$at and the folders above it cannot be listed"; })
[ -z "$why" ]; }
enter() {
case $1 in /*) cd /;; *) why="$1 is not an absolute path"; return 1;; esac
todo=${1#/} said=
while [ -n "$todo" ]; do name=${todo%%/*}; case $todo in */*) todo=${todo#*/};; *) todo=;; esac
[ -n "$name" ] || continue
[ -e "./$name" ] || { sound || return 1; said=$(mkdir "./$name" 2>&1); }
cd -P "./$name" 2>/dev/null || { why="$1 cannot be entered${said:+: $said}"; return 1; }; done
sound; }
own() {
last=${1##*/} said=; enter "${1%/*}/" || return 1
above=${at%/}; [ -e "./$last" ] || said=$(mkdir "./$last" 2>&1)
cd -P "./$last" 2>/dev/null || { why="$1 cannot be entered${said:+: $said}"; return 1; }
sound || return 1
[ "$at" = "$above/$last" ] || { why="$1 is a link"; return 1; }
[ -O . ] || { why="$1 belongs to another user"; return 1; }
case $(LC_ALL=C ls -ldn .) in ?????w*|????????w*) why="$1 is writable by other users"; return 1;; esac; }
sweep() { for o in new.*; do p=${o##*.}; case $o in "new.$n.$p"|"new.$p") [ -e "/proc/$p" ] || rm -f "./$o";; esac; done; }
hashed() { h=$(openssl dgst -sha256 -r </proc/self/fd/9 2>/dev/null) || h=$(sha256sum </proc/self/fd/9); echo "$h"; }
same() { case $(hashed) in "$hash"*) ;; *) false;; esac; }
has() { [ -f "./$1" ] && [ ! -L "./$1" ] && [ -x "./$1" ] && got= && command exec 9<"./$1" && same && got=y; }
fits() { set -- $(df -Pk . | tail -n 1); ! [ "$4" -lt "$need" ]; }
room() {
find . -name "new.*" -mtime +0 -exec rm -f {} + 2>/dev/null
why="$at takes no program of $need KiB, or runs none"
{ echo : >"./$t" && chmod 700 "./$t" && "./$t" && fits; } 2>/dev/null || { rm -f "./$t"; false; }; }
"#;

/// Returns the beginning of a script that runs `program`: the functions above with their parameters.
#[must_use]
pub fn beginning(program: Program<'_>) -> String {
    let Program { hash, size } = program;
    format!("{FUNCTIONS}hash={hash} need={}\n", size.div_ceil(1024))
}

/// Returns the line that makes any login shell read `script` from standard input and run it. Login shells differ in
/// their quoting, and some limit the length of a line, so the line uses only common syntax.
#[must_use]
pub fn line_before(script: &str) -> String {
    format!("exec sh -c 'eval \"$(head -c {})\"'", script.len())
}

/// Quotes `text` as one word of a shell.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::quoted;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_shell_reads_a_quoted_word_as_it_was(word in "[^\0]{0,40}") {
            let script = format!("printf %s {}", quoted(&word));
            let nested = format!("exec sh -c {}", quoted(&script));
            let output = std::process::Command::new("sh").args(["-c", &nested]).output().expect("a shell");
            prop_assert_eq!(String::from_utf8(output.stdout).expect("UTF-8"), word);
        }
    }
}

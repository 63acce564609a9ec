//! What a shell on another machine runs before a program of ours does. It enters a folder that no other user of that machine
//! can change, checks what it entered and not what a path led to before, and checks the program on the descriptor that is
//! then run. POSIX shells do it alike: dash, bash, busybox.

/// Where a program is that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program<'a> {
    /// SHA-256 of its content, in hexadecimal digits.
    pub hash: &'a str,
    /// Its size in bytes.
    pub size: u64,
}

/// The functions that every script begins with. They leave what they found in variables: `at`, the folder that was entered,
/// without links; `why`, what is wrong with one that was not; `u`, the user's number; `got`, whether 9 is the program.
///
/// - `sound`: whether nobody but the user and root can change the folder that the shell is in, or put another in its place:
///   it and all above it are theirs, and nobody else may write there, unless names are their owners' alone (sticky). What
///   is above is found through `..` from the folder itself, so that no link counts.
/// - `enter FOLDER`: goes there, making what is missing, and checks it.
/// - `own FOLDER`: the same for a folder that is the user's, is no link, and that nobody else may write to at all.
/// - `sweep`: removes from the folder what came in part for logins that have ended.
/// - `same`: whether what is open as 9 is the program.
/// - `has FILE`: opens a file of the folder as 9, where it is the program.
/// - `room`: makes the file `$t` for the program; whether it fits, and programs run from there.
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

/// The beginning of a script that brings `program` to run: the functions above, for this program.
#[must_use]
pub fn beginning(program: Program<'_>) -> String {
    let Program { hash, size } = program;
    format!("{FUNCTIONS}hash={hash} need={}\n", size.div_ceil(1024))
}

/// The line that has any login shell read `script`, which must come behind it on standard input, and run it. Login shells
/// differ in what they make of quotes, and some take no long lines: the line has only what they all take alike.
#[must_use]
pub fn line_before(script: &str) -> String {
    format!("exec sh -c 'eval \"$(head -c {})\"'", script.len())
}

/// `text` as one word of a shell.
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

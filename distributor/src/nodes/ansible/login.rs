//! Turns a host's variables into the way to reach it, and reports variables that are not supported.

use std::collections::BTreeMap;

use super::Error;
use super::vars::Words;
use crate::nodes::{Address, Reach};

/// Login variables that are not supported, each with what the user should know.
const UNHEARD: [(&str, &str); 12] = [
    ("ansible_password", "logins are by key: load it into your agent or set ansible_ssh_private_key_file"),
    ("ansible_ssh_pass", "logins are by key: load it into your agent or set ansible_ssh_private_key_file"),
    ("ansible_ssh_password", "logins are by key: load it into your agent or set ansible_ssh_private_key_file"),
    ("ansible_become_password", "sudo must not ask for a password"),
    ("ansible_become_pass", "sudo must not ask for a password"),
    ("ansible_sudo_pass", "sudo must not ask for a password"),
    ("ansible_become_exe", "sudo is used as it is found"),
    ("ansible_become_flags", "sudo is used as it is found"),
    ("ansible_ssh_executable", "ssh is used as it is found"),
    ("ansible_ssh_args", "use ansible_ssh_common_args, or --ssh-option"),
    ("ansible_host_key_checking", "host keys are checked as --host-keys says"),
    ("ansible_ssh_host_key_checking", "host keys are checked as --host-keys says"),
];

/// Unsupported settings: a sentence for each, with the hosts that it concerns.
#[derive(Debug, Default)]
pub(super) struct Notes(BTreeMap<String, Vec<String>>);

impl Notes {
    fn add(&mut self, host: &str, sentence: String) {
        self.0.entry(sentence).or_default().push(host.to_owned());
    }

    /// Returns one sentence for each setting, with its hosts.
    pub(super) fn sentences(self) -> Vec<String> {
        self.0.into_iter().map(|(sentence, hosts)| format!("{sentence} ({})", hosts.join(", "))).collect()
    }
}

/// Returns how to reach `host` according to its variables.
pub(super) fn reach(host: &str, vars: &Words, notes: &mut Notes) -> Result<Reach, Error> {
    let variables = Variables { host, vars };
    variables.check_shell()?;
    if variables.connection()? == Connection::Local {
        return Ok(Reach::Local);
    }
    variables.note(notes);
    let port = match variables.first(&["ansible_port", "ansible_ssh_port"])? {
        Some((name, text)) => match text.parse().ok().filter(|port| *port != 0) {
            Some(port) => Some(port),
            None => return Err(variables.bad(name, text, "which is no port")),
        },
        None => None,
    };
    let mut arguments = Vec::new();
    for name in ["ansible_ssh_common_args", "ansible_ssh_extra_args"] {
        if let Some((name, text)) = variables.first(&[name])? {
            let words = shlex::split(text).ok_or_else(|| variables.bad(name, text, "where a quote is not closed"))?;
            if words.iter().any(|word| word.to_ascii_lowercase().contains("stricthostkeychecking")) {
                notes.add(host, format!("StrictHostKeyChecking in {name} is not honoured: --host-keys says it"));
            }
            arguments.extend(words);
        }
    }
    let text = |names: &[&'static str]| Ok::<_, Error>(variables.first(names)?.map(|(_, text)| text.to_owned()));
    let address = Address {
        user: text(&["ansible_user", "ansible_ssh_user"])?,
        host: text(&["ansible_host", "ansible_ssh_host"])?.unwrap_or_else(|| host.to_owned()),
        port,
        identity: text(&["ansible_ssh_private_key_file", "ansible_private_key_file"])?.map(|path| home(&path).into()),
        arguments,
        key_alias: None,
    };
    if address.is_sound() {
        Ok(Reach::Ssh(address))
    } else {
        Err(variables.bad("ansible_host", &address.destination(None), "which ssh does not take for a host"))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Connection {
    Ssh,
    Local,
}

struct Variables<'a> {
    host: &'a str,
    vars: &'a Words,
}

impl Variables<'_> {
    /// Returns the first of several synonymous variables that is set and not empty.
    fn first<'a>(&'a self, names: &[&'static str]) -> Result<Option<(&'static str, &'a str)>, Error> {
        let found = names.iter().find_map(|name| Some((*name, self.vars.get(*name)?.as_str())));
        match found.filter(|(_, text)| !text.is_empty()) {
            Some((name, text)) if text.contains("{{") || text.contains("{%") => Err(Error::Host {
                host: self.host.to_owned(),
                variable: name.to_owned(),
                value: text.to_owned(),
                why: "a template that only Ansible can fill in",
                help: "write its value, or let Ansible do it once: `ansible-inventory --list --yaml --output hosts.yml`",
            }),
            found => Ok(found),
        }
    }

    fn connection(&self) -> Result<Connection, Error> {
        match self.first(&["ansible_connection"])? {
            None => Ok(Connection::Ssh),
            Some((name, text)) => match text.trim_start_matches("ansible.builtin.") {
                "ssh" | "smart" | "paramiko" | "paramiko_ssh" => Ok(Connection::Ssh),
                "local" => Ok(Connection::Local),
                _ => Err(self.bad(name, text, "and vcdist reaches nodes over SSH alone")),
            },
        }
    }

    fn check_shell(&self) -> Result<(), Error> {
        match self.first(&["ansible_shell_type"])? {
            Some((name, text @ ("powershell" | "cmd"))) => {
                Err(self.bad(name, text, "so it runs Windows, and the images are for linux"))
            }
            _ => Ok(()),
        }
    }

    fn note(&self, notes: &mut Notes) {
        for (name, words) in UNHEARD.iter().filter(|(name, _)| self.vars.contains_key(*name)) {
            notes.add(self.host, format!("{name} is not honoured: {words}"));
        }
        for (name, only) in [("ansible_become_method", "sudo"), ("ansible_become_user", "root")] {
            if let Some(other) =
                self.vars.get(name).filter(|value| value.trim_start_matches("ansible.builtin.") != only)
            {
                notes.add(self.host, format!("{name}={other} is not honoured: work on containerd is done by {only}"));
            }
        }
    }

    fn bad(&self, name: &str, value: &str, why: &'static str) -> Error {
        Error::Host {
            host: self.host.to_owned(),
            variable: name.to_owned(),
            value: value.to_owned(),
            why,
            help: "correct it, or leave the host out (--exclude, --group)",
        }
    }
}

/// Expands a leading `~` to the user's home directory, as Ansible does.
fn home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::home_dir().and_then(|home| home.into_os_string().into_string().ok())) {
        (Some(rest), Some(home)) => format!("{home}/{rest}"),
        _ => path.to_owned(),
    }
}

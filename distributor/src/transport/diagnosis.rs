//! Determines from ssh's exit status and stderr why a connection failed. ssh has one exit status for all of its own
//! failures, so only the messages distinguish them.

use super::Error;

/// The exit status with which ssh reports a failure of its own.
pub(super) const SSH_FAILED: i32 = 255;

/// The destination of ssh, for error messages.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// `[USER@]HOST`.
    pub(super) destination: String,
    /// `HOST`.
    pub(super) host: String,
    /// A non-default port, if the options contain one.
    pub(super) port: Option<u16>,
    /// The name under which its host keys are looked up, if it is not the host.
    pub(super) alias: Option<String>,
}

/// Returns the error for the exit status `status` (`None`: ended by a signal) and `stderr`.
pub(super) fn diagnose(peer: &Peer, status: Option<i32>, stderr: &str) -> Error {
    let Peer { destination, host, .. } = peer.clone();
    let has = |patterns: &[&str]| patterns.iter().any(|pattern| stderr.contains(pattern));
    if let Some(status) = status.filter(|status| *status != SSH_FAILED) {
        return Error::Command { host, status, message: last_line(stderr, &[]) };
    }
    let scan = peer.keyscan();
    if has(&["HOST IDENTIFICATION HAS CHANGED", "REVOKED HOST KEY", "is marked as revoked", "POSSIBLE DNS SPOOFING"]) {
        let message = last_line(stderr, &["Offending", "verification failed"]);
        return Error::ChangedHostKey { host, name: peer.known_hosts_name(), scan, message };
    }
    if has(&["Host key verification failed", "you have requested strict checking"]) {
        let message = last_line(stderr, &["requested strict checking", "verification failed"]);
        return Error::UnknownHostKey { host, scan, message };
    }
    if has(&["Permission denied (", "Too many authentication failures"]) {
        return Error::Denied { destination, message: last_line(stderr, &["Permission denied", "Too many"]) };
    }
    if has(&["Could not resolve hostname"]) {
        return Error::Unresolvable { host, message: last_line(stderr, &["resolve hostname"]) };
    }
    if has(&["Connection refused"]) {
        return Error::Refused { host, message: last_line(stderr, &["Connection refused"]) };
    }
    // The host is up but has too many connections: sshd delays or drops logins.
    let busy = ["during banner exchange", "kex_exchange_identification", "ssh_exchange_identification"];
    if has(&busy) {
        return Error::Lost { host, message: last_line(stderr, &busy) };
    }
    let unreachable =
        ["Connection timed out", "Operation timed out", "No route to host", "Network is unreachable", "Host is down"];
    if has(&unreachable) {
        return Error::Unreachable { host, message: last_line(stderr, &unreachable) };
    }
    let lost =
        ["not responding", " timed out", "Connection reset", "Connection closed", "closed by remote", "Broken pipe"];
    // No message: the command was killed on the node, as happens when the node is out of memory.
    if has(&lost) || status.is_none() || stderr.trim().is_empty() {
        return Error::Lost { host, message: last_line(stderr, &lost) };
    }
    Error::Ssh { destination, message: last_line(stderr, &[]) }
}

impl Peer {
    /// Returns the command that fetches its host keys.
    pub(super) fn keyscan(&self) -> String {
        let scan = match self.port {
            Some(port) => format!("ssh-keyscan -p {port} {}", self.host),
            None => format!("ssh-keyscan {}", self.host),
        };
        match &self.alias {
            Some(alias) => format!("{scan} | sed 's/^[^ ]*/{alias}/'"),
            None => scan,
        }
    }

    /// Returns its name for `ssh-keygen -R`.
    pub(super) fn known_hosts_name(&self) -> String {
        match (&self.alias, self.port) {
            (Some(alias), _) => alias.clone(),
            (None, Some(port)) => format!("'[{}]:{port}'", self.host),
            (None, None) => self.host.clone(),
        }
    }
}

/// The last line that holds one of `patterns`, else the last line with anything on it.
fn last_line(stderr: &str, patterns: &[&str]) -> String {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty()).rev();
    lines()
        .find(|line| patterns.iter().any(|pattern| line.contains(pattern)))
        .or_else(|| lines().next())
        .unwrap_or("no reason given")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use miette::Diagnostic;

    use super::{Peer, diagnose};

    fn peer() -> Peer {
        Peer { destination: "ops@10.0.0.5".into(), host: "10.0.0.5".into(), port: Some(2222), alias: None }
    }

    fn message(status: Option<i32>, stderr: &str) -> String {
        diagnose(&peer(), status, stderr).to_string()
    }

    #[test]
    fn every_way_ssh_fails_has_its_own_words() {
        let cases = [
            (
                "No ED25519 host key is known for [10.0.0.5]:2222 and you have requested strict checking.\r\n\
                 Host key verification failed.\r\n",
                "the host key of 10.0.0.5 is not known: Host key verification failed.",
            ),
            (
                "@@@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@@@@@@@@@\n\
                 Offending ED25519 key in /home/ops/.ssh/known_hosts:3\nHost key verification failed.\n",
                "the host key of 10.0.0.5 has changed: Host key verification failed.",
            ),
            (
                "ops@10.0.0.5: Permission denied (publickey).\r\n",
                "ops@10.0.0.5 does not let us in: ops@10.0.0.5: Permission denied (publickey).",
            ),
            (
                "ssh: connect to host 10.0.0.5 port 2222: Connection refused\r\n",
                "10.0.0.5 refuses the connection: ssh: connect to host 10.0.0.5 port 2222: Connection refused",
            ),
            (
                "ssh: connect to host 10.0.0.5 port 2222: Connection timed out\r\n",
                "10.0.0.5 cannot be reached: ssh: connect to host 10.0.0.5 port 2222: Connection timed out",
            ),
            (
                "ssh: connect to host 10.0.0.5 port 2222: No route to host\r\n",
                "10.0.0.5 cannot be reached: ssh: connect to host 10.0.0.5 port 2222: No route to host",
            ),
            (
                "ssh: Could not resolve hostname 10.0.0.5: Name or service not known\r\n",
                "10.0.0.5 has no address: ssh: Could not resolve hostname 10.0.0.5: Name or service not known",
            ),
            (
                "Connection timed out during banner exchange\r\nConnection to UNKNOWN port 65535 timed out\r\n",
                "the connection to 10.0.0.5 was lost: Connection timed out during banner exchange",
            ),
            (
                "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 10.0.0.5 port 22\r\n",
                "the connection to 10.0.0.5 was lost: kex_exchange_identification: read: Connection reset by peer",
            ),
            (
                "Timeout, server 10.0.0.5 not responding.\r\n",
                "the connection to 10.0.0.5 was lost: Timeout, server 10.0.0.5 not responding.",
            ),
            (
                "command-line: line 0: Bad configuration option: nonsense\r\n",
                "ssh to ops@10.0.0.5 failed: command-line: line 0: Bad configuration option: nonsense",
            ),
        ];
        for (stderr, expected) in cases {
            assert_eq!(message(Some(255), stderr), expected);
        }
        assert_eq!(
            message(Some(127), "sh: 1: sudo: not found\n"),
            "the command on 10.0.0.5 ended with 127: sh: 1: sudo: not found"
        );
        for status in [None, Some(255)] {
            assert_eq!(message(status, ""), "the connection to 10.0.0.5 was lost: no reason given");
        }
    }

    #[test]
    fn help_names_the_port_that_was_used() {
        let error = diagnose(&peer(), Some(255), "Host key verification failed.\n");
        let help = error.help().expect("help").to_string();
        assert!(help.contains("`ssh-keyscan -p 2222 10.0.0.5 >> ~/.ssh/known_hosts`"), "{help}");
        let error = diagnose(&peer(), Some(255), "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\n");
        let help = error.help().expect("help").to_string();
        assert!(help.contains("`ssh-keygen -R '[10.0.0.5]:2222'`"), "{help}");
    }

    #[test]
    fn help_names_what_keys_are_known_by() {
        let peer = Peer { alias: Some("w1".into()), ..peer() };
        let help = |message: &str| diagnose(&peer, Some(255), message).help().expect("help").to_string();
        let unknown = help("Host key verification failed.\n");
        let scan = "`ssh-keyscan -p 2222 10.0.0.5 | sed 's/^[^ ]*/w1/' >> ~/.ssh/known_hosts`";
        assert!(unknown.contains(scan), "{unknown}");
        let changed = help("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\n");
        assert!(changed.contains("`ssh-keygen -R w1`"), "{changed}");
    }
}

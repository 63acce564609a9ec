//! Validates names of hosts and users before they become arguments of `ssh`, which could interpret some of them as
//! options, as a user and a host in one, as a URI, or as shell syntax. OpenSSH rejects most of these since 9.6; older
//! versions do not.

use std::net::{IpAddr, Ipv6Addr};

/// Characters that are special to a shell (`ssh.c`, `valid_hostname` and `valid_ruser`).
const OF_SHELLS: &str = "'`\"$\\;&<>|(){}";

/// The maximum length of a host name (RFC 1035, section 2.3.4), in bytes.
const LONGEST: usize = 253;

/// Whether `ssh` interprets the text as a host and nothing else: an address, a name, or an alias in its configuration.
/// An IPv6 address has no brackets, and may have a zone.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    if let Some(zone) = zone {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        // The name of an interface has at most 15 characters.
        return address.parse::<Ipv6Addr>().is_ok() && (1..=15).contains(&zone.len()) && zone.chars().all(fits);
    }
    // A colon is part of an IPv6 address, or precedes a port, which is not part of a host.
    let is_address = text.parse::<IpAddr>().is_ok();
    is_word(text)
        && text.len() <= LONGEST
        && (is_address || !text.contains(['@', '/', ':', '[', ']', '#', ',', '*', '?', '!']))
}

/// Whether `ssh` interprets the text as a user and nothing else. Folder services have names with an `@`, or with a
/// domain before a `\`.
#[must_use]
pub fn is_user(text: &str) -> bool {
    is_word(&text.replacen('\\', "", 1))
        && !text.starts_with('\\')
        && !text.ends_with('\\')
        && !text.contains(['/', ':', '%'])
}

/// Whether the text is an IP address or a DNS name, which is what the Kubernetes API may report for a node. Link-local
/// addresses with a zone are rejected, because they have a meaning only on one machine.
#[must_use]
pub fn is_address_or_dns_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(fits) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= LONGEST && text.split('.').all(is_label))
}

/// Whether the text is one word that no program interprets as an option.
fn is_word(text: &str) -> bool {
    // Outside of ASCII, only letters and digits: other characters may change how the rest is displayed.
    let beyond = |c: char| !c.is_ascii() && !c.is_alphanumeric();
    let bad = |c: char| c.is_whitespace() || c.is_control() || beyond(c) || OF_SHELLS.contains(c);
    !text.is_empty() && !text.starts_with('-') && !text.contains(bad)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_address_or_dns_name, is_host, is_user};

    #[test]
    fn hosts_are_addresses_names_and_aliases() {
        for host in [
            "w1",
            "w1.lan",
            "10.0.0.5",
            "fd00::5",
            "fe80::1%eth0",
            "::ffff:10.0.0.5",
            "my_alias",
            "w\u{e9}1",
            "a+b",
            "W1",
        ] {
            assert!(is_host(host), "{host}");
        }
        for bad in [
            "",
            "-oProxyCommand=reboot",
            "root@w1",
            "w1:22",
            "[fd00::5]",
            "[fd00::5]:22",
            "fe80::1%",
            "fe80::1%e;h",
            "w1%eth0",
            "fe80::1%a-name-that-is-too-long",
            "a b",
            "a\nb",
            "a\u{7}",
            "ssh://w1",
            "w1/x",
            "$(reboot)",
            "`x`",
            "a;b",
            "a|b",
            "a'b",
            "a\"b",
            "a\\b",
            "*",
            "w?",
            "!w1",
            "a,b",
            "#w1",
            "\u{202e}w1",
            "a\u{a0}b",
            "fd00::5::1",
        ] {
            assert!(!is_host(bad), "{bad:?}");
        }
        assert!(!is_host(&"a".repeat(254)));
    }

    #[test]
    fn users_may_be_of_a_directory() {
        for user in ["root", "ops", "a@example.org", r"CORP\ops", "a.b-c_d"] {
            assert!(is_user(user), "{user}");
        }
        for bad in ["", "-l", "a b", "a\tb", "a:b", "a/b", "$(x)", "a;b", "a\u{1b}[2J", r"a\", r"\a", r"\-l", r"a\b\c"]
        {
            assert!(!is_user(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_the_api_may_say_is_an_address_or_a_dns_name() {
        for good in ["10.0.0.5", "fd00::5", "w1", "ip-10-0-0-5.eu.compute.internal", "w_1"] {
            assert!(is_address_or_dns_name(good), "{good}");
        }
        for bad in
            ["", "root@10.0.0.5", "10.0.0.5:22", "fe80::1%eth0", "[::1]", "-v", "a-", "a..b", "a b", "a\nb", "w1.", "é"]
        {
            assert!(!is_address_or_dns_name(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_host_is_one_argument_of_ssh(text in "\\PC{0,12}|[-@:%/a-z0-9\\[\\] ]{0,12}") {
            if is_host(&text) {
                prop_assert!(!text.starts_with('-') && !text.contains(['@', '/', '[', ' ', '\'', '"', '$', '`']));
            }
            if is_address_or_dns_name(&text) {
                prop_assert!(is_host(&text), "{text:?}");
            }
        }
    }
}

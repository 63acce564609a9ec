//! Tests that a configuration has the same meaning here as in the system's ssh.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use super::{Error, Settings, SshPaths};

const CONFIG: &str = r#"
# A comment
Port=2200
Host bastion
    HostName 192.0.2.1
    User "jump user"
    IdentityFile ~/.ssh/%r-key
    ProxyJump none
Host *.lan !old.lan
    ProxyJump ops@bastion:22
    Port 22
    HostName = %h.example.org
    IdentityFile ~/.ssh/lan # the site's
    IdentityFile /keys/%n
    IdentitiesOnly yes
    UserKnownHostsFile ~/.ssh/a "/b c"
    HashKnownHosts yes
    ConnectTimeout 7
    ServerAliveInterval 5
    ServerAliveCountMax 2
    ControlMaster auto
    LogLevel QUIET
Include conf.d/*.conf
Match all
    User everyone
    IdentityFile ~/.ssh/last
"#;

/// Creates a home directory with this configuration.
fn at_home(config: &str, test: impl Fn(&SshPaths, &Utf8Path)) {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Utf8PathBuf::try_from(folder.path().to_owned()).expect("UTF-8");
    std::fs::create_dir_all(home.join(".ssh/conf.d")).expect("a folder");
    std::fs::write(home.join(".ssh/config"), config).expect("a file");
    std::fs::write(home.join(".ssh/conf.d/more.conf"), "Host w1.lan\n  User first\nHost nobody\n").expect("a file");
    let ssh_paths = SshPaths { system: home.join("etc"), user: "me".into(), home: home.clone() };
    test(&ssh_paths, &home);
}

fn read(config: &str, host: &str, overrides: &[&str]) -> Result<Settings, Error> {
    let overrides: Vec<_> = overrides.iter().map(|option| ("--ssh-option".to_owned(), (*option).to_owned())).collect();
    let result = std::cell::RefCell::new(None);
    at_home(config, |ssh_paths, _| *result.borrow_mut() = Some(Settings::of(host, &overrides, None, ssh_paths)));
    result.into_inner().expect("it was read")
}

#[test]
fn the_first_value_counts_and_keys_add_up() {
    at_home(CONFIG, |ssh_paths, home| {
        let of = |host: &str| Settings::of(host, &[], None, ssh_paths).expect("settings");
        let lan = of("w1.lan");
        assert_eq!((lan.host_name.as_str(), lan.port, lan.user.as_str()), ("w1.lan.example.org", 2200, "first"));
        assert_eq!(lan.identities, [home.join(".ssh/lan"), "/keys/w1.lan".into(), home.join(".ssh/last")]);
        assert_eq!(lan.user_known_hosts, [home.join(".ssh/a"), "/b c".into()]);
        assert_eq!(lan.jump.as_deref(), Some("ops@bastion:22"));
        assert!(lan.identities_only && lan.hash_known_hosts);
        let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs());
        assert_eq!(
            (seconds(lan.connect_timeout), seconds(lan.alive_interval), lan.alive_count),
            (Some(7), Some(5), Some(2))
        );
        let bastion = of("bastion");
        assert_eq!((bastion.host_name.as_str(), bastion.user.as_str()), ("192.0.2.1", "jump user"));
        assert_eq!(bastion.identities[0], home.join(".ssh/jump user-key"));
        assert_eq!(bastion.jump, None);
        let old = of("old.lan");
        assert_eq!((old.host_name.as_str(), old.user.as_str(), old.jump), ("old.lan", "everyone", None));
    });
}

#[test]
fn what_is_said_on_the_command_line_comes_first() {
    let overrides = ["User=ops", "port = 22", "IdentityFile=/k", "HostKeyAlias=[127.0.0.1]:9"];
    let settings = read(CONFIG, "w1.lan", &overrides).expect("settings");
    assert_eq!((settings.user.as_str(), settings.port), ("ops", 22));
    assert_eq!(settings.identities[0], "/k");
    assert_eq!(settings.host_key_alias.as_deref(), Some("[127.0.0.1]:9"));
    let plain = read("", "w1", &[]).expect("settings");
    assert_eq!((plain.user.as_str(), plain.port, plain.identities.len()), ("me", 22, 3));
}

#[test]
fn stars_of_an_include_look_into_no_folder_below() {
    at_home("Include **/***.conf\nInclude /**/*(\n", |ssh_paths, home| {
        std::fs::create_dir_all(home.join(".ssh/conf.d/deep")).expect("a folder");
        std::fs::write(home.join(".ssh/conf.d/deep/more.conf"), "Port 2\n").expect("a file");
        let settings = Settings::of("w1.lan", &[], None, ssh_paths).expect("settings");
        assert_eq!((settings.user.as_str(), settings.port), ("first", 22));
    });
}

#[test]
fn what_cannot_be_done_is_refused_where_it_matters() {
    let refused = |config: &str| read(config, "w1", &[]).expect_err("refused").to_string();
    let end = |text: String| text.split("/.ssh/").last().unwrap_or_default().to_owned();
    assert_eq!(end(refused("ProxyCommand nc %h %p")), "config:1: the embedded SSH does not do proxycommand");
    assert_eq!(end(refused("\nCiphers aes128-ctr")), "config:2: the embedded SSH does not do ciphers");
    assert_eq!(end(refused("Match exec true")), "config:1: the embedded SSH does not do Match with conditions");
    assert_eq!(end(refused("ProxyJump a,b")), "config:1: the embedded SSH does not do more than one jump host");
    assert_eq!(end(refused("HostName %C")), "config:1: the embedded SSH does not do the token %C");
    assert_eq!(end(refused("Port none")), "config:1: none is no port");
    assert_eq!(end(refused("User \"open")), "config:1: a quote is not closed");
    assert_eq!(end(refused("User")), "config:1: user lacks its value");
    assert_eq!(end(refused("IdentitiesOnly maybe")), "config:1: identitiesonly is yes or no, not maybe");
    assert!(refused("Include config").contains("too deep"));
    // A walk through /*/*/*/* would meet /proc/self/root, and would not end.
    let wide = end(refused(&format!("Include {}", "/*".repeat(300))));
    assert_eq!(wide, "config:1: more than 3 parts of this path have wildcards");
    let elsewhere = read("Host other\nProxyCommand nc %h %p\nHost w1\nProxyCommand none\nCheckHostIP no", "w1", &[]);
    assert_eq!(elsewhere.expect("settings").host_name, "w1");
    let message = read("", "w1", &["ProxyCommand=nc %h %p"]).expect_err("refused").to_string();
    assert_eq!(message, "--ssh-option: the embedded SSH does not do proxycommand");
}

#[test]
fn a_file_that_is_named_must_be_there() {
    at_home("", |ssh_paths, home| {
        let missing = Settings::of("w1", &[], Some(&home.join("none-such")), ssh_paths).expect_err("missing");
        assert!(missing.to_string().ends_with("/none-such"), "{missing}");
        assert!(Settings::of("w1", &[], Some(Utf8Path::new("none")), ssh_paths).is_ok());
    });
}

/// The system's ssh prints how it interprets a configuration; both must interpret this one in the same way.
#[test]
fn the_systems_ssh_reads_it_alike() {
    at_home(CONFIG, |ssh_paths, home| {
        let config = home.join("config");
        // ssh looks for included files in the home directory of the user who runs it; absolute paths are found in this
        // one too.
        let text = CONFIG.replace("conf.d/", home.join(".ssh/conf.d/").as_str());
        std::fs::write(&config, text).expect("a file");
        for host in ["bastion", "w1.lan", "old.lan", "other"] {
            let ours = Settings::of(host, &[], Some(&config), ssh_paths).expect("settings");
            let output = Command::new("ssh").args(["-G", "-F", config.as_str(), host]).output().expect("ssh runs");
            let theirs = String::from_utf8(output.stdout).expect("UTF-8");
            let value = |key: &str| -> Vec<&str> {
                theirs.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).collect()
            };
            assert_eq!(value("hostname"), [ours.host_name.as_str()], "{host}");
            assert_eq!(value("port"), [ours.port.to_string()], "{host}");
            assert_eq!(value("user"), [ours.user.as_str()], "{host}");
            assert_eq!(value("identityfile").len(), ours.identities.len(), "{host}");
            assert_eq!(value("hashknownhosts"), [if ours.hash_known_hosts { "yes" } else { "no" }], "{host}");
            assert_eq!(value("proxyjump").first().copied(), ours.jump.as_deref(), "{host}");
        }
    });
}

//! Realistic inventories in both formats, and the messages for invalid ones.

use camino::Utf8Path;
use miette::Diagnostic;
use rigs::folder;

use super::super::{Address, Choice, Reach};
use super::{Error, Hosts, read};

const INI: &str = r#"
# a cluster as kubespray has it
jump ansible_host=192.0.2.1

[masters]
cp1 ansible_host=192.0.2.10   # the only one

[workers]
worker[1:3] ansible_port=2222
192.0.2.44:2200

[kube_node:children]
workers
edge

[edge]
edge-a ansible_user=admin ansible_ssh_common_args='-o ProxyCommand="ssh -W %h:%p jump" -C'

[kube_node:vars]
ansible_user = ops
ansible_ssh_private_key_file=/keys/site   

[edge:vars]
ansible_user="nobody"
ansible_port=22 # the usual one
"#;

const YAML: &str = "
all:
  vars: {ansible_user: ops}
  hosts:
    jump: {ansible_host: 192.0.2.1}
  children:
    kube_node:
      vars: {ansible_ssh_private_key_file: /keys/site}
      children:
        workers:
          hosts:
            worker[1:3]: {ansible_port: 2222}
            '192.0.2.44:2200':
        edge:
          hosts:
            edge-a:
              ansible_user: admin
              ansible_ssh_common_args: '-o ProxyCommand=\"ssh -W %h:%p jump\" -C'
";

fn hosts(name: &str, text: &str, group: &str) -> Result<Hosts, Error> {
    let (_folder, path) = folder(&[(name, text)]);
    read(&path.join(name), group, &Choice::default())
}

/// Returns `NAME=[USER@]HOST[:PORT]` for each host.
fn addresses(hosts: &Hosts) -> Vec<String> {
    let words = |address: &Address| {
        address.destination(None) + &address.port.map(|port| format!(":{port}")).unwrap_or_default()
    };
    hosts
        .hosts
        .iter()
        .map(|host| match &host.reach {
            Reach::Ssh(address) => format!("{}={}", host.name, words(address)),
            Reach::Local => format!("{}=local", host.name),
        })
        .collect()
}

fn address(hosts: &Hosts, name: &str) -> Address {
    match hosts.hosts.iter().find(|host| host.name == name).map(|host| &host.reach) {
        Some(Reach::Ssh(address)) => address.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn both_forms_are_read_as_ansible_reads_them() {
    let expected = [
        "worker1=ops@worker1:2222",
        "worker2=ops@worker2:2222",
        "worker3=ops@worker3:2222",
        "192.0.2.44=ops@192.0.2.44:2200",
    ];
    let among = |found: &Hosts, one: &str| addresses(found).iter().any(|address| address == one);
    for (name, text) in [("hosts", INI), ("hosts.yml", YAML)] {
        let found = hosts(name, text, "kube_node").expect("an inventory");
        assert_eq!(found.notes, [""; 0]);
        assert!(
            found.hosts.len() == 5 && expected.iter().all(|one| among(&found, one)),
            "{name}: {:?}",
            addresses(&found)
        );
        let edge = address(&found, "edge-a");
        assert_eq!(edge.user.as_deref(), Some("admin"), "the host's own word wins");
        assert_eq!(edge.arguments, ["-o", "ProxyCommand=ssh -W %h:%p jump", "-C"]);
        assert_eq!(edge.identity.as_deref(), Some(Utf8Path::new("/keys/site")));
    }
    let every = hosts("hosts.ini", INI, "all").expect("an inventory");
    assert_eq!(addresses(&every)[..2], ["jump=192.0.2.1", "cp1=192.0.2.10"]);
    assert_eq!(address(&every, "edge-a").port, Some(22));
    assert_eq!(addresses(&hosts("hosts", INI, "ungrouped").expect("one")), ["jump=192.0.2.1"]);
}

#[test]
fn the_nearer_group_wins_and_priority_decides_between_equals() {
    let text = "[b]\nw\n[a]\nw\n[top:children]\na\nb\n[all:vars]\nansible_user=all\n[top:vars]\nansible_user=top\n\
                [a:vars]\nansible_user=a\n[b:vars]\nansible_user=b\n";
    assert_eq!(addresses(&hosts("hosts", text, "all").expect("one")), ["w=b@w"]);
    let urgent = format!("{text}[a:vars]\nansible_group_priority=10\n");
    assert_eq!(addresses(&hosts("hosts", &urgent, "all").expect("one")), ["w=a@w"]);
}

#[test]
fn files_beside_the_inventory_win_over_it() {
    let (_folder, path) = folder(&[
        ("hosts", "[workers]\nw1\nw2\nw3 ansible_user=own\n[workers:vars]\nansible_user=file\nansible_port=1\n"),
        ("group_vars/all.yml", "ansible_port: 2\n"),
        ("group_vars/workers/login.yml", "ansible_user: beside\nlist: [1, 2]\n"),
        ("group_vars/workers/secret.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n"),
        ("host_vars/w2.yaml", "---\nansible_host: 192.0.2.2\nansible_user: host\n"),
    ]);
    let found = read(&path.join("hosts"), "workers", &Choice::default()).expect("an inventory");
    assert_eq!(addresses(&found), ["w1=beside@w1:2", "w2=host@192.0.2.2:2", "w3=own@w3:2"]);
}

#[test]
fn what_cannot_be_honoured_is_said_once_with_its_hosts() {
    let text = "[w]\nw1\nw2 ansible_become_user=admin\nw3 ansible_connection=local\n[w:vars]\nansible_password=x\n";
    let found = hosts("hosts", text, "w").expect("an inventory");
    assert_eq!(addresses(&found), ["w1=w1", "w2=w2", "w3=local"]);
    assert_eq!(
        found.notes,
        [
            "ansible_become_user=admin is not honoured: work on containerd is done by root (w2)",
            "ansible_password is not honoured: logins are by key: load it into your agent or set \
             ansible_ssh_private_key_file (w1, w2)",
        ]
    );
}

#[test]
fn what_cannot_be_read_is_said_with_its_place() {
    let said = |name: &str, text: &str| hosts(name, text, "w").expect_err("refused").to_string();
    let end = |error: String| error.rsplit_once("hosts").map(|(_, end)| end.to_owned()).expect("the file is named");
    assert_eq!(end(said("hosts", "[w]\nw1 nonsense\n")), ", line 2: \"nonsense\" is no KEY=VALUE");
    assert_eq!(end(said("hosts", "[w]\nw[3:1]\n")), ", line 2: [3:1] is no range");
    assert_eq!(end(said("hosts", "[w:children]\nx\n")), ": the group x is named among children and declared nowhere");
    assert_eq!(end(said("hosts", "[w:children]\nx\n[x:children]\nw\n")), ": the group w is a child of its own");
    assert_eq!(end(said("hosts", "[x]\nw1\n")), " has no group w");
    assert_eq!(end(said("hosts", "[w]\n")), " has no host in w");
    assert_eq!(end(said("hosts", "#!/bin/sh\n")), " is a program, which only Ansible can run");
    assert_eq!(
        end(said("hosts.yml", "plugin: aws_ec2\n")),
        ".yml is a plugin's configuration, which only Ansible can run"
    );
    assert_eq!(
        said("hosts", "[w]\nw1 ansible_host='{{ ip }}'\n"),
        "the inventory says of w1: ansible_host={{ ip }}, a template that only Ansible can fill in"
    );
    assert_eq!(
        said("hosts", "[w]\nw1 ansible_connection=winrm\n"),
        "the inventory says of w1: ansible_connection=winrm, and vcdist reaches nodes over SSH alone"
    );
    let error = hosts("hosts.yml", "w: [w1]\n", "w").expect_err("no mapping");
    assert!(error.to_string().ends_with("hosts.yml: w is no mapping"), "{error}");
    assert!(error.help().expect("help").to_string().contains("ansible-inventory -i "));
}

#[test]
fn a_hostile_inventory_ends_with_a_message_and_in_time() {
    let said = |name: &str, text: &str| match hosts(name, text, "all") {
        Ok(found) => format!("{} hosts", found.hosts.len()),
        Err(error) => error.to_string(),
    };
    // Each line expands to ten thousand hosts; in the pattern below, each range multiplies them.
    let lines: String = (0..11).map(|line| format!("h{line}-[1:10000]\n")).collect();
    let many = said("hosts", &lines);
    assert!(many.ends_with("it has more than 100000 hosts"), "{many}");
    assert!(said("hosts", "h[1:9999][1:9999][1:9999]\n").contains("stands for more than 10000 hosts"));
    assert!(said("hosts", "h[0:18446744073709551615]\n").contains("stands for more than 10000 hosts"));
    assert!(said("hosts", "h[0:18446744073709551615:18446744073709551615]\n").contains("hosts"));
    // An exponential number of paths through groups, and a chain of groups that is too deep for recursion.
    let diamonds: String = (0..80)
        .map(|n| format!("[g{n}:children]\na{n}\nb{n}\n[a{n}:children]\ng{}\n[b{n}:children]\ng{}\n", n + 1, n + 1))
        .collect();
    assert_eq!(said("hosts", &format!("{diamonds}[g80]\nw1\n")), "1 hosts");
    let chain: String = (0..50_000).map(|n| format!("[g{n}:children]\ng{}\n", n + 1)).collect();
    assert_eq!(said("hosts", &format!("{chain}[g50000]\nw1\n")), "1 hosts");
    // Exponentially nested aliases, and unlimited nesting.
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let before = format!("*a{}", n - 1);
        laughs += &format!("a{n}: &a{n} [{}]\n", [before.as_str(); 9].join(", "));
    }
    for text in [laughs, "[".repeat(100_000), "{a: ".repeat(100_000), "a: &a {b: *a}".to_owned(), "- ".repeat(100_000)]
    {
        assert!(said("hosts.yml", &text).contains("reading the inventory "), "{text:.40}");
    }
    let deep = (0..100).fold("hosts: {w1: }".to_owned(), |inner, n| format!("children: {{g{n}: {{{inner}}}}}"));
    assert!(said("hosts.yml", &format!("all: {{{deep}}}")).contains("reading the inventory "));
    // Names that could be an option, a user or a path out of the folder.
    for (text, words) in [
        ("-oProxyCommand=reboot\n", "is not a valid host"),
        ("root@w1\n", "is not a valid host"),
        ("w1 ansible_host=root@w2\n", "which ssh does not take for a host"),
        ("w1 ansible_host=-v\n", "which ssh does not take for a host"),
        ("w1 ansible_user='-l x'\n", "which ssh does not take for a host"),
        ("w1 ansible_port=-1\n", "which is no port"),
        ("w1 ansible_port=70000\n", "which is no port"),
    ] {
        assert!(said("hosts", text).contains(words), "{text}: {}", said("hosts", text));
    }
    let endless = read(Utf8Path::new("/dev/zero"), "all", &Choice::default()).expect_err("it has no end");
    assert!(std::error::Error::source(&endless).is_some_and(|why| why.to_string() == "it has more than 16 MiB"));
}

#[test]
fn no_name_of_a_group_leads_out_of_the_folder_of_variables() {
    let (_folder, path) = folder(&[
        ("site/hosts", "[../secret]\nw1\n[..]\nw2\n[/etc]\nw3\n"),
        ("site/secret.yml", "ansible_user: stolen\n"),
        ("site/other.yml", "ansible_user: stolen\n"),
        ("site/group_vars/all.yml", "ansible_user: ops\n"),
    ]);
    let found = read(&path.join("site/hosts"), "all", &Choice::default()).expect("an inventory");
    assert_eq!(addresses(&found), ["w1=ops@w1", "w2=ops@w2", "w3=ops@w3"]);
}

#[test]
fn a_host_that_is_left_out_need_not_be_reachable() {
    let text = "[kube_node]\nw1 ansible_host=192.0.2.1\nw2\n[switches]\nsw1 ansible_connection=network_cli\n\
                win1 ansible_host='{{ ip }}'\n";
    let (_folder, path) =
        folder(&[("hosts", text), ("host_vars/sw1.yml", "broken: [\n"), ("group_vars/switches.yml", "- a list\n")]);
    let names = |choice: &Choice| {
        let read = read(&path.join("hosts"), "all", choice);
        read.map(|found| found.hosts.into_iter().map(|host| host.name).collect::<Vec<_>>())
            .map_err(|error| error.to_string())
    };
    let strings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&Choice { exclude: strings(&["sw1", "win1"]), ..Choice::default() }).expect("two"), ["w1", "w2"]);
    assert_eq!(names(&Choice { names: strings(&["w2"]), ..Choice::default() }).expect("one"), ["w2"]);
    assert!(names(&Choice::default()).is_err());
    let missing = names(&Choice { exclude: strings(&["w9"]), ..Choice::default() }).expect_err("no such host");
    assert!(missing.ends_with("has no host w9 in all"), "{missing}");
}

#[test]
fn yaml_is_taken_as_ansible_takes_it() {
    let (_folder, path) = folder(&[
        ("hosts.yml", "all:\n  hosts:\n    w1: {ansible_port: 1, ansible_port: 2}\n"),
        (
            "group_vars/all.yml",
            "ntp: a\nntp: b\nansible_user: first\nansible_user: ops\npassword: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\n\
             raw: !unsafe '{{ x }}'\nbase: &base {a: 1}\nmore:\n  <<: *base\n  b: yes\n0755: mode\n",
        ),
        ("group_vars/all/empty.yml", "---\n"),
    ]);
    let found = read(&path.join("hosts.yml"), "all", &Choice::default()).expect("an inventory");
    assert_eq!(addresses(&found), ["w1=ops@w1:2"]);
}

//! Pushes by way of a relay, to workers that have a link to it and to nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rigs::{process, wait};
use serde_json::{Value, json};

use crate::rig::{INSIDE, NodeOptions, PushOutput, Rig, image, noise};

const MB: usize = 1_000_000;

/// What any push may take beside its blobs: the login, the order, the events.
const TALK: u64 = 64 << 10;

/// A relay and two workers behind it.
struct RelaySetup {
    // Dropped first: their links end at the relay.
    workers: [Rig; 2],
    relay: Rig,
}

impl RelaySetup {
    fn up() -> Self {
        let relay = Rig::with(&NodeOptions { network: true, ..Default::default() });
        let workers = [relay.behind(), relay.behind()];
        let known = |worker: &Rig| fs::read_to_string(worker.path().join("known_hosts")).expect("known_hosts");
        fs::write(relay.path().join("workers"), workers.iter().map(known).collect::<String>()).expect("known_hosts");
        Self { workers, relay }
    }

    /// `vcdist push ARGUMENTS` to the workers by way of the relay.
    fn command(&self, arguments: &[&str]) -> Command {
        let path = self.relay.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
        command.args(["push", "--output", "json", "--ssh-user", "root", "--via", &self.relay.address()]);
        command.arg("--store").arg(path.join("store")).arg("--ssh-config").arg(path.join("ssh_config"));
        command.arg(format!("--containerd-address={INSIDE}/containerd.sock"));
        command.arg(format!("--relay-ssh-option=IdentityFile={path}/user_key"));
        command.arg(format!("--relay-ssh-option=UserKnownHostsFile={path}/workers"));
        let hosts = self.workers.iter().map(|worker| format!("--host={}:{}", worker.address(), worker.port()));
        command.args(hosts).args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    fn push(&self, arguments: &[&str]) -> PushOutput {
        self.command(arguments).output().expect("vcdist runs").into()
    }

    /// A push under way, as a job of its own.
    fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command.spawn().expect("vcdist starts")
    }

    /// Waits until nothing of ours runs on any of them.
    fn calm(&self) {
        wait::until("the end of every helper", || {
            !self.relay.helper_runs() && self.workers.iter().all(|worker| !worker.helper_runs())
        });
    }

    /// The leases of pushes: one that keeps what came of an image until the next push is none.
    fn leases(&self) -> Vec<String> {
        let leases = self.workers.iter().flat_map(Rig::leases);
        leases.filter(|lease| !lease.starts_with("vcdist-unfinished ")).collect()
    }

    fn names(&self) -> String {
        self.workers.iter().map(|worker| worker.ctr(&["images", "ls", "-q"])).collect()
    }
}

fn results(report: &Value) -> Vec<&str> {
    report["nodes"].as_array().expect("nodes").iter().filter_map(|node| node["result"].as_str()).collect()
}

#[test]
fn blobs_leave_the_operator_once_and_reach_every_worker() {
    let site = RelaySetup::up();
    let store = site.relay.store();
    image(&store, "syncer", &noise(1, MB), b"small");
    let plan = site.push(&["syncer", "--dry-run"]).report(0);
    assert_eq!(plan["nodes"][1]["images"][0]["blobs_needed"], 4, "{plan}");
    assert_eq!(site.names(), "", "a dry run moves nothing");
    let first = site.push(&["syncer"]).report(0);
    assert_eq!(results(&first), ["pushed", "pushed"]);
    assert_eq!((&first["relay"]["name"], &first["relay"]["blobs_sent"]), (&json!(site.relay.address()), &json!(2)));

    image(&store, "manager", &noise(1, MB), &noise(2, 8 * MB));
    let layer = store.image("manager").expect("an image").platforms[0].layers[1].size;
    let carried = |push: &dyn Fn()| {
        let before = site.relay.network().carried();
        push();
        site.relay.network().carried() - before
    };
    let once = carried(&|| {
        let report = site.push(&["manager"]).report(0);
        assert_eq!(results(&report), ["pushed", "pushed"]);
        let sent: Vec<_> = (0..2).map(|place| report["nodes"][place]["bytes"]["sent"].clone()).collect();
        assert_eq!((&sent[0], &sent[1]), (&report["relay"]["bytes_sent"], &report["relay"]["bytes_sent"]), "{report}");
    });
    assert!(once > layer && once < layer + layer * 3 / 100 + TALK, "a layer of {layer} bytes for two takes {once}");
    let again = carried(&|| {
        let report = site.push(&["manager"]).report(0);
        assert_eq!(results(&report), ["up-to-date", "up-to-date"]);
        assert_eq!(report["relay"]["bytes_sent"], 0);
    });
    assert!(again < TALK, "a repeated push takes {again} bytes");
    assert!(site.leases().is_empty());

    let cache = site.relay.path().join("cache/vcdist-relay");
    assert_eq!(fs::metadata(&cache).expect("a folder").permissions().mode() & 0o777, 0o700);
    let cached = || fs::read_dir(cache.join("store/blobs/sha256")).expect("blobs").count();
    let before = cached();
    image(&store, "manager", &noise(1, MB), &noise(3, MB));
    site.push(&["manager"]).report(0);
    assert_eq!(cached(), before, "what a name stood for before goes");

    site.push(&["manager", "--relay-cache-limit", "1MB"]).report(0);
    assert_eq!(cached(), before - 3, "all goes that the syncer has for itself");
    assert_eq!(site.push(&["syncer"]).report(0)["relay"]["blobs_sent"], 3);
    assert_eq!(cached(), before, "there is room again");
    site.calm();
}

#[test]
fn a_push_that_is_cut_goes_on_where_it_stopped() {
    let site = RelaySetup::up();
    let store = site.relay.store();
    image(&store, "syncer", b"base", b"small");
    site.push(&["syncer"]).report(0);
    image(&store, "manager", b"base", &noise(5, 24 * MB));
    let mut push = site.begin(&["manager", "--limit-rate", "4M"]);
    let partial = site.relay.path().join("cache/vcdist-relay/partial");
    let came = || -> u64 {
        let parts = fs::read_dir(&partial).into_iter().flatten().flatten();
        parts.filter_map(|part| part.metadata().ok()).map(|data| data.len()).sum()
    };
    wait::until("half of it", || came() > 6 * MB as u64);
    push.kill().expect("it runs");
    push.wait().expect("it ends");
    site.calm();
    let (kept, total) = (came(), store.image("manager").expect("an image").platforms[0].layers[1].size);
    assert!(kept > 6 * MB as u64 && kept < total, "{kept} of {total}");
    assert!(!site.names().contains("manager") && site.leases().is_empty());
    let report = site.push(&["manager"]).report(0);
    assert_eq!(results(&report), ["pushed", "pushed"]);
    let sent = report["relay"]["bytes_sent"].as_u64().expect("bytes");
    assert!(sent < total - kept + MB as u64, "{sent} where {kept} of {total} were there");
}

#[test]
fn a_relay_that_is_lost_and_reached_again_is_told_of_in_one_report() {
    let mut site = RelaySetup::up();
    let store = site.relay.store();
    image(&store, "manager", b"base", &noise(7, 20 * MB));
    let layer = store.image("manager").expect("an image").platforms[0].layers[1].size;
    let push = site.begin(&["manager", "--limit-rate-per-node", "4M"]);
    // `REF SIZE AGE`
    let megabytes = |line: &str| line.split_whitespace().nth(1)?.strip_suffix("MB")?.parse::<f64>().ok();
    let came = |worker: &Rig| worker.ctr(&["content", "active"]).lines().filter_map(megabytes).any(|size| size > 8.0);
    wait::until("half of it on the workers", || site.workers.iter().all(came));
    site.relay.kill_sshd();
    let report = PushOutput::from(push.wait_with_output().expect("it ends")).report(0);
    assert_eq!(results(&report), ["pushed", "pushed"]);
    for node in report["nodes"].as_array().expect("nodes") {
        assert_eq!(node["blobs"], json!({"needed": 4, "sent": 4}), "{report}");
        let sent = node["bytes"]["sent"].as_u64().expect("bytes");
        // What was said last before the connection broke was not heard.
        assert!(sent + 4 * MB as u64 > layer, "{sent} of {layer}: {report}");
    }
    site.calm();
}

#[test]
fn ctrl_c_gives_every_lease_back() {
    let site = RelaySetup::up();
    image(&site.relay.store(), "manager", b"base", &noise(6, 24 * MB));
    let push = site.begin(&["manager", "--limit-rate-per-node", "2M"]);
    wait::until("leases", || site.workers.iter().all(|worker| !worker.ctr(&["leases", "ls", "-q"]).is_empty()));
    sleep(Duration::from_millis(500));
    process::signal_group(push.id(), "INT");
    let output: PushOutput = push.wait_with_output().expect("it ends").into();
    assert!(site.leases().is_empty(), "at once, and not when the helpers notice that they are left");
    let report = output.report(1);
    assert_eq!(results(&report), ["failed", "failed"]);
    let said = output.stderr();
    assert!(said.contains("stopped before all was done") && said.contains("stopping: leases are given back"), "{said}");
    assert_eq!(site.names(), "", "no name without its image");
    site.calm();
}

#[test]
fn what_fails_behind_a_relay_is_said_of_its_node() {
    let site = RelaySetup::up();
    image(&site.relay.store(), "manager", b"base", b"own");
    fs::write(site.workers[1].path().join("authorized_keys"), "").expect("nobody gets in");
    let denied = site.push(&["manager"]);
    let (report, said) = (denied.report(4), denied.stderr());
    assert_eq!(results(&report), ["pushed", "failed"]);
    let address = site.workers[1].address();
    assert!(said.contains(&format!("pushing to {address}: root@{address} does not let us in")), "{said}");
    assert!(said.contains("add it to the node with `ssh-copy-id`"), "{said}");

    fs::write(site.relay.path().join("workers"), "").expect("known_hosts");
    let strangers = site.push(&["manager"]);
    assert_eq!(strangers.code(), 1);
    assert!(strangers.stderr().contains(&format!("the host key of {address} is not known")), "{}", strangers.stderr());

    let open = site.relay.path().join("open");
    fs::create_dir(&open).expect("a folder");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("its mode");
    let refused = site.push(&["manager", "--relay-cache", open.as_str()]);
    assert_eq!(refused.code(), 1);
    let expected = format!(
        "relaying through {}: the relay's cache {open} is not used: {open} is writable by other users",
        site.relay.address()
    );
    assert!(refused.stderr().contains(&expected), "{}", refused.stderr());

    site.calm();
}

//! An API server as far as `vcdist` asks one: it keeps objects by their paths, lists and watches them, takes what is applied, and
//! deletes with finalizers and what is below. It can be away, refuse, break off, and never answer.

mod admission;
mod discovery;
mod stored;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rigs::http::Request;
use rigs::{port, tcp, wait};
use serde_json::{Value, json};

use admission::Admission;
use stored::Stored;

/// The groups that are served; of others it says in plain text that there is no such page, as a real one does.
const GROUPS: [&str; 11] = [
    "policy/v1",
    "coordination.k8s.io/v1",
    "apps/v1",
    "batch/v1",
    "rbac.authorization.k8s.io/v1",
    "apiextensions.k8s.io/v1",
    "admissionregistration.k8s.io/v1",
    "authorization.k8s.io/v1",
    "discovery.k8s.io/v1",
    "networking.k8s.io/v1",
    "example.com/v1",
];

/// The digest of an image that never runs.
pub(crate) const NEVER_RUNS: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

/// The annotation of a DaemonSet whose pod never gets ready, so that one waits for it.
pub(crate) const SLOW: &str = "slow";

/// The digest of an image that never gets ready, without any sign that it will not.
pub(crate) const NEVER_READY: &str = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";

/// How it fails a request.
#[derive(Debug, Clone)]
pub(crate) enum ApiFault {
    /// With this status, and headers.
    Status(u16, &'static str),
    /// The connection ends without an answer.
    Hangs,
    /// The connection ends in the middle of the answer.
    Breaks,
}

/// The server.
pub(crate) struct Api {
    folder: tempfile::TempDir,
    state: Arc<State>,
    port: u16,
}

#[derive(Default)]
struct State {
    objects: Mutex<Stored>,
    requests: Mutex<Vec<String>>,
    faults: Mutex<VecDeque<ApiFault>>,
    admission: Mutex<Admission>,
    faults_of_changes: Mutex<VecDeque<ApiFault>>,
    /// After how many further changes it falls silent.
    changes_left: Mutex<Option<usize>>,
    /// Whether somebody waits for an answer that never comes.
    is_silent: AtomicBool,
}

impl Api {
    /// A server without objects.
    pub(crate) fn up() -> Self {
        let api = Self::away();
        api.come();
        api
    }

    /// A server that is not there yet: nothing listens on its port.
    pub(crate) fn away() -> Self {
        let port = port::free();
        let folder = tempfile::Builder::new().prefix("vcdist-api-").tempdir().expect("a folder");
        let api = Self { folder, state: Arc::default(), port };
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": api.url()}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
        });
        std::fs::write(api.kubeconfig(), config.to_string()).expect("a kubeconfig");
        api
    }

    /// Listens from here on.
    pub(crate) fn come(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).expect("its port");
        tcp::serve(listener, &self.state, serve);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn kubeconfig(&self) -> Utf8PathBuf {
        self.path().join("config")
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).expect("UTF-8")
    }

    /// `vcdist ARGUMENTS` with its kubeconfig.
    pub(crate) fn vcdist(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
        command.args(arguments).env("KUBECONFIG", self.kubeconfig()).env("NO_COLOR", "1").env_remove("RUST_LOG");
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"] {
            command.env_remove(name);
        }
        command
    }

    /// Puts an object where `path` says: `/apis/apps/v1/namespaces/NS/deployments/NAME`.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let parts: Vec<&str> = path.split('/').collect();
        object["metadata"]["name"] = json!(parts[parts.len() - 1]);
        if let Some(at) = parts.iter().position(|part| *part == "namespaces").filter(|at| at + 2 < parts.len()) {
            object["metadata"]["namespace"] = json!(parts[at + 1]);
        }
        self.state.objects.lock().expect("objects").put(path, object);
    }

    /// Puts the node `worker`, which is Ready, at this machine's loopback address.
    pub(crate) fn put_worker(&self) {
        self.put(
            "/api/v1/nodes/worker",
            json!({
                "kind": "Node",
                "metadata": { "labels": { "kubernetes.io/os": "linux" } },
                "status": { "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
                            "conditions": [{ "type": "Ready", "status": "True" }] },
            }),
        );
    }

    /// Takes an object away.
    pub(crate) fn take(&self, path: &str) {
        self.state.objects.lock().expect("objects").all.remove(path);
    }

    /// Denies the user these rights: `create daemonsets.apps`, of any name and in any namespace.
    pub(crate) fn deny(&self, rights: &[&str]) {
        self.state.admission.lock().expect("rules").denied = rights.iter().map(|right| (*right).to_owned()).collect();
    }

    /// Refuses to read what is at this path.
    pub(crate) fn refuse_to_read(&self, path: &str) {
        self.state.admission.lock().expect("rules").unreadable = Some(path.to_owned());
    }

    /// Refuses every pod from here on with this message.
    pub(crate) fn refuse_pods(&self, message: &str) {
        self.state.admission.lock().expect("rules").refuses_pods = Some(message.to_owned());
    }

    /// Answers with the present time from here on.
    pub(crate) fn set_clock(&self) {
        self.state.admission.lock().expect("rules").has_clock = true;
    }

    /// The object of a path.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.objects.lock().expect("objects").all.get(path).cloned()
    }

    /// The paths of all objects.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.state.objects.lock().expect("objects").all.keys().cloned().collect()
    }

    /// Everything it keeps at this moment.
    pub(crate) fn snapshot(&self) -> Stored {
        self.state.objects.lock().expect("objects").clone()
    }

    /// Has it keep what it kept then.
    pub(crate) fn restore(&self, then: &Stored) {
        self.state.objects.lock().expect("objects").clone_from(then);
    }

    /// Runs a command and kills it once it has made this many changes, before it hears of the last. Whether it came to that.
    pub(crate) fn kill_after(&self, changes: usize, command: &mut Command) -> bool {
        *self.state.changes_left.lock().expect("a count") = Some(changes);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("vcdist runs");
        let deadline = Instant::now() + Duration::from_secs(60);
        let is_killed = loop {
            if self.state.is_silent.load(Ordering::SeqCst) {
                child.kill().expect("a kill");
                break true;
            }
            if child.try_wait().expect("a child").is_some() {
                break false;
            }
            assert!(Instant::now() < deadline, "the command ends or makes {changes} changes");
            sleep(Duration::from_millis(5));
        };
        let _ = child.wait();
        *self.state.changes_left.lock().expect("a count") = None;
        self.state.is_silent.store(false, Ordering::SeqCst);
        is_killed
    }

    /// Fails the next requests so: those of commands that begin from here on, and none that an ended command left on its way.
    pub(crate) fn fail(&self, faults: &[ApiFault]) {
        // Connections are accepted in their order: once this one is answered, by its end, each before it has a thread.
        if let Ok(mut last) = TcpStream::connect(("127.0.0.1", self.port)) {
            last.shutdown(Shutdown::Write).expect("half a connection");
            let _ = last.read_to_end(&mut Vec::new());
        }
        // This value and the listener hold the state, and each thread that serves a request.
        wait::until("requests of ended commands are served to their end", || Arc::strong_count(&self.state) <= 2);
        self.state.faults.lock().expect("faults").extend(faults.iter().cloned());
    }

    /// What changed something, or was to: all but the lock of the command that did it.
    pub(crate) fn changes(&self) -> Vec<String> {
        let is_question = |request: &String| request.contains("dryRun") || request.contains("/selfsubject");
        let is_change = |request: &String| !request.starts_with("GET") && !is_question(request);
        let is_lock = |request: &String| request.contains("/leases");
        self.requests().into_iter().filter(|request| is_change(request) && !is_lock(request)).collect()
    }

    /// Fails the next changes so; a dry run changes nothing, and the lock of a command does not count.
    pub(crate) fn fail_changes(&self, faults: &[ApiFault]) {
        self.state.faults_of_changes.lock().expect("faults").extend(faults.iter().cloned());
    }

    /// What was asked: method, path and query, the Authorization.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().expect("requests").clone()
    }
}

fn serve(state: &State, mut stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    let Some(request) = Request::read(&mut reader) else { return };
    let Request { method, target, .. } = &request;
    let mut body = vec![0; request.length()];
    let _ = reader.read_exact(&mut body);
    let asked = format!("{method} {target} {}", request.field("authorization").unwrap_or_default());
    state.requests.lock().expect("requests").push(asked);
    let is_change = method != "GET" && !target.contains("dryRun") && !target.contains("/selfsubject");
    let faults = if is_change && !target.contains("/leases") {
        state.faults_of_changes.lock().expect("faults").pop_front()
    } else {
        None
    };
    let fault = faults.or_else(|| state.faults.lock().expect("faults").pop_front());
    let (status, headers, text) = match fault {
        Some(ApiFault::Hangs) => return drop(stream.shutdown(Shutdown::Both)),
        Some(ApiFault::Status(status, headers)) => (status, headers, "not now".to_owned()),
        _ => {
            let kind = request.field("content-type").unwrap_or_default();
            let (status, text) = answer(state, method, target, kind, &body);
            if is_change && is_last(state) {
                return never_answer(state, stream);
            }
            (status, "", text)
        }
    };
    if target.contains("watch=true") && status == 200 {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n");
        // As long as a real one might leave a quiet watch open, and much shorter.
        sleep(Duration::from_secs(1));
    } else {
        let date = state.admission.lock().expect("rules").date();
        let length = text.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} X\r\nconnection: close\r\ndate: {date}\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n"
        );
        let sent = if matches!(fault, Some(ApiFault::Breaks)) { &text[..length / 2] } else { &text };
        let _ = stream.write_all(sent.as_bytes());
    }
    let _ = stream.shutdown(Shutdown::Both);
}

/// Whether a change is the last before it falls silent.
fn is_last(state: &State) -> bool {
    let mut left = state.changes_left.lock().expect("a count");
    *left = left.map(|count| count.saturating_sub(1));
    *left == Some(0)
}

fn never_answer(state: &State, mut stream: &TcpStream) {
    state.is_silent.store(true, Ordering::SeqCst);
    // Until the client is gone.
    let _ = stream.read(&mut [0]);
}

fn answer(state: &State, method: &str, target: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut objects = state.objects.lock().expect("objects");
    let group = path.strip_prefix("/apis/").map(|rest| rest.split('/').take(2).collect::<Vec<_>>().join("/"));
    if group.is_some_and(|group| !GROUPS.contains(&group.as_str()) && !objects.defines(&group)) {
        return (404, "404 page not found\n".to_owned());
    }
    let body = || serde_json::from_slice::<Value>(body).unwrap_or_default();
    if method == "POST"
        && let Some(answer) = state.admission.lock().expect("rules").answer(path, &body())
    {
        return answer;
    }
    if method == "GET" && state.admission.lock().expect("rules").unreadable.as_deref() == Some(path) {
        return refusal(403, "Forbidden", &format!("may not read {path}"));
    }
    match method {
        "PATCH" if kind.contains("apply-patch") => objects.apply(path, query, &body()),
        "PATCH" => objects.patch(path, &body()),
        "POST" => objects.create(path, query, body()),
        "PUT" => objects.replace(path, body()),
        "DELETE" => objects.delete(path, &body()),
        _ if discovery::kinds(path, &objects.all).is_some() => {
            (200, discovery::kinds(path, &objects.all).unwrap_or_default().to_string())
        }
        _ => match objects.all.get(path) {
            Some(object) => (200, object.to_string()),
            None if path == "/version" => (200, version().to_string()),
            None if is_collection(path) => (200, list(&objects.all, path, query).to_string()),
            None => not_found(),
        },
    }
}

/// What it says of itself.
fn version() -> Value {
    let texts = ["gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
    let mut version: Value = texts.iter().map(|key| ((*key).to_owned(), json!(""))).collect();
    (version["major"], version["minor"], version["gitVersion"]) = (json!("1"), json!("34"), json!("v1.34.4"));
    version
}

/// What a server answers that refuses.
fn refusal(code: u16, reason: &str, message: &str) -> (u16, String) {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": message });
    (code, status.to_string())
}

fn not_found() -> (u16, String) {
    refusal(404, "NotFound", "not found")
}

/// What its controllers make of an object at once.
fn status_of(object: &Value) -> Option<Value> {
    let condition = |kind: &str| json!([{ "type": kind, "status": "True" }]);
    match object["kind"].as_str()? {
        "Namespace" => Some(json!({ "phase": "Active" })),
        "CustomResourceDefinition" => Some(json!({ "conditions": condition("Established") })),
        "Deployment" if object["spec"]["paused"] == true => Some(json!({ "replicas": 1 })),
        "Deployment" if object["spec"].to_string().contains(NEVER_RUNS) => {
            let condition = json!([{ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": "it does not start" }]);
            Some(json!({ "replicas": 1, "conditions": condition }))
        }
        "Deployment" if object["spec"].to_string().contains(NEVER_READY) => Some(json!({ "replicas": 1 })),
        "Deployment" => Some(json!({ "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1 })),
        "StatefulSet" => {
            Some(json!({ "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1 }))
        }
        "PersistentVolumeClaim" => Some(json!({ "phase": "Bound" })),
        "DaemonSet" if object["metadata"]["annotations"][SLOW] == "true" => Some(
            json!({ "currentNumberScheduled": 1, "desiredNumberScheduled": 1, "numberMisscheduled": 0, "numberReady": 0 }),
        ),
        "DaemonSet" => {
            let counts = ["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"];
            Some(counts.iter().map(|count| ((*count).to_owned(), json!(0))).collect())
        }
        _ => None,
    }
}

/// Whether a path is a kind's: namespaces have objects at even places, and the kinds of a group no name.
fn is_collection(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let within = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
    within.len() == 1 || (within.len() == 3 && within[0] == "namespaces")
}

fn list(objects: &BTreeMap<String, Value>, path: &str, query: &str) -> Value {
    let (prefix, plural) = path.rsplit_once('/').expect("a kind");
    let name = query.split('&').find_map(|one| one.strip_prefix("fieldSelector=metadata.name%3D"));
    let is_meant = |key: &str| {
        let (kind, its_name) = key.rsplit_once('/').expect("an object");
        key.starts_with(prefix) && kind.ends_with(&format!("/{plural}")) && name.is_none_or(|name| name == its_name)
    };
    let labels = query.split('&').find_map(|one| one.strip_prefix("labelSelector=")).unwrap_or_default();
    let labels = labels.replace("%2C", ",").replace("%3D", "=").replace("%2F", "/");
    let has_labels = |object: &Value| {
        let mut wanted = labels.split(',').filter_map(|label| label.split_once('='));
        wanted.all(|(key, value)| object["metadata"]["labels"][key] == value)
    };
    let meant = objects.iter().filter(|(key, object)| is_meant(key) && has_labels(object));
    let items: Vec<&Value> = meant.map(|(_, object)| object).collect();
    json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items })
}

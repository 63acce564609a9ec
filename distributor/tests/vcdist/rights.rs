//! That `vcdist rbac` holds the right of every request that the commands send.

use std::process::{Command, Output};

use serde_json::{Value, json};
use vcdist::rights::{Task, manifest};
use vcmanifests::{Component, ImageReference, Images, Object, Parameters};

use crate::rig::api::{Api, NEVER_RUNS};

const NAMESPACE: &str = "vc-manager";
const TENANT: &str = "/apis/tenancy.x-k8s.io/v1alpha1/namespaces/tenants/virtualclusters/a";

/// What a request does, as an authorizer sees it.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    verb: &'static str,
    group: String,
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
}

impl Request {
    /// Reads `METHOD TARGET …`; none for what every user may ask.
    fn read(asked: &str) -> Option<Self> {
        let (method, rest) = asked.split_once(' ')?;
        let target = rest.split(' ').next()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (group, within) = match parts.as_slice() {
            ["api", _, rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, of_kind) = match within {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (resource, subresource) = (*of_kind.first()?, of_kind.get(2));
        if resource.starts_with("selfsubject") {
            return None;
        }
        let field = query.split('&').find_map(|one| one.strip_prefix("fieldSelector=metadata.name%3D"));
        let name = of_kind.get(1).copied().or(field);
        let verb = match (method, of_kind.get(1)) {
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            (_, Some(_)) => "get",
            _ if query.contains("watch=true") => "watch",
            _ => "list",
        };
        Some(Self {
            verb,
            group: group.to_owned(),
            resource: subresource.map_or(resource.to_owned(), |sub| format!("{resource}/{sub}")),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
        })
    }

    /// Whether a rule of a role in `namespace`, or of a cluster role, allows it.
    fn is_allowed_by(&self, rule: &Value, namespace: Option<&str>) -> bool {
        let has = |key: &str, value: &str| rule[key].as_array().is_some_and(|all| all.iter().any(|one| one == value));
        let is_named =
            rule["resourceNames"].is_null() || self.name.as_ref().is_some_and(|name| has("resourceNames", name));
        (namespace.is_none() || self.namespace.as_deref() == namespace)
            && has("apiGroups", &self.group)
            && has("resources", &self.resource)
            && has("verbs", self.verb)
            && is_named
    }
}

/// The roles of these commands.
fn roles(tasks: &[Task]) -> Vec<(Value, Option<String>)> {
    let image = |component: Component| {
        ImageReference::new(&format!("docker.io/a/{component}:1"), NEVER_RUNS).expect("a reference")
    };
    let [manager, syncer, vn_agent] = Component::ALL.map(image);
    let objects = vcmanifests::objects(&Parameters::new(Images { manager, syncer, vn_agent }));
    let is_role = |object: &&Object| matches!(object, Object::Role(_) | Object::ClusterRole(_));
    let manifest = manifest(&objects, NAMESPACE, tasks, &[]);
    let role = |object: &Object| {
        (serde_json::to_value(object).expect("JSON")["rules"].clone(), object.namespace().map(str::to_owned))
    };
    manifest.iter().filter(is_role).map(role).collect()
}

/// The requests since `from` that no role allows.
fn refused(api: &Api, from: usize, tasks: &[Task]) -> Vec<Request> {
    let roles = roles(tasks);
    let is_allowed = |request: &Request| {
        roles.iter().any(|(rules, namespace)| {
            rules.as_array().expect("rules").iter().any(|rule| request.is_allowed_by(rule, namespace.as_deref()))
        })
    };
    let requests = api.requests();
    requests[from..].iter().filter_map(|asked| Request::read(asked)).filter(|request| !is_allowed(request)).collect()
}

fn ended(command: &mut Command, code: i32) {
    let Output { status, stdout, stderr } = command.output().expect("vcdist runs");
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert_eq!(status.code(), Some(code), "{said}");
}

fn deploy<'a>(api: &Api, command: &'a mut Command, digest: &str) -> &'a mut Command {
    *command = api.vcdist(&["deploy", "--timeout", "5s"]);
    for component in ["manager", "syncer", "vn-agent"] {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@{digest}"));
    }
    command
}

#[test]
fn every_request_of_a_command_has_its_right_in_the_roles_of_that_command() {
    let api = Api::up();
    api.put_worker();
    api.put(
        "/version",
        json!({ "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "",
        "buildDate": "", "goVersion": "", "compiler": "", "platform": "" }),
    );
    let mut command = api.vcdist(&[]);
    let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
    let mut from = 0;
    let mut checked = |tasks: &[Task]| {
        assert_eq!(refused(&api, from, tasks), [], "of {tasks:?}");
        assert!(api.requests().len() > from, "something was asked");
        from = api.requests().len();
    };
    ended(deploy(&api, &mut command, &digest("a")), 0);
    ended(deploy(&api, &mut command, NEVER_RUNS), 1);
    ended(deploy(&api, &mut command, &digest("b")).args(["--tolerate", "gpu"]), 0);
    ended(&mut api.vcdist(&["diff", "--revision", "1"]), 3);
    ended(&mut api.vcdist(&["history"]), 0);
    ended(&mut api.vcdist(&["rollback", "1", "--ignore-nodes"]), 0);
    checked(&[Task::Deploy]);
    let _ = api.vcdist(&["status", "--ssh-option", "Port=1", "--retries", "0"]).output().expect("vcdist runs");
    checked(&[Task::Deploy, Task::Nodes]);
    ended(&mut api.vcdist(&["detect"]), 0);
    ended(&mut api.vcdist(&["clusterversion", "--apply"]), 0);
    checked(&[Task::Detect]);
    let _ = api.vcdist(&["verify"]).output().expect("vcdist runs");
    checked(&[Task::Verify]);
    let _ = api.vcdist(&["validate", "--no-ssh"]).output().expect("vcdist runs");
    checked(&[Task::Nodes, Task::Validate]);

    api.put("/api/v1/namespaces/tenants", json!({ "kind": "Namespace", "metadata": { "uid": "n" } }));
    let tenant = json!({ "kind": "VirtualCluster", "apiVersion": "tenancy.x-k8s.io/v1alpha1",
        "metadata": { "uid": "t", "finalizers": ["virtualcluster.finalizer.native"] } });
    api.put(TENANT, tenant);
    let annotations = json!({ "tenancy.x-k8s.io/vcuid": "t", "tenancy.x-k8s.io/vcname": "a" });
    let namespace = json!({ "kind": "Namespace", "metadata": { "uid": "m", "annotations": annotations } });
    api.put("/api/v1/namespaces/tenants-1-a", namespace);
    let manager = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-manager";
    let mut stopped = api.get(manager).expect("vc-manager");
    stopped["spec"]["replicas"] = json!(0);
    api.put(manager, stopped);
    ended(&mut api.vcdist(&["uninstall", "--yes", "--tenants", "delete"]), 0);
    checked(&[Task::Uninstall]);
}

#[test]
fn requests_are_read_as_an_authorizer_reads_them() {
    let read = |text: &str| Request::read(text).map(|it| (it.verb, it.resource, it.namespace, it.name));
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        read("GET /api/v1/namespaces/vc/pods/p/log?tailLines=5 Bearer t"),
        Some(("get", "pods/log".to_owned(), some("vc"), some("p")))
    );
    assert_eq!(read("PATCH /api/v1/namespaces/vc?x "), Some(("patch", "namespaces".to_owned(), None, some("vc"))));
    assert_eq!(
        read("GET /apis/apps/v1/namespaces/vc/deployments?fieldSelector=metadata.name%3Da&watch=true "),
        Some(("watch", "deployments".to_owned(), some("vc"), some("a")))
    );
    assert_eq!(read("GET /version "), None);
}

#[test]
fn the_roles_are_printed_for_kubectl_and_bound_to_whom_they_are_for() {
    let api = Api::up();
    let printed = |arguments: &[&str]| {
        let output = api.vcdist(&["rbac"]).args(arguments).output().expect("vcdist runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let kinds =
        |text: &str| text.lines().filter_map(|line| line.strip_prefix("kind: ")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(kinds(&printed(&[])), ["Namespace", "ClusterRole", "Role", "Role"]);
    let all = printed(&["--namespace", "vc", "--to", "user:jane", "--to", "serviceaccount:ci:deployer"]);
    assert_eq!(
        kinds(&all),
        [&["Namespace", "ClusterRole", "ClusterRoleBinding"], &["Role", "RoleBinding"].repeat(2)[..]].concat()
    );
    assert!(all.contains("name: jane") && all.contains("name: deployer") && all.contains("namespace: ci"), "{all}");
    let nodes = printed(&["--for", "nodes"]);
    assert_eq!(kinds(&nodes), ["ClusterRole"]);
    assert!(nodes.contains("- nodes") && !nodes.contains("- secrets"), "{nodes}");
    assert!(api.requests().is_empty(), "no cluster is asked");
}

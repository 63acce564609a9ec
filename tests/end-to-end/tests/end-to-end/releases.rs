//! Releases of other manifests on a real API server with real controllers: a web application, a database with a volume, and an
//! operator with a webhook, each from its first deployment to its removal; and a deployment to an API server that is far away and
//! is started anew meanwhile.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use end_to_end::{Operator, far_away};
use lab::Containerd;
use rigs::{Run, wait};
use serde_json::{Value, json};

/// Settings, a Deployment, a Service, an Ingress, an autoscaler and a budget.
const WEB: &str = include_str!("releases/web.yaml");

/// A StatefulSet with a volume on a node, a claim that nothing uses yet, and a job.
const DATABASE: &str = include_str!("releases/database.yaml");

/// Definitions, an object of one, an operator and its webhook.
const OPERATOR: &str = include_str!("releases/operator.yaml");

/// How long anything takes each way to the API server that is far away.
const DELAY: Duration = Duration::from_millis(150);

/// A release.
struct Release<'a> {
    operator: &'a Operator,
    name: &'static str,
    namespace: &'static str,
}

impl Release<'_> {
    fn command(&self, subcommand: &str) -> Command {
        let mut command = self.operator.vcdist(subcommand);
        command.args(["--name", self.name, "--namespace", self.namespace, "--output", "json"]);
        command
    }

    fn on_manifests(&self, subcommand: &str, manifests: &str) -> Command {
        let file = self.operator.stage.path().join(format!("{}.yaml", self.name));
        std::fs::write(&file, manifests).unwrap();
        let mut command = self.command(subcommand);
        command.args(["--manifests", file.as_str()]);
        command
    }

    fn deploy(&self, manifests: &str, arguments: &[&str], code: i32) -> Value {
        let mut command = self.on_manifests("deploy", manifests);
        if !arguments.contains(&"--timeout") {
            command.args(["--timeout", "60s"]);
        }
        Run::of(command.args(arguments)).json_and(code)
    }

    /// What differs from manifests; the exit code is 3 where anything does.
    fn diff(&self, manifests: &str, code: i32) -> Value {
        Run::of(&mut self.on_manifests("diff", manifests)).json_and(code)
    }

    fn drift(&self, revision: &str, code: i32) -> Value {
        Run::of(self.command("diff").args(["--revision", revision])).json_and(code)
    }

    fn rollback(&self, revision: &str) -> Value {
        let config = self.operator.lab.ssh_config();
        let arguments = [revision, "--timeout", "60s", "--ssh-config", config.as_str()];
        Run::of(self.command("rollback").args(arguments)).json()
    }

    fn uninstall(&self, arguments: &[&str]) -> Value {
        Run::of(self.command("uninstall").args(["--yes", "--timeout", "60s"]).args(arguments)).json()
    }

    fn get(&self, arguments: &[&str]) -> Value {
        let text = self.operator.kubectl(&[&["--namespace", self.namespace, "get", "-o", "json"], arguments].concat());
        serde_json::from_str(&text).unwrap()
    }

    fn has(&self, object: &str) -> bool {
        let found = ["--namespace", self.namespace, "get", object, "--ignore-not-found", "-o", "name"];
        !self.operator.kubectl(&found).is_empty()
    }

    /// Deploys manifests that cannot run; the deployment goes back, and its error names this.
    fn goes_back_from(&self, manifests: &str, timeout: &str, cause: &str) {
        let failed = self.deploy(manifests, &["--atomic", "--timeout", timeout], 1);
        let error = failed["error"].as_str().unwrap();
        assert!(error.contains("back at revision") && error.contains(cause), "{failed}");
        assert!(failed["rolled_back_to"].is_i64(), "{failed}");
    }
}

fn object(document: &Value, kind: &str) -> Value {
    let mut objects = document["objects"].as_array().unwrap().iter();
    objects.find(|one| one["kind"] == kind).cloned().unwrap_or_default()
}

fn ready<'a>(document: &'a Value, kind: &str) -> &'a Value {
    let mut ready = document["ready"].as_array().unwrap().iter();
    ready.find(|one| one["kind"] == kind).map_or(&Value::Null, |one| &one["ready"])
}

fn kept(document: &Value) -> Vec<&str> {
    document["kept"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

/// Manifests without the document of a kind.
fn without(manifests: &str, kind: &str) -> String {
    let documents = manifests.split("\n---\n").filter(|document| !document.contains(&format!("kind: {kind}\n")));
    documents.collect::<Vec<_>>().join("\n---\n")
}

/// Manifests whose first image no node has, and no registry.
fn with_absent_image(manifests: &str) -> String {
    let image = manifests.split("image: ").nth(1).unwrap().lines().next().unwrap();
    manifests.replacen(image, "docker.io/shop/absent:1", 1)
}

#[test]
fn releases_of_other_manifests_live_from_their_first_deployment_to_their_removal() {
    let mut operator = Operator::with_lab("e2e-release", Containerd::V2);
    let built = operator.stage.images(&["--base", "scratch"]);
    let image = |component: &str| {
        let mut images = built["images"].as_array().unwrap().iter();
        images.find(|one| one["component"] == component).unwrap()["reference"].as_str().unwrap().to_owned()
    };
    let _ = operator.pushed();
    let _ = operator.on("worker1", &["mkdir", "-p", "/var/lib/db"]);
    let web = WEB.replace("IMAGE", &image("vn-agent"));
    a_web_application(&Release { operator: &operator, name: "web", namespace: "shop" }, &web);
    let database = DATABASE.replace("IMAGE", &image("vn-agent"));
    a_database(&Release { operator: &operator, name: "database", namespace: "data" }, &database);
    let manager = OPERATOR.replace("IMAGE", &image("manager"));
    an_operator(&Release { operator: &operator, name: "operator", namespace: "operator" }, &manager);
    an_api_server_that_is_far_away_and_starts_anew(&mut operator, &web);
}

fn a_web_application(web: &Release<'_>, first: &str) {
    assert_eq!(web.diff(first, 3)["objects"].as_array().unwrap().len(), 11, "the cluster has nothing yet");
    let deployed = web.deploy(first, &[], 0);
    assert_eq!((ready(&deployed, "Deployment"), &deployed["revision"]), (&json!("2/2"), &json!(1)), "{deployed}");
    assert_eq!(web.diff(first, 0)["differs"], false);
    assert_eq!(web.drift("1", 0)["differs"], false, "Secrets with values are not compared");

    let patch = r#"{"data":{"greeting":"changed"}}"#;
    let _ = web.operator.kubectl(&["-n", "shop", "patch", "configmap", "web", "--patch", patch]);
    let _ = web.operator.kubectl(&["-n", "shop", "set", "env", "deployment/web", "DEBUG=1"]);
    let differs = web.diff(first, 3);
    assert!(object(&differs, "ConfigMap")["conflicts"].to_string().contains("kubectl"), "{differs}");
    let drift = web.drift("1", 3);
    assert!(object(&drift, "Deployment")["fields"].to_string().contains("DEBUG"), "{drift}");
    let _ = web.operator.kubectl(&["-n", "shop", "set", "env", "deployment/web", "DEBUG-"]);
    let _ = web.deploy(first, &["--force-conflicts"], 0);

    let _ = web.operator.kubectl(&["-n", "shop", "create", "configmap", "theirs"]);
    let second = without(first, "HorizontalPodAutoscaler").replace("greeting: hello", "greeting: welcome");
    let upgraded = web.deploy(&second, &[], 0);
    assert_eq!(object(&upgraded, "HorizontalPodAutoscaler")["change"], "removed", "{upgraded}");
    assert!(!web.has("hpa/web") && web.has("configmap/theirs"));

    web.goes_back_from(&with_absent_image(&second), "60s", "docker.io/shop/absent:1 is not on the node");
    assert!(web.has("secret/web"), "nobody else has its values");
    assert_eq!(web.drift("2", 0)["differs"], false);
    let back = web.rollback("1");
    assert_eq!(object(&back, "HorizontalPodAutoscaler")["change"], "created", "{back}");
    assert_eq!(web.get(&["configmap", "web"])["data"]["greeting"], "hello");
    assert!(web.has("secret/web"));

    assert_eq!(kept(&web.uninstall(&[])), ["shop"]);
    let left = web.operator.kubectl(&[
        "-n",
        "shop",
        "get",
        "all,configmaps,secrets,ingresses,controllerrevisions",
        "-o",
        "name",
    ]);
    assert_eq!(left.lines().collect::<Vec<_>>(), ["configmap/kube-root-ca.crt", "configmap/theirs"]);
}

fn a_database(database: &Release<'_>, first: &str) {
    let deployed = database.deploy(first, &[], 0);
    assert_eq!(ready(&deployed, "PersistentVolumeClaim"), "bound when a pod uses it", "{deployed}");
    assert_eq!(ready(&deployed, "StatefulSet"), "1/1", "{deployed}");
    assert_eq!(database.diff(first, 0)["differs"], false);
    let volume = || database.operator.on("worker1", &["cat", "/var/lib/db/vn.crt"]);
    let written = volume();

    let second = first.replace("[--cert-dir=/data]", "[--cert-dir=/data, --enable-metrics=false]");
    assert_eq!(ready(&database.deploy(&second, &[], 0), "StatefulSet"), "1/1");
    assert_eq!(volume(), written, "the next pod has the same volume");
    let larger = second.replace("storage: 10Mi\n---\napiVersion: batch/v1", "storage: 20Mi\n---\napiVersion: batch/v1");
    let refused = database.deploy(&larger, &[], 1);
    assert!(refused["error"].as_str().unwrap().contains("statefulset/db"), "{refused}");
    database.goes_back_from(&with_absent_image(&second), "60s", "docker.io/shop/absent:1 is not on the node");
    assert_eq!(database.drift("2", 0)["differs"], false);
    assert_eq!(database.get(&["statefulset", "db"])["status"]["readyReplicas"], 1, "its stuck pod was replaced");

    let third = without(&without(&second, "Job"), "PersistentVolumeClaim");
    let pruned = database.deploy(&third, &[], 0);
    assert_eq!(
        (object(&pruned, "Job")["change"].as_str(), kept(&pruned)),
        (Some("removed"), vec!["backup"]),
        "{pruned}"
    );
    let _ = database.deploy(&third, &["--prune-definitions"], 0);
    assert!(!database.has("job/schema") && !database.has("pvc/backup"));

    let removed = database.uninstall(&["--prune-definitions"]);
    let mut stays = kept(&removed);
    stays.sort_unstable();
    assert_eq!(stays, ["data", "data-db-0", "db-0"], "what holds data stays: {removed}");
    assert!(!database.has("pods/db-0") && volume() == written);
}

fn an_operator(operator: &Release<'_>, first: &str) {
    let deployed = operator.deploy(first, &[], 0);
    assert_eq!(ready(&deployed, "ValidatingWebhookConfiguration"), "it answers", "{deployed}");
    let tenant = json!({ "apiVersion": "tenancy.x-k8s.io/v1alpha1", "kind": "VirtualCluster",
        "metadata": { "name": "a", "namespace": "default" }, "spec": { "clusterVersionName": "absent" } });
    let create = || operator.operator.lab.kubectl_with(&["create", "-f", "-"], &tenant.to_string()).unwrap_err();
    // Until kube-proxy leads the API server to it.
    wait::until("its webhook refuses what is wrong", || format!("{:?}", create()).contains("names no ClusterVersion"));
    assert_eq!(operator.diff(first, 0)["differs"], false, "the authority that the operator wrote is its own");

    // A field that only the new definition has, and the object that uses it, in one go.
    let field = "              apiServer:\n                type: object\n";
    let second = first.replace(field, &format!("              backups:\n                type: integer\n{field}"));
    let second = second.replace("  apiServer:\n    replicas: 1\n", "  backups: 3\n");
    let changed = operator.diff(&second, 3);
    assert_eq!(object(&changed, "ClusterVersion")["change"], "configured", "{changed}");
    let _ = operator.deploy(&second, &[], 0);
    assert_eq!(operator.get(&["clusterversion", "standard"])["spec"], json!({ "backups": 3 }));
    operator.goes_back_from(&second.replace("--enable-webhook", "--unknown"), "15s", "deployment/operator");
    assert_eq!(operator.drift("2", 0)["differs"], false);
    let back = operator.rollback("1");
    assert_eq!(ready(&back, "ValidatingWebhookConfiguration"), "it answers", "{back}");
    assert_eq!(operator.get(&["clusterversion", "standard"])["spec"], json!({ "apiServer": { "replicas": 1 } }));

    // Nobody answers for the webhook any more, which refuses what it is not asked about.
    let _ = operator.operator.kubectl(&["-n", "operator", "scale", "deployment/operator", "--replicas=0"]);
    let removed = operator.uninstall(&["--prune-definitions"]);
    assert_eq!(kept(&removed), [""; 0], "{removed}");
    let left = operator.operator.kubectl(&[
        "get",
        "namespaces,crds,validatingwebhookconfigurations,clusterroles",
        "-o",
        "name",
    ]);
    let is_ours = |line: &&str| ["tenancy", "virtualcluster", "/operator"].iter().any(|word| line.contains(word));
    assert_eq!(left.lines().filter(is_ours).collect::<Vec<_>>(), [""; 0]);
}

fn an_api_server_that_is_far_away_and_starts_anew(operator: &mut Operator, manifests: &str) {
    let address = operator.lab.control_plane().address;
    let port = far_away((address, 6443).into(), DELAY).unwrap();
    let config = std::fs::read_to_string(operator.lab.kubeconfig()).unwrap();
    let far = operator.stage.path().join("far.kubeconfig");
    std::fs::write(&far, config.replace(&format!("{address}:6443"), &format!("127.0.0.1:{port}"))).unwrap();
    let file = operator.stage.path().join("far.yaml");
    std::fs::write(&file, manifests).unwrap();
    let mut command = operator.stage.vcdist();
    command.args([
        "deploy",
        "--kubeconfig",
        far.as_str(),
        "--manifests",
        file.as_str(),
        "--name",
        "web",
        "--namespace",
        "shop",
    ]);
    let mut deploy = command.args(["--timeout", "120s"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(deploy.stdout.take().unwrap()).lines();
    let begun = lines.by_ref().map(Result::unwrap).find(|line| line.contains("serviceaccount/web"));
    assert!(begun.is_some(), "it applies");
    operator.lab.restart_api_server().unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let ended = deploy.wait_with_output().unwrap();
    assert!(ended.status.success(), "{rest:#?}\n{}", String::from_utf8_lossy(&ended.stderr));
    assert!(rest.iter().any(|line| line == "deployment/web is ready: 2/2"), "{rest:#?}");
    let web = Release { operator, name: "web", namespace: "shop" };
    assert_eq!(web.diff(manifests, 0)["differs"], false);
}

//! Tests of finding a kubeconfig, and of the error messages.

use std::fs;
use std::time::Duration;

use camino::Utf8PathBuf;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use miette::Diagnostic;

use super::{Cluster, ClusterArgs, Environment, Source};

const KUBECONFIG: &str = r"
apiVersion: v1
kind: Config
current-context: one
contexts:
- name: one
  context: {cluster: here, user: jane}
- name: two
  context: {cluster: here, user: jane}
clusters:
- name: here
  cluster: {server: 'http://127.0.0.1:PORT'}
users:
- name: jane
  user: {token: secret}
";

/// Writes a kubeconfig for a server on `port`.
fn kubeconfig(port: u16) -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().join("config")).unwrap();
    fs::write(&path, KUBECONFIG.replace("PORT", &port.to_string())).unwrap();
    (folder, path)
}

fn nowhere() -> Environment {
    Environment { home: Some("/nonexistent".into()), ..Environment::default() }
}

fn args(kubeconfig: impl Into<Utf8PathBuf>) -> ClusterArgs {
    ClusterArgs { kubeconfig: Some(kubeconfig.into()), api_timeout: Some(Duration::ZERO), ..ClusterArgs::default() }
}

fn help(error: &impl Diagnostic) -> String {
    error.help().map(|help| help.to_string()).unwrap_or_default()
}

#[test]
fn a_missing_kubeconfig_is_named() {
    let error = Source::find(&ClusterArgs::default(), &nowhere()).unwrap_err();
    assert_eq!(error.to_string(), "finding the cluster: no kubeconfig at /nonexistent/.kube/config");
    assert_eq!(help(&error), "give --kubeconfig FILE, or set KUBECONFIG");

    let error = Source::find(&args("/nonexistent/x"), &nowhere()).unwrap_err();
    assert_eq!(error.to_string(), "finding the cluster: no kubeconfig at /nonexistent/x");

    let environment = Environment { kubeconfig: Some("/nonexistent/a:/nonexistent/b".into()), ..nowhere() };
    let error = Source::find(&ClusterArgs::default(), &environment).unwrap_err();
    assert_eq!(error.to_string(), "finding the cluster: no kubeconfig at /nonexistent/a, /nonexistent/b");
}

#[test]
fn kubeconfigs_are_looked_for_in_kubectls_order() {
    let (folder, path) = kubeconfig(1);
    let home = folder.path().join("home");
    fs::create_dir_all(home.join(".kube")).unwrap();
    fs::write(home.join(".kube/config"), "").unwrap();
    let environment = Environment {
        kubeconfig: Some(format!("/nonexistent/a::{path}").into()),
        home: Some(home.clone()),
        in_pod: true,
        ..Environment::default()
    };
    let find = |args: &ClusterArgs, environment: &Environment| Source::find(args, environment).unwrap();
    let files = |path: &std::path::Path| Source::Files(vec![path.to_owned()]);

    assert_eq!(find(&args("/dev/null"), &environment), files("/dev/null".as_ref()));
    assert_eq!(find(&ClusterArgs::default(), &environment), files(path.as_std_path()));
    let without = Environment { kubeconfig: None, ..environment };
    assert_eq!(find(&ClusterArgs::default(), &without), files(&home.join(".kube/config")));
    let in_pod = Environment { in_pod: true, ..nowhere() };
    assert_eq!(find(&ClusterArgs::default(), &in_pod), Source::Pod);
}

#[tokio::test]
async fn a_malformed_kubeconfig_says_where_it_breaks() {
    let (_folder, path) = kubeconfig(1);
    fs::write(&path, "contexts: [").unwrap();
    let error = Cluster::connect(&args(path.clone())).await.unwrap_err();
    assert_eq!(error.to_string(), format!("reading the kubeconfig {path}"));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("failed to parse kubeconfig YAML"));
}

#[tokio::test]
async fn an_unknown_context_lists_the_known_ones() {
    let (_folder, path) = kubeconfig(1);
    let asked = ClusterArgs { context: Some("three".to_owned()), ..args(path.clone()) };
    let error = Cluster::connect(&asked).await.unwrap_err();
    assert_eq!(error.to_string(), format!("reading the kubeconfig {path}: it has no context \"three\""));
    assert_eq!(help(&error), "the contexts are: one, two");

    fs::write(&path, "apiVersion: v1\nkind: Config\n").unwrap();
    let error = Cluster::connect(&args(path.clone())).await.unwrap_err();
    assert_eq!(error.to_string(), format!("reading the kubeconfig {path}: it has no current context"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_its_address() {
    // A port that was free a moment ago, so that nothing listens on it.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let (_folder, path) = kubeconfig(port);
    let cluster = Cluster::connect(&args(path)).await.unwrap();
    assert_eq!(cluster.server(), format!("http://127.0.0.1:{port}"));
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let error = cluster.failed("listing namespaces", namespaces.get("default").await.unwrap_err());
    assert_eq!(error.to_string(), format!("listing namespaces: http://127.0.0.1:{port} cannot be reached"));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("Connection refused"), "{error:?}");
    assert!(help(&error).starts_with("check that the cluster runs"));
}

//! Reads kubeconfigs as kubectl does: merges files, of which the first to set a value wins; accepts addresses without a
//! scheme, files relative to the kubeconfig, and tokens in files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Uri;
use kube::Config;
use kube::config::{AuthInfo, Cluster, Kubeconfig, NamedContext};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

use super::Error;
use super::proxy::{self, Proxy, Variables};

/// The address of an API server, and the user's credentials.
pub(super) struct Access {
    /// The client's configuration.
    pub(super) config: Config,
    /// The file with the user's token, which is not part of `config`.
    pub(super) token_file: Option<PathBuf>,
    /// The proxy, which is also part of `config`.
    pub(super) proxy: Option<Proxy>,
    /// The program that logs in, and how to install it.
    pub(super) plugin: Option<Plugin>,
}

/// A program that logs the user in.
#[derive(Debug, Clone)]
pub(super) struct Plugin {
    /// Its name or path.
    pub(super) command: String,
    /// The installation hint in the kubeconfig.
    pub(super) hint: Option<String>,
}

/// Reads and merges files. Every error contains the name of its file.
pub(super) fn read(files: &[PathBuf]) -> Result<Kubeconfig, Error> {
    let mut merged = Kubeconfig::default();
    for file in files {
        let path = || file.display().to_string();
        let bad = |error: kube::config::KubeconfigError| Error::BadKubeconfig { path: path(), source: error.into() };
        let mut next = Kubeconfig::read_from(file).map_err(bad)?;
        let twice = repeated(next.clusters.iter().map(|one| &one.name))
            .map(|name| ("cluster", name))
            .or_else(|| repeated(next.auth_infos.iter().map(|one| &one.name)).map(|name| ("user", name)))
            .or_else(|| repeated(next.contexts.iter().map(|one| &one.name)).map(|name| ("context", name)));
        if let Some((what, name)) = twice {
            return Err(Error::Repeated { path: path(), what, name });
        }
        // An empty value counts as unset.
        next.current_context = next.current_context.filter(|name| !name.is_empty());
        merged = merged.merge(next).map_err(bad)?;
    }
    Ok(merged)
}

/// Whether a kubeconfig is empty.
pub(super) fn is_empty(kubeconfig: &Kubeconfig) -> bool {
    let Kubeconfig { clusters, auth_infos, contexts, current_context, .. } = kubeconfig;
    clusters.is_empty() && auth_infos.is_empty() && contexts.is_empty() && current_context.is_none()
}

/// Returns the access to the cluster of a context in a kubeconfig that was read from the files `path`: the context
/// `context`, or else the current one.
pub(super) fn access(
    kubeconfig: &Kubeconfig,
    path: &str,
    context: Option<&str>,
    variables: &Variables,
) -> Result<Access, Error> {
    let known = || names(kubeconfig.contexts.iter().map(|context| &context.name));
    let path = || path.to_owned();
    let wanted = context.or(kubeconfig.current_context.as_deref()).filter(|name| !name.is_empty());
    let Some(wanted) = wanted else { return Err(Error::NoContext { path: path(), known: known() }) };
    let is_wanted = |context: &&NamedContext| context.name == wanted;
    let Some(context) = kubeconfig.contexts.iter().find(is_wanted).and_then(|found| found.context.as_ref()) else {
        return Err(Error::NoSuchContext { context: wanted.to_owned(), path: path(), known: known() });
    };
    let lacks = |what: &'static str, name: &str, known: String| {
        let (context, name) = (wanted.to_owned(), name.to_owned());
        Error::Dangling { path: path(), context, what, name, known }
    };
    let cluster =
        kubeconfig.clusters.iter().find(|one| one.name == context.cluster).ok_or_else(|| {
            lacks("cluster", &context.cluster, names(kubeconfig.clusters.iter().map(|one| &one.name)))
        })?;
    let unfit = |what: &'static str, name: &str, source: super::error::Cause| Error::Unfit {
        path: path(),
        what,
        name: name.to_owned(),
        source,
    };
    // A context without a user sends anonymous requests.
    let user_name = context.user.as_deref().filter(|name| !name.is_empty());
    let user = match user_name {
        None => AuthInfo::default(),
        Some(name) => {
            let found = kubeconfig.auth_infos.iter().find(|one| one.name == name);
            let known = || names(kubeconfig.auth_infos.iter().map(|one| &one.name));
            let found = found.ok_or_else(|| lacks("user", name, known()))?;
            tidy(found.auth_info.clone().unwrap_or_default()).map_err(|error| unfit("user", name, error))?
        }
    };
    let body = cluster.cluster.clone().unwrap_or_default();
    of_cluster(&body, user, variables).map_err(|error| unfit("cluster", &cluster.name, error))
}

/// Builds the access from a cluster and a user.
fn of_cluster(cluster: &Cluster, mut user: AuthInfo, variables: &Variables) -> Result<Access, super::error::Cause> {
    let is_insecure = cluster.insecure_skip_tls_verify.unwrap_or(false);
    let authority = authority(cluster)?;
    if is_insecure && authority.is_some() {
        return Err("it has both a certificate-authority and insecure-skip-tls-verify, of which one must go".into());
    }
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let server = cluster.server.as_deref().map(str::trim).unwrap_or_default();
    let url = address(server, authority.is_some() || has_certificate || is_insecure)?;
    let proxy = proxy::choose(cluster.proxy_url.as_deref().map(str::trim), &url, variables)?;

    let plugin = user.exec.as_ref().and_then(|exec| {
        Some(Plugin { command: exec.command.clone()?, hint: exec.install_hint.clone().filter(|hint| !hint.is_empty()) })
    });
    if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        exec.cluster = Some(cluster.try_into()?);
    }
    let token_file = user.token_file.take().map(PathBuf::from);
    let mut config = Config::new(url);
    config.root_cert = authority;
    config.accept_invalid_certs = is_insecure;
    config.tls_server_name = cluster.tls_server_name.clone().filter(|name| !name.is_empty());
    config.proxy_url = proxy.as_ref().map(|proxy| proxy.url.clone());
    config.auth_info = user;
    Ok(Access { config, token_file, proxy, plugin })
}

/// Parses the server's address. Without a scheme, it is HTTPS if any certificate option is set, as in kubectl.
fn address(server: &str, is_secure: bool) -> Result<Uri, super::error::Cause> {
    if server.is_empty() {
        return Err("it has no server".into());
    }
    let (text, is_bare) = match server.contains("://") {
        true => (server.to_owned(), false),
        false => (format!("{}://{server}", if is_secure { "https" } else { "http" }), true),
    };
    let url: Uri = text.parse().map_err(|error| format!("its server {server:?} is not an address: {error}"))?;
    match url.scheme_str() {
        Some("http" | "https") if url.host().is_some_and(|host| !host.is_empty()) => {}
        _ => return Err(format!("its server {server:?} is not an address of the form https://HOST:PORT").into()),
    }
    if is_bare && !matches!(url.path(), "" | "/") {
        return Err(format!("its server {server:?} must be a URL, or HOST:PORT").into());
    }
    Ok(url)
}

/// Returns the certificate authorities for the server's certificate, or `None` if the system's apply.
fn authority(cluster: &Cluster) -> Result<Option<Vec<Vec<u8>>>, super::error::Cause> {
    let said = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let pem = match (said(&cluster.certificate_authority_data), said(&cluster.certificate_authority)) {
        (Some(data), _) => BASE64
            .decode(unfolded(&data))
            .map_err(|error| format!("its certificate-authority-data is not Base64: {error}"))?,
        (None, Some(path)) => {
            std::fs::read(&path).map_err(|error| format!("reading its certificate-authority {path}: {error}"))?
        }
        (None, None) => return Ok(None),
    };
    let certificates = CertificateDer::pem_slice_iter(&pem).map(|found| found.map(|found| found.to_vec()));
    let certificates: Vec<Vec<u8>> =
        certificates.collect::<Result<_, _>>().map_err(|error| format!("its certificate-authority: {error}"))?;
    if certificates.is_empty() {
        Err("its certificate-authority has no certificate".into())
    } else {
        Ok(Some(certificates))
    }
}

/// Normalizes a user as kubectl does: empty values count as unset, Base64 may span several lines, and a token ends
/// before its newline.
fn tidy(user: AuthInfo) -> Result<AuthInfo, super::error::Cause> {
    let mut fields = serde_json::to_value(user)?;
    if let Some(fields) = fields.as_object_mut() {
        fields.retain(|_, value| !matches!(value, Value::String(text) if text.trim().is_empty()));
        for (name, value) in fields.iter_mut() {
            let Value::String(text) = value else { continue };
            if name.ends_with("-data") {
                *text = unfolded(text);
            } else if name == "token" {
                *text = text.trim().to_owned();
            }
        }
    }
    Ok(serde_json::from_value(fields)?)
}

fn unfolded(base64: &str) -> String {
    base64.split_ascii_whitespace().collect()
}

fn repeated<'a>(names: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name)).cloned()
}

fn names<'a>(known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
}

//! The lab's certificate authority, its certificates, and the kubeconfig files that contain them.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8Path;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::error::{Error, file};
use crate::plan::{API_SERVICE_ADDRESS, Plan};

/// A certificate and its key, in PEM format.
struct Issued {
    certificate: String,
    key: String,
}

/// Writes every node's certificates and kubeconfig files to its `/etc/kubernetes`, and the operator's `kubeconfig` to
/// the lab's folder.
pub(crate) fn write(plan: &Plan) -> Result<(), Error> {
    let authority = authority()?;
    let admin = issue(&authority, "admin", Some("system:masters"), &[], &[])?;
    let control_plane = plan.control_plane();
    for node in &plan.nodes {
        let put = |path: &str, content: &str| write_private(&node.etc(&format!("kubernetes/{path}")), content);
        let address = IpAddr::from(node.address);
        let name = format!("system:node:{}", node.name);
        let kubelet = issue(&authority, &name, Some("system:nodes"), &[&node.name], &[address])?;
        put("pki/ca.crt", &authority.pem())?;
        put("pki/kubelet.crt", &kubelet.certificate)?;
        put("pki/kubelet.key", &kubelet.key)?;
        put("kubelet.conf", &kubeconfig(plan, &authority.pem(), &name, &kubelet))?;
        let proxy = issue(&authority, "system:kube-proxy", None, &[], &[])?;
        put("kube-proxy.conf", &kubeconfig(plan, &authority.pem(), "kube-proxy", &proxy))?;
    }

    let put = |path: &str, content: &str| write_private(&control_plane.etc(&format!("kubernetes/{path}")), content);
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", &control_plane.name];
    let addresses = [control_plane.address.into(), API_SERVICE_ADDRESS.into(), IpAddr::from([127, 0, 0, 1])];
    let api = issue(&authority, "kube-apiserver", None, &names, &addresses)?;
    put("pki/ca.key", &authority.key().serialize_pem())?;
    put("pki/apiserver.crt", &api.certificate)?;
    put("pki/apiserver.key", &api.key)?;
    put("pki/admin.crt", &admin.certificate)?;
    put("pki/admin.key", &admin.key)?;
    let accounts = key_pair("service accounts")?;
    put("pki/sa.key", &accounts.serialize_pem())?;
    put("pki/sa.pub", &accounts.public_key_pem())?;
    for (user, organisation) in [("system:kube-controller-manager", None), ("system:kube-scheduler", None)] {
        let issued = issue(&authority, user, organisation, &[], &[])?;
        let name = user.trim_start_matches("system:");
        put(&format!("{name}.conf"), &kubeconfig(plan, &authority.pem(), name, &issued))?;
    }
    let config = kubeconfig(plan, &authority.pem(), "admin", &admin);
    put("admin.conf", &config)?;
    write_private(&plan.dir.join("kubeconfig"), &config)
}

/// Writes a file that only its owner can read, and creates the folders above it.
pub(crate) fn write_private(path: &Utf8Path, content: &str) -> Result<(), Error> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut out = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        out.set_permissions(fs::Permissions::from_mode(0o600))?;
        std::io::Write::write_all(&mut out, content.as_bytes())
    };
    write().map_err(file("writing", path))
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, Error> {
    let mut params = params("lab-ca", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, key_pair("lab-ca")?).map_err(failed("lab-ca"))
}

fn issue(
    authority: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    organisation: Option<&str>,
    dns_names: &[&str],
    addresses: &[IpAddr],
) -> Result<Issued, Error> {
    let mut params = params(name, organisation);
    for dns_name in dns_names {
        params.subject_alt_names.push(SanType::DnsName((*dns_name).try_into().map_err(failed(name))?));
    }
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = key_pair(name)?;
    let certificate = params.signed_by(&key, authority).map_err(failed(name))?;
    Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(name: &str, organisation: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(organisation) = organisation {
        subject.push(DnType::OrganizationName, organisation);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params
}

fn key_pair(subject: &str) -> Result<KeyPair, Error> {
    KeyPair::generate().map_err(failed(subject))
}

fn failed(subject: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let subject = subject.to_owned();
    move |source| Error::Certificate { subject, source }
}

/// Returns a kubeconfig with embedded data. JSON is valid YAML, so every parser of kubeconfig files accepts it.
fn kubeconfig(plan: &Plan, authority: &str, user: &str, issued: &Issued) -> String {
    let data = |pem: &str| STANDARD.encode(pem);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": plan.name, "cluster": {
            "server": plan.api_url(), "certificate-authority-data": data(authority)}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": data(&issued.certificate), "client-key-data": data(&issued.key)}}],
        "contexts": [{"name": plan.name, "context": {"cluster": plan.name, "user": user}}],
        "current-context": plan.name,
    });
    format!("{config:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    #[test]
    fn the_operators_kubeconfig_is_private_and_names_the_api_server() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(folder.path()).unwrap().to_owned();
        let plan = Plan::new(&Options { dir: Some(dir.clone()), ..Options::default() }, 5);
        write(&plan).unwrap();
        let path = dir.join("kubeconfig");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let config: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://198.18.5.1:6443");
        let pem = STANDARD.decode(config["users"][0]["user"]["client-certificate-data"].as_str().unwrap()).unwrap();
        assert!(pem.starts_with(b"-----BEGIN CERTIFICATE-----"));
        assert!(plan.nodes[1].etc("kubernetes/pki/kubelet.key").exists());
        assert!(
            !plan.nodes[1].etc("kubernetes/pki/ca.key").exists(),
            "the authority's key stays with the control plane"
        );
    }
}

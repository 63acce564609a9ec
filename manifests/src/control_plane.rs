//! A ClusterVersion for present versions of Kubernetes: from it, vc-manager creates the control plane of each tenant. The
//! names of its objects, Secrets and paths are those that vc-manager requires.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, ExecAction, HTTPGetAction,
    ObjectFieldSelector, PersistentVolumeClaim, PersistentVolumeClaimSpec, PodDNSConfig, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, SeccompProfile, SecretVolumeSource, SecurityContext, Service, ServicePort, ServiceSpec,
    Volume, VolumeMount, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::api::{Bundle, ClusterVersion, ClusterVersionSpec};

/// What a ClusterVersion is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// The name of the ClusterVersion.
    pub name: String,
    /// The image of etcd, with `/usr/local/bin/etcdctl`.
    pub etcd: String,
    /// The image of the API server.
    pub api_server: String,
    /// The image of the controller manager.
    pub controller_manager: String,
    /// The type of the Service of the API server: `NodePort`, `LoadBalancer` or `ClusterIP`.
    pub service_type: String,
    /// The range of the addresses of a tenant's Services.
    pub service_range: String,
    /// The range of the addresses of pods, which the controller manager is told.
    pub pod_range: String,
    /// The size of etcd's volume; without it, etcd's data last as long as its pod.
    pub storage: Option<Storage>,
}

/// A volume for etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The size, as `10Gi`.
    pub size: String,
    /// The storage class; the cluster's default one if `None`.
    pub class: Option<String>,
}

const ETCD: &str = "etcd";
const API_SERVER: &str = "apiserver";
const API_SERVER_SERVICE: &str = "apiserver-svc";
const CONTROLLER_MANAGER: &str = "controller-manager";
const PKI: &str = "/etc/kubernetes/pki";
const KUBECONFIG: &str = "/etc/kubernetes/kubeconfig/controller-manager-kubeconfig";
const DATA: &str = "/var/lib/etcd";

/// Returns the ClusterVersion.
#[must_use]
pub fn cluster_version(parameters: &ControlPlane) -> ClusterVersion {
    let spec = ClusterVersionSpec {
        etcd: Some(etcd(parameters)),
        api_server: Some(api_server(parameters)),
        controller_manager: Some(controller_manager(parameters)),
    };
    let mut object = ClusterVersion::new(&parameters.name, spec);
    object.metadata.labels = Some(crate::workloads::labels(None));
    object
}

fn etcd(parameters: &ControlPlane) -> Bundle {
    let health = || {
        let command = [
            "/usr/local/bin/etcdctl".to_owned(),
            "--endpoints=https://etcd:2379".to_owned(),
            format!("--cacert={PKI}/root/tls.crt"),
            format!("--cert={PKI}/etcd/tls.crt"),
            format!("--key={PKI}/etcd/tls.key"),
            "endpoint".to_owned(),
            "health".to_owned(),
        ];
        Probe { exec: Some(ExecAction { command: Some(command.to_vec()) }), ..Probe::default() }
    };
    let mut args = vec!["--name=$(HOSTNAME)".to_owned()];
    for (peer, client) in [("", "client-cert-auth"), ("peer-", "client-cert-auth")] {
        args.push(format!("--{peer}trusted-ca-file={PKI}/root/tls.crt"));
        args.push(format!("--{peer}{client}"));
        args.push(format!("--{peer}cert-file={PKI}/etcd/tls.crt"));
        args.push(format!("--{peer}key-file={PKI}/etcd/tls.key"));
    }
    // vc-manager adds --initial-cluster.
    args.extend(
        [
            "--listen-peer-urls=https://0.0.0.0:2380",
            "--listen-client-urls=https://0.0.0.0:2379",
            "--initial-advertise-peer-urls=https://$(HOSTNAME).etcd:2380",
            "--advertise-client-urls=https://$(HOSTNAME).etcd:2379",
            "--initial-cluster-state=new",
            "--initial-cluster-token=vc-etcd",
        ]
        .map(str::to_owned),
    );
    args.push(format!("--data-dir={DATA}/data"));
    let mut container = container(ETCD, &parameters.etcd, ETCD, args);
    container.env = Some(vec![EnvVar {
        name: "HOSTNAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: "metadata.name".to_owned(), api_version: None }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }]);
    container.liveness_probe = Some(Probe { initial_delay_seconds: Some(60), ..patient(health()) });
    container.readiness_probe =
        Some(Probe { initial_delay_seconds: Some(5), period_seconds: Some(2), ..patient(health()) });
    let (mut mounts, mut volumes) = secrets(&[("etcd", "etcd-ca"), ("root", "root-ca")]);
    mounts.push(VolumeMount { name: "data".to_owned(), mount_path: DATA.to_owned(), ..VolumeMount::default() });
    let claims = parameters.storage.as_ref().map(|storage| vec![claim(storage)]);
    if claims.is_none() {
        let empty = Some(EmptyDirVolumeSource::default());
        volumes.push(Volume { name: "data".to_owned(), empty_dir: empty, ..Volume::default() });
    }
    container.volume_mounts = Some(mounts);
    let pod = PodSpec { subdomain: Some(ETCD.to_owned()), ..pod(container, volumes) };
    let mut set = stateful_set(ETCD, ETCD, pod);
    if let Some(spec) = &mut set.spec {
        spec.volume_claim_templates = claims;
    }
    let service = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        ..service_of(ETCD)
    };
    bundle(ETCD, set, Some(service_named(ETCD, service)))
}

fn api_server(parameters: &ControlPlane) -> Bundle {
    let pki = |flag: &str, file: &str| format!("--{flag}={PKI}/{file}");
    let fixed = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();
    let mut args = fixed(&["--bind-address=0.0.0.0", "--allow-privileged=true", "--anonymous-auth=true"]);
    args.extend([
        pki("client-ca-file", "root/tls.crt"),
        pki("tls-cert-file", "apiserver/tls.crt"),
        pki("tls-private-key-file", "apiserver/tls.key"),
        // With this certificate, the API server is a client of vn-agent.
        pki("kubelet-client-certificate", "apiserver/tls.crt"),
        pki("kubelet-client-key", "apiserver/tls.key"),
        "--etcd-servers=https://etcd-0.etcd:2379".to_owned(),
        pki("etcd-cafile", "root/tls.crt"),
        pki("etcd-certfile", "apiserver/tls.crt"),
        pki("etcd-keyfile", "apiserver/tls.key"),
        "--service-account-issuer=api".to_owned(),
        pki("service-account-signing-key-file", "service-account/tls.key"),
        pki("service-account-key-file", "service-account/tls.key"),
        format!("--service-cluster-ip-range={}", parameters.service_range),
    ]);
    args.extend(fixed(&[
        "--enable-bootstrap-token-auth=true",
        "--authorization-mode=Node,RBAC",
        "--runtime-config=api/all=true",
        "--enable-admission-plugins=NamespaceLifecycle,NodeRestriction,LimitRanger,ServiceAccount,DefaultStorageClass,ResourceQuota",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    ]));
    args.extend([
        pki("requestheader-client-ca-file", "root/tls.crt"),
        pki("proxy-client-key-file", "frontproxy/tls.key"),
        pki("proxy-client-cert-file", "frontproxy/tls.crt"),
    ]);
    let mut container = container(API_SERVER, &parameters.api_server, "kube-apiserver", args);
    container.ports =
        Some(vec![ContainerPort { name: Some("api".to_owned()), container_port: 6443, ..ContainerPort::default() }]);
    container.liveness_probe = Some(Probe { initial_delay_seconds: Some(30), ..patient(https(6443, "/livez")) });
    container.readiness_probe =
        Some(Probe { initial_delay_seconds: Some(5), period_seconds: Some(2), ..patient(https(6443, "/readyz")) });
    let (mounts, volumes) = secrets(&[
        ("apiserver", "apiserver-ca"),
        ("frontproxy", "front-proxy-ca"),
        ("root", "root-ca"),
        ("service-account", "serviceaccount-rsa"),
    ]);
    container.volume_mounts = Some(mounts);
    let pod = PodSpec {
        hostname: Some(API_SERVER.to_owned()),
        subdomain: Some(API_SERVER_SERVICE.to_owned()),
        dns_config: Some(PodDNSConfig { searches: Some(vec!["cluster.local".to_owned()]), ..PodDNSConfig::default() }),
        ..pod(container, volumes)
    };
    let service = ServiceSpec {
        type_: Some(parameters.service_type.clone()),
        ports: Some(vec![ServicePort {
            port: 6443,
            protocol: Some("TCP".to_owned()),
            target_port: Some(IntOrString::String("api".to_owned())),
            ..ServicePort::default()
        }]),
        ..service_of(API_SERVER)
    };
    let set = stateful_set(API_SERVER, API_SERVER_SERVICE, pod);
    bundle(API_SERVER, set, Some(service_named(API_SERVER_SERVICE, service)))
}

fn controller_manager(parameters: &ControlPlane) -> Bundle {
    let mut args = ["kubeconfig", "authorization-kubeconfig", "authentication-kubeconfig"]
        .map(|flag| format!("--{flag}={KUBECONFIG}"))
        .to_vec();
    args.extend([
        "--bind-address=0.0.0.0".to_owned(),
        format!("--cluster-cidr={}", parameters.pod_range),
        format!("--service-cluster-ip-range={}", parameters.service_range),
        format!("--cluster-signing-cert-file={PKI}/root/tls.crt"),
        format!("--cluster-signing-key-file={PKI}/root/tls.key"),
        "--cluster-signing-duration=87600h".to_owned(),
        format!("--root-ca-file={PKI}/root/tls.crt"),
        format!("--service-account-private-key-file={PKI}/service-account/tls.key"),
        "--use-service-account-credentials=true".to_owned(),
        // A tenant has one controller manager, and its nodes are reported by vc-syncer.
        "--leader-elect=false".to_owned(),
        "--controllers=*,-nodelifecycle".to_owned(),
    ]);
    let mut container = container(CONTROLLER_MANAGER, &parameters.controller_manager, "kube-controller-manager", args);
    container.liveness_probe = Some(Probe { initial_delay_seconds: Some(15), ..patient(https(10257, "/healthz")) });
    container.readiness_probe =
        Some(Probe { initial_delay_seconds: Some(5), period_seconds: Some(2), ..patient(https(10257, "/healthz")) });
    let (mut mounts, mut volumes) = secrets(&[("root", "root-ca"), ("service-account", "serviceaccount-rsa")]);
    mounts.push(VolumeMount {
        name: "kubeconfig".to_owned(),
        mount_path: "/etc/kubernetes/kubeconfig".to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    volumes.push(secret("kubeconfig", "controller-manager-kubeconfig"));
    container.volume_mounts = Some(mounts);
    let set = stateful_set(CONTROLLER_MANAGER, "controller-manager-svc", pod(container, volumes));
    bundle(CONTROLLER_MANAGER, set, None)
}

/// A container as strict as the components allow. The binary of the official image of the API server has the file
/// capability `NET_BIND_SERVICE`: it does not start where that is dropped.
fn container(name: &str, image: &str, program: &str, args: Vec<String>) -> Container {
    let add = (name == API_SERVER).then(|| vec!["NET_BIND_SERVICE".to_owned()]);
    Container {
        name: name.to_owned(),
        image: Some(image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec![program.to_owned()]),
        args: Some(args),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn pod(container: Container, volumes: Vec<Volume>) -> PodSpec {
    PodSpec {
        containers: vec![container],
        volumes: Some(volumes),
        // The pods of a control plane need no account of the super cluster.
        automount_service_account_token: Some(false),
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// The mounts of Secrets below the folder of certificates, and their volumes.
fn secrets(names: &[(&str, &str)]) -> (Vec<VolumeMount>, Vec<Volume>) {
    let mount = |(folder, name): &(&str, &str)| VolumeMount {
        name: (*name).to_owned(),
        mount_path: format!("{PKI}/{folder}"),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    (names.iter().map(mount).collect(), names.iter().map(|(_, name)| secret(name, name)).collect())
}

fn secret(volume: &str, name: &str) -> Volume {
    Volume {
        name: volume.to_owned(),
        secret: Some(SecretVolumeSource { secret_name: Some(name.to_owned()), ..SecretVolumeSource::default() }),
        ..Volume::default()
    }
}

fn claim(storage: &Storage) -> PersistentVolumeClaim {
    let requests = BTreeMap::from([("storage".to_owned(), Quantity(storage.size.clone()))]);
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some("data".to_owned()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.class.clone(),
            resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn https(port: i32, path: &str) -> Probe {
    let get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::Int(port),
        scheme: Some("HTTPS".to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(get), ..Probe::default() }
}

fn patient(probe: Probe) -> Probe {
    Probe { failure_threshold: Some(8), timeout_seconds: Some(15), ..probe }
}

fn labels(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("component-name".to_owned(), name.to_owned())])
}

fn stateful_set(name: &str, service: &str, pod: PodSpec) -> StatefulSet {
    StatefulSet {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(service.to_owned()),
            selector: LabelSelector { match_labels: Some(labels(name)), match_expressions: None },
            // A changed ClusterVersion reaches a pod when that is deleted.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels(name)), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn service_of(name: &str) -> ServiceSpec {
    ServiceSpec { type_: Some("ClusterIP".to_owned()), selector: Some(labels(name)), ..ServiceSpec::default() }
}

fn service_named(name: &str, spec: ServiceSpec) -> Service {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Service { metadata, spec: Some(spec), status: None }
}

fn bundle(name: &str, statefulset: StatefulSet, service: Option<Service>) -> Bundle {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    Bundle { metadata, statefulset: Some(statefulset), service }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> ControlPlane {
        ControlPlane {
            name: "cv".to_owned(),
            etcd: "registry.k8s.io/etcd:3.6.4-0".to_owned(),
            api_server: "registry.k8s.io/kube-apiserver:v1.34.4".to_owned(),
            controller_manager: "registry.k8s.io/kube-controller-manager:v1.34.4".to_owned(),
            service_type: "NodePort".to_owned(),
            service_range: "10.32.0.0/16".to_owned(),
            pod_range: "10.200.0.0/16".to_owned(),
            storage: None,
        }
    }

    #[test]
    fn a_cluster_version_reads_as_people_expect() {
        insta::assert_snapshot!(crate::to_yaml(&cluster_version(&parameters())).unwrap());
    }

    #[test]
    fn storage_is_a_claim_instead_of_an_empty_folder() {
        let set = |storage: Option<Storage>| {
            let object = cluster_version(&ControlPlane { storage, ..parameters() });
            object.spec.etcd.unwrap().statefulset.unwrap().spec.unwrap()
        };
        let has_folder = |spec: &StatefulSetSpec| {
            let volumes = spec.template.spec.as_ref().unwrap().volumes.as_ref().unwrap();
            volumes.iter().any(|volume| volume.name == "data" && volume.empty_dir.is_some())
        };
        let without = set(None);
        assert!(has_folder(&without) && without.volume_claim_templates.is_none());
        let with = set(Some(Storage { size: "10Gi".to_owned(), class: Some("fast".to_owned()) }));
        assert!(!has_folder(&with));
        let claim = with.volume_claim_templates.unwrap()[0].spec.clone().unwrap();
        assert_eq!(claim.storage_class_name.as_deref(), Some("fast"));
        assert_eq!(claim.resources.unwrap().requests.unwrap()["storage"].0, "10Gi");
    }
}

//! What a chart says to people: README, notes after an installation, and the comments of its values.

/// What the values of a workload mean.
const COMMON: &str = "\
#   image             registry, repository, tag and digest; with a digest, the tag does not count
#   args              further arguments, after those of the template
#   resources         requests and limits
#   nodeSelector      labels that nodes must have, beside what the template requires
#   tolerations       taints of nodes that pods tolerate
";

/// Whose chart it is.
#[derive(Debug)]
pub(super) enum Page<'a> {
    /// VirtualCluster's.
    Installation {
        /// The namespace that it was rendered for.
        namespace: &'a str,
    },
    /// That of others' manifests.
    Release {
        /// Its only namespace.
        namespace: &'a str,
    },
}

impl Page<'_> {
    pub(super) fn description(&self, name: &str) -> String {
        match self {
            Self::Installation { .. } => "The manager, the syncer and vn-agent of VirtualCluster".to_owned(),
            Self::Release { .. } => format!("The objects of {name}, rendered by vcdist"),
        }
    }

    /// `values.yaml`: what each value means, and all of them.
    pub(super) fn values(&self, yaml: &str) -> String {
        let images = "\
# imageRegistry       replaces the registry of every image, such as registry.example.com
# imagePullSecrets    for the pods of all workloads: [{name: NAME}]
";
        let rest = match self {
            Self::Installation { .. } => format!(
                "# imagePullPolicy     Always, IfNotPresent or Never\n\
                 # networkPolicy       whether NetworkPolicies close the ports that only nodes need\n\
                 # serviceMonitor      whether a ServiceMonitor of the Prometheus operator collects the metrics\n\
                 # manager, syncer, vnAgent:\n{COMMON}\
                 #   replicas          of the syncer alone: one leads; with two or more there is a PodDisruptionBudget\n"
            ),
            Self::Release { .. } => format!(
                "# workloads, by name; what is of a container is under the container's name:\n{COMMON}\
                 #   replicas          where the manifests have a number\n"
            ),
        };
        format!("{images}{rest}{yaml}")
    }

    /// What Helm prints after an installation.
    pub(super) fn notes(&self) -> String {
        match self {
            Self::Installation { .. } => "\
The pods run on nodes that have the images, or can pull them: `vcdist push` copies them to the nodes.
Check the installation with `vcdist verify --namespace {{ .Release.Namespace }}`.
"
            .to_owned(),
            Self::Release { .. } => {
                "{{ .Release.Name }} is in the namespace {{ .Release.Namespace }}: `helm status {{ .Release.Name }} --namespace \
                 {{ .Release.Namespace }} --show-resources`\n"
                    .to_owned()
            }
        }
    }

    pub(super) fn readme(&self, name: &str, notes: &[String]) -> String {
        let (Self::Installation { namespace } | Self::Release { namespace }) = self;
        let label = match self {
            Self::Installation { .. } => format!(
                "kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged   # vn-agent uses its node's network\n"
            ),
            Self::Release { .. } => String::new(),
        };
        let own = match self {
            Self::Installation { .. } => "\
- A cluster has one installation, in a namespace of your choice.
- The Secret `empty-kubelet-client` keeps what somebody fills in.
"
            .to_owned(),
            Self::Release { .. } => format!(
                "- The objects name the namespace {namespace}, so Helm refuses another one.\n\
                 - Secrets whose values are all empty keep what somebody fills in.\n"
            ),
        };
        let notes: String = notes.iter().map(|note| format!("- Note: {note}.\n")).collect();
        format!(
            "# {name}

Made by `vcdist render --helm`. Change values, not files: vcdist replaces an unchanged chart and refuses a changed one.

```sh
kubectl create namespace {namespace}
{label}helm install {name} . --namespace {namespace} --wait
helm upgrade {name} . --namespace {namespace} --wait --reset-then-reuse-values --set KEY=VALUE
helm uninstall {name} --namespace {namespace}
```

- `values.yaml` has all values. `values.schema.json` makes Helm refuse others.
- Images are named by digest, so nodes run what was rendered. `version` and `appVersion` follow the content and the images.
- Namespaces, definitions, PersistentVolumes and PersistentVolumeClaims stay after `helm uninstall`: their removal would delete other
  objects or data.
{own}{notes}"
        )
    }
}

/// The template that joins the parts of an image's name.
pub(super) fn helpers(name: &str) -> String {
    format!(
        "{{{{- define \"{name}.image\" -}}}}
{{{{- $registry := .root.Values.imageRegistry | default .image.registry -}}}}
{{{{- with $registry }}}}{{{{ . }}}}/{{{{ end -}}}}
{{{{ .image.repository }}}}
{{{{- with .image.tag }}}}:{{{{ . }}}}{{{{ end }}}}
{{{{- with .image.digest }}}}@{{{{ . }}}}{{{{ end }}}}
{{{{- end }}}}
"
    )
}

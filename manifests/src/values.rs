//! The values of an installation, as people write them: YAML files and single settings over the defaults. The chart for Helm
//! has the same names.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Budget, Budgets, Component, Error, EtcdScheme, LocalVolume, Parameters, PullPolicy, VnAgentFolders};

/// Every value, with its default where nothing else is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Values {
    image_pull_policy: PullPolicy,
    etcd_scheme: Option<EtcdScheme>,
    manager: ManagerValues,
    syncer: SyncerValues,
    vn_agent: VnAgentValues,
    persistent_volumes: Vec<VolumeValues>,
    network_policy: Switch,
    service_monitor: Switch,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ManagerValues {
    command: Vec<String>,
    args: Vec<String>,
    replicas: u16,
    resources: ResourceValues,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SyncerValues {
    command: Vec<String>,
    args: Vec<String>,
    feature_gates: BTreeMap<String, bool>,
    replicas: u16,
    resources: ResourceValues,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VnAgentValues {
    command: Vec<String>,
    args: Vec<String>,
    cert_dir: String,
    pki_dir: String,
    metrics_port: u16,
    resources: ResourceValues,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResourceValues {
    requests: BTreeMap<String, Amount>,
    limits: BTreeMap<String, Amount>,
}

/// A quantity, which YAML may read as a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Amount {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct VolumeValues {
    name: String,
    capacity: String,
    path: String,
    node: String,
    #[serde(default)]
    storage_class: Option<String>,
    #[serde(default)]
    access_modes: Option<Vec<String>>,
    #[serde(default)]
    reclaim_policy: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    enabled: bool,
}

impl Default for Values {
    fn default() -> Self {
        let (budgets, folders) = (Budgets::default(), VnAgentFolders::default());
        let command = |component: Component| vec![component.name().to_owned()];
        Self {
            image_pull_policy: PullPolicy::default(),
            etcd_scheme: None,
            manager: ManagerValues {
                command: command(Component::Manager),
                args: Vec::new(),
                replicas: 1,
                resources: ResourceValues::of(&budgets.manager),
            },
            syncer: SyncerValues {
                command: command(Component::Syncer),
                args: Vec::new(),
                feature_gates: BTreeMap::new(),
                replicas: 1,
                resources: ResourceValues::of(&budgets.syncer),
            },
            vn_agent: VnAgentValues {
                command: command(Component::VnAgent),
                args: Vec::new(),
                cert_dir: folders.certificates,
                pki_dir: folders.pki,
                metrics_port: Parameters::METRICS_PORT,
                resources: ResourceValues::of(&budgets.vn_agent),
            },
            persistent_volumes: Vec::new(),
            network_policy: Switch { enabled: false },
            service_monitor: Switch { enabled: false },
        }
    }
}

impl Values {
    /// These values with a YAML document over them: mappings are merged, lists replaced, and `null` takes away.
    ///
    /// # Errors
    /// Returns an error if the document is not YAML, or has an unknown value or one of another type. `origin` says whose it is.
    pub fn with_yaml(&self, text: &str, origin: &str) -> Result<Self, Error> {
        let failed = |why: String| Error::Values { origin: origin.to_owned(), why };
        let over: Option<Value> = serde_saphyr::from_str(text).map_err(|error| failed(error.to_string()))?;
        self.with(over.unwrap_or_else(|| Value::Object(Map::new()))).map_err(failed)
    }

    /// These values with one changed: `syncer.replicas=2`. What follows `=` is YAML.
    ///
    /// # Errors
    /// As [`Self::with_yaml()`].
    pub fn with_setting(&self, setting: &str) -> Result<Self, Error> {
        let failed = |why: String| Error::Values { origin: format!("{setting:?}"), why };
        let (path, text) = setting.split_once('=').ok_or_else(|| failed("write KEY=VALUE".to_owned()))?;
        let value: Option<Value> = serde_saphyr::from_str(text).map_err(|error| failed(error.to_string()))?;
        let nest = |inner: Value, key: &str| Value::Object(Map::from_iter([(key.to_owned(), inner)]));
        let over = path.split('.').rev().fold(value.unwrap_or_default(), nest);
        self.with(over).map_err(failed)
    }

    fn with(&self, over: Value) -> Result<Self, String> {
        let mut all = serde_json::to_value(self).map_err(|error| error.to_string())?;
        if !over.is_object() {
            return Err("it is not a mapping".to_owned());
        }
        merge(&mut all, over);
        serde_json::from_value(all).map_err(|error| error.to_string())
    }

    /// Writes the values into parameters.
    ///
    /// # Errors
    /// Returns an error for values that no pods run with.
    pub fn apply(&self, parameters: &mut Parameters) -> Result<(), Error> {
        if self.manager.replicas != 1 {
            return Err(Error::Replicas { replicas: self.manager.replicas });
        }
        parameters.pull_policy = self.image_pull_policy;
        parameters.etcd_scheme = self.etcd_scheme;
        parameters.budgets.manager = self.manager.resources.budget();
        parameters.budgets.syncer = self.syncer.resources.budget();
        parameters.budgets.vn_agent = self.vn_agent.resources.budget();
        parameters.feature_gates.clone_from(&self.syncer.feature_gates);
        parameters.syncer_replicas = self.syncer.replicas;
        parameters.vn_agent_folders.certificates.clone_from(&self.vn_agent.cert_dir);
        parameters.vn_agent_folders.pki.clone_from(&self.vn_agent.pki_dir);
        parameters.vn_agent_metrics_port = self.vn_agent.metrics_port;
        parameters.volumes = self.persistent_volumes.iter().map(VolumeValues::volume).collect();
        parameters.network_policies = self.network_policy.enabled;
        parameters.service_monitors = self.service_monitor.enabled;
        for (component, command, args) in [
            (Component::Manager, &self.manager.command, &self.manager.args),
            (Component::Syncer, &self.syncer.command, &self.syncer.args),
            (Component::VnAgent, &self.vn_agent.command, &self.vn_agent.args),
        ] {
            parameters.set_args(component, args)?;
            parameters.command_lines.0.entry(component).or_default().command = Some(command.clone());
        }
        parameters.check()
    }
}

impl ResourceValues {
    fn of(budget: &Budget) -> Self {
        let texts = |all: &BTreeMap<String, Quantity>| {
            all.iter().map(|(name, quantity)| (name.clone(), Amount::Text(quantity.0.clone()))).collect()
        };
        Self { requests: texts(&budget.requests), limits: texts(&budget.limits) }
    }

    fn budget(&self) -> Budget {
        let quantities = |all: &BTreeMap<String, Amount>| {
            let text = |amount: &Amount| match amount {
                Amount::Text(text) => text.clone(),
                Amount::Number(number) => number.to_string(),
            };
            all.iter().map(|(name, amount)| (name.clone(), Quantity(text(amount)))).collect()
        };
        Budget { requests: quantities(&self.requests), limits: quantities(&self.limits) }
    }
}

impl VolumeValues {
    fn volume(&self) -> LocalVolume {
        let usual = LocalVolume::new(&self.name, &self.capacity, &self.path, &self.node);
        LocalVolume {
            storage_class: self.storage_class.clone().unwrap_or(usual.storage_class),
            access_modes: self.access_modes.clone().unwrap_or(usual.access_modes),
            reclaim_policy: self.reclaim_policy.clone().unwrap_or(usual.reclaim_policy),
            labels: self.labels.clone().unwrap_or(usual.labels),
            ..LocalVolume::new(&self.name, &self.capacity, &self.path, &self.node)
        }
    }
}

/// Puts one document over another: mappings are merged, everything else is replaced. What `null` stands for goes, where a
/// default could stay; at a value that may be absent, it is that.
fn merge(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                match under.get_mut(&key) {
                    Some(Value::String(_) | Value::Number(_)) if value.is_null() => {
                        under.remove(&key);
                    }
                    Some(Value::Object(all)) if value.is_null() => all.clear(),
                    Some(known) => merge(known, value),
                    None => {
                        under.insert(key, value);
                    }
                }
            }
        }
        (under, over) => *under = over,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::Values;
    use crate::tests::parameters;
    use crate::{Component, Error, Parameters};

    fn applied(values: &Values) -> Parameters {
        let mut all = parameters();
        values.apply(&mut all).unwrap();
        all
    }

    #[test]
    fn the_defaults_are_those_of_the_parameters() {
        assert_eq!(crate::objects(&applied(&Values::default())), crate::objects(&parameters()));
    }

    #[test]
    fn the_reference_page_shows_the_defaults() {
        let page = include_str!("../../docs/reference/values.md");
        let yaml = crate::to_yaml(&Values::default()).unwrap();
        assert!(page.contains(&format!("```yaml\n{yaml}```")), "docs/reference/values.md should show:\n{yaml}");
    }

    #[test]
    fn documents_and_settings_are_put_over_the_defaults() {
        let text = "syncer: { replicas: 2, featureGates: { A: true }, resources: { limits: { cpu: 2, memory: null } } }\n\
             persistentVolumes: [{ name: p, capacity: 1Gi, path: /mnt/p, node: w1, reclaimPolicy: Retain }]\n";
        let values = Values::default().with_yaml(text, "values.yaml").unwrap();
        let values = values.with_setting("vnAgent.args=[--metrics-addr=:9200, --v=4]").unwrap();
        let all = applied(&values.with_setting("manager.resources=null").unwrap_or(values));
        let limits = &all.budgets.syncer.limits;
        assert_eq!((limits.get("cpu"), limits.get("memory")), (Some(&Quantity("2".to_owned())), None));
        assert_eq!(all.budgets.syncer.requests["memory"].0, "256Mi", "what is not named stays");
        assert_eq!((all.syncer_replicas, all.vn_agent_metrics_port), (2, 9200));
        assert_eq!(all.command_lines.0[&Component::VnAgent].args, ["--v=4"]);
        assert_eq!(
            (all.volumes[0].reclaim_policy.as_str(), all.volumes[0].storage_class.as_str()),
            ("Retain", "local-storage")
        );
    }

    #[test]
    fn what_is_unknown_or_cannot_run_is_refused_with_its_origin() {
        let error = |result: Result<Values, Error>| result.unwrap_err().to_string();
        let unknown = error(Values::default().with_yaml("syncer: { replica: 2 }", "v.yaml"));
        assert!(unknown.contains("v.yaml") && unknown.contains("replica"), "{unknown}");
        assert!(error(Values::default().with_yaml("[1]", "v.yaml")).contains("not a mapping"));
        assert!(error(Values::default().with_setting("syncer.replicas")).contains("KEY=VALUE"));
        assert!(error(Values::default().with_setting("syncer.replicas=two")).contains("syncer.replicas=two"));
        let two = Values::default().with_setting("manager.replicas=2").unwrap();
        assert_eq!(two.apply(&mut parameters()).unwrap_err(), Error::Replicas { replicas: 2 });
        let folders = Values::default().with_setting("vnAgent.pkiDir=/etc/vn-agent").unwrap();
        assert!(matches!(folders.apply(&mut parameters()), Err(Error::SameFolder { .. })));
        let relative = Values::default().with_setting("vnAgent.certDir=''").unwrap();
        assert!(matches!(relative.apply(&mut parameters()), Err(Error::BadFolder { .. })));
    }
}

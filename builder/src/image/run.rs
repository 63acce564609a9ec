//! The run configuration of containers: the base's settings, overridden by the component's.

use std::collections::{BTreeSet, HashMap};

use oci_spec::image::Config;
use serde_json::Value;

use crate::project::Run;

/// The search path for programs in an image whose base does not set one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's extensions of the image specification that images inherit from their base.
const INHERITED: [&str; 1] = ["Healthcheck"];

/// Overrides the configuration of the base with that of `run`.
pub(super) fn over(run: &Run, mut config: Config) -> Config {
    let mut env = config.env().clone().unwrap_or_default();
    let is = |line: &str, name: &str| line.split_once('=').is_some_and(|(known, _)| known == name);
    if !run.env.contains_key("PATH") && !env.iter().any(|line| is(line, "PATH")) {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    for (name, value) in &run.env {
        let line = format!("{name}={value}");
        match env.iter_mut().find(|line| is(line, name)) {
            Some(known) => *known = line,
            None => env.push(line),
        }
    }
    config.set_env(Some(env));
    if !run.labels.is_empty() {
        let labels: HashMap<_, _> =
            config.labels().clone().unwrap_or_default().into_iter().chain(run.labels.clone()).collect();
        config.set_labels(Some(labels));
    }
    // The base's command contains arguments of the base's entrypoint, which do not apply to another one.
    if !run.entrypoint.is_empty() {
        config.set_entrypoint(Some(run.entrypoint.clone())).set_cmd(None);
    }
    if !run.cmd.is_empty() {
        config.set_cmd(Some(run.cmd.clone()));
    }
    if !run.ports.is_empty() {
        config.set_exposed_ports(Some(union(config.exposed_ports(), &run.ports)));
    }
    if !run.volumes.is_empty() {
        config.set_volumes(Some(union(config.volumes(), &run.volumes)));
    }
    if run.workdir.is_some() {
        config.set_working_dir(run.workdir.clone());
    }
    if run.user.is_some() {
        config.set_user(run.user.clone());
    }
    if run.stop_signal.is_some() {
        config.set_stop_signal(run.stop_signal.clone());
    }
    config
}

/// Copies the inherited extensions of the specification from the base's configuration `base` to `image`.
pub(super) fn inherit(image: &mut Value, base: &Value) {
    let Some(config) = image.get_mut("config").and_then(Value::as_object_mut) else { return };
    for name in INHERITED {
        if let Some(value) = base.get("config").and_then(|config| config.get(name)) {
            config.insert(name.to_owned(), value.clone());
        }
    }
}

fn union(theirs: &Option<Vec<String>>, ours: &[String]) -> Vec<String> {
    theirs.iter().flatten().chain(ours).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::image::Config;
    use serde_json::json;

    use super::{DEFAULT_PATH, inherit, over};
    use crate::project::Run;

    #[test]
    fn a_component_runs_as_its_base_where_it_does_not_say_otherwise() {
        let mut base = Config::default();
        base.set_env(Some(vec!["PATH=/bin".to_owned(), "A=1".to_owned()]))
            .set_cmd(Some(vec!["bash".to_owned()]))
            .set_exposed_ports(Some(vec!["80/tcp".to_owned()]))
            .set_stop_signal(Some("SIGQUIT".to_owned()))
            .set_working_dir(Some("/srv".to_owned()));
        let mut run = Run {
            env: [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "3".to_owned())].into(),
            entrypoint: vec!["/usr/local/bin/manager".to_owned()],
            user: Some("65532".to_owned()),
            ports: vec!["53/udp".to_owned(), "80/tcp".to_owned()],
            volumes: vec!["/data".to_owned()],
            ..Run::default()
        };
        let config = over(&run, base.clone());
        assert_eq!(config.env().as_deref().unwrap(), ["PATH=/bin", "A=2", "B=3"]);
        assert_eq!(config.entrypoint().as_deref().unwrap(), ["/usr/local/bin/manager"]);
        assert_eq!((config.cmd(), config.working_dir().as_deref()), (&None, Some("/srv")));
        assert_eq!(config.exposed_ports().as_deref().unwrap(), ["53/udp", "80/tcp"]);
        assert_eq!(config.volumes().as_deref().unwrap(), ["/data"]);
        assert_eq!((config.user().as_deref(), config.stop_signal().as_deref()), (Some("65532"), Some("SIGQUIT")));
        run.entrypoint.clear();
        run.stop_signal = Some("SIGINT".to_owned());
        let config = over(&run, base);
        assert_eq!(
            (config.cmd().as_deref().unwrap(), config.stop_signal().as_deref()),
            (&["bash".to_owned()][..], Some("SIGINT"))
        );
        let bare = over(&run, Config::default());
        assert_eq!(bare.env().as_deref().unwrap()[0], format!("PATH={DEFAULT_PATH}"));
    }

    #[test]
    fn a_healthcheck_of_the_base_goes_on_to_hold() {
        let base =
            json!({"config": {"Healthcheck": {"Test": ["CMD", "true"]}, "OnBuild": ["RUN x"]}, "docker_version": "1"});
        let mut image = json!({"config": {"User": "1"}});
        inherit(&mut image, &base);
        assert_eq!(image, json!({"config": {"User": "1", "Healthcheck": {"Test": ["CMD", "true"]}}}));
        inherit(&mut image, &json!({}));
        assert_eq!(image["config"]["User"], "1");
    }
}

//! The arguments of a component as a list: those that a parameter of its own says become that parameter, so that ports, mounts and
//! probes agree with them.

use crate::command_line::flag;
use crate::{Component, Error, Parameters};

impl Parameters {
    /// Takes the arguments of a component. What a parameter of its own says becomes that parameter, so that ports, mounts and
    /// probes agree with it: the syncer's feature gates, vn-agent's metrics port and folders. The component's name in front,
    /// which images without it as their command need, is left out.
    ///
    /// # Errors
    /// Returns an error for an argument that the pods would contradict.
    pub fn set_args(&mut self, component: Component, args: &[String]) -> Result<(), Error> {
        let mut kept = Vec::new();
        let mut words = args.iter().enumerate().peekable();
        while let Some((at, argument)) = words.next() {
            if at == 0 && argument == component.name() {
                continue;
            }
            if !is_parameter(component, argument) {
                kept.push(argument.clone());
                continue;
            }
            let refused =
                |instead| Error::BadArgument { component: component.name(), argument: argument.clone(), instead };
            let value = match argument.split_once('=') {
                Some((_, value)) => value,
                None => words.next().map(|(_, value)| value.as_str()).ok_or_else(|| refused("give its value"))?,
            };
            self.set_by_argument(flag(argument).unwrap_or_default(), value).map_err(refused)?;
        }
        self.command_lines.0.entry(component).or_default().args = kept;
        Ok(())
    }

    fn set_by_argument(&mut self, flag: &str, value: &str) -> Result<(), &'static str> {
        match flag {
            "feature-gates" => {
                for gate in value.split(',').filter(|gate| !gate.is_empty()) {
                    let (name, is_on) = gate.split_once('=').ok_or("write NAME=true or NAME=false")?;
                    let is_on = is_on.parse().map_err(|_| "write NAME=true or NAME=false")?;
                    self.feature_gates.insert(name.to_owned(), is_on);
                }
            }
            "metrics-addr" => {
                let port = value.strip_prefix(':').or_else(|| value.strip_prefix("0.0.0.0:"));
                let port = port.and_then(|port| port.parse().ok()).filter(|port| *port > 0);
                self.vn_agent_metrics_port = port.ok_or("write :PORT: the pod declares the port on every address")?;
            }
            "cert-dir" => value.clone_into(&mut self.vn_agent_folders.certificates),
            "kubelet-client-certificate" | "kubelet-client-key" => {
                let file = if flag.ends_with("key") { "/client.key" } else { "/client.crt" };
                let folder = value.strip_suffix(file);
                folder
                    .ok_or("the mounted Secret has client.crt and client.key: name these in one folder")?
                    .clone_into(&mut self.vn_agent_folders.pki);
            }
            "leader-elect" => {
                if value != "true" {
                    return Err("leave it out: only a leader may synchronize");
                }
            }
            _ => return Err("leave it out: the syncer and the probes use port 10550"),
        }
        Ok(())
    }
}

/// Whether an argument says what a parameter of its own says.
fn is_parameter(component: Component, argument: &str) -> bool {
    let flags: &[&str] = match component {
        Component::Manager => &[],
        Component::Syncer => &["feature-gates", "leader-elect"],
        Component::VnAgent => &["metrics-addr", "cert-dir", "kubelet-client-certificate", "kubelet-client-key", "port"],
    };
    flag(argument).is_some_and(|flag| flags.contains(&flag))
}

#[cfg(test)]
mod tests {
    use crate::tests::parameters;
    use crate::{Component, Error};

    #[test]
    fn what_a_parameter_says_becomes_that_parameter() {
        let mut all = parameters();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let agent = "vn-agent --metrics-addr=:9111 --cert-dir /x --kubelet-client-certificate=/y/client.crt --v=4";
        all.set_args(Component::VnAgent, &words(agent)).unwrap();
        assert_eq!((all.vn_agent_metrics_port, all.vn_agent_folders.certificates.as_str()), (9111, "/x"));
        assert_eq!(all.vn_agent_folders.pki, "/y");
        assert_eq!(all.command_lines.0[&Component::VnAgent].args, ["--v=4"]);
        all.set_args(Component::Syncer, &words("syncer --feature-gates=A=true,B=false --leader-elect=true x")).unwrap();
        assert_eq!(all.feature_gates, [("A".to_owned(), true), ("B".to_owned(), false)].into());
        assert_eq!(all.command_lines.0[&Component::Syncer].args, ["x"]);
    }

    #[test]
    fn arguments_that_the_pods_contradict_are_refused_with_what_to_do() {
        let refused = |component, argument: &str| match parameters().set_args(component, &[argument.to_owned()]) {
            Err(Error::BadArgument { instead, .. }) => instead,
            other => panic!("{other:?}"),
        };
        assert!(refused(Component::Syncer, "--feature-gates=A").contains("NAME=true"));
        assert!(refused(Component::Syncer, "--feature-gates").contains("value"));
        assert!(refused(Component::Syncer, "--leader-elect=false").contains("leader"));
        assert!(refused(Component::VnAgent, "--port=1").contains("10550"));
        assert!(refused(Component::VnAgent, "--metrics-addr=127.0.0.1:1").contains(":PORT"));
        assert!(refused(Component::VnAgent, "--kubelet-client-key=/y/other.key").contains("client.key"));
        assert!(parameters().set_args(Component::Manager, &["--feature-gates=A=true".to_owned()]).is_ok());
    }
}

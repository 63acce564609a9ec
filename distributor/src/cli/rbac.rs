//! `vcdist rbac`: prints the roles that vcdist itself needs, derived from what it applies and asks for.

use std::io;

use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::{NamespaceName, Parameters};
use vcterminal::{Exit, Text};

use crate::cli::values::{namespace, subject};
use crate::rights::{self, Subject, Task};
use crate::rollout::images;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist rbac --to user:jane | kubectl apply -f -
  vcdist rbac --to serviceaccount:ci:deployer --for deploy,verify,nodes";

/// Print the roles that vcdist itself needs, for kubectl apply.
///
/// A cluster administrator applies them once; then a user without other rights can install VirtualCluster. Kubernetes lets
/// nobody create a role that grants what they lack, so for deploy the roles contain what the three components are granted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Rbac {
    /// The namespace of the installation
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    namespace: NamespaceName,

    /// Only what these commands need [default: all]
    ///
    /// deploy (also diff, history, rollback, status), verify, nodes (the list of nodes, for push, plan and status), detect (also
    /// clusterversion), validate, prune, uninstall. run needs deploy,verify,nodes,detect,validate.
    #[arg(long = "for", value_enum, value_name = "COMMAND", value_delimiter = ',', hide_possible_values = true)]
    tasks: Vec<Task>,

    /// Also bind the roles to this subject; repeatable
    ///
    /// user:NAME, group:NAME or serviceaccount:NAMESPACE:NAME.
    #[arg(long = "to", value_name = "SUBJECT", value_parser = subject)]
    subjects: Vec<Subject>,
}

/// Why nothing was printed.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error("writing the roles as YAML")]
    #[diagnostic(help("this is a defect: please report it"))]
    Yaml { source: Box<dyn std::error::Error + Send + Sync> },

    #[error("printing the roles")]
    Print(#[from] io::Error),
}

impl Rbac {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let objects = images::without_images(self.namespace.clone()).map(|parameters| {
            // With every object that a value of `vcdist deploy --values` adds.
            vcmanifests::objects(&Parameters {
                syncer_replicas: 2,
                network_policies: true,
                service_monitors: true,
                ..parameters
            })
        });
        let objects = objects.unwrap_or_default();
        let tasks = if self.tasks.is_empty() { Task::ALL.to_vec() } else { self.tasks };
        let manifest = rights::manifest(&objects, self.namespace.as_str(), &tasks, &self.subjects);
        let yaml = vcmanifests::yaml(&manifest).map_err(|error| Error::Yaml { source: error.into() })?;
        vcterminal::print(&yaml.lines().map(str::to_owned).collect::<Text>())?;
        Ok(Exit::Done)
    }
}

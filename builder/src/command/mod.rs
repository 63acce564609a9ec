//! Files that an arbitrary command builds from the source and its declared inputs.

mod outputs;

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use vcsandbox::Step;
use vcstore::{Action, Outputs, Platform};

use crate::build_context::{BuildContext, BuildTarget, BuiltFiles};
use crate::error::CommandError;
use crate::file_manifest::FileManifest;
use crate::host_inputs;
use crate::project::CommandBuild;
use crate::source::{FileHash, Reader};

/// The version of the build recipe. Increment it when a change in how commands run can change their outputs; it is part
/// of every action key.
const RECIPE: u32 = 2;

/// A command with its environment. Components with equal invocations share one run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Invocation {
    platform: Platform,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    /// Files and folders of this machine, by their paths in the sandbox.
    inputs: BTreeMap<String, Utf8PathBuf>,
    /// Whether the command sees the machine's programs.
    system: bool,
}

/// An invocation, the components that it builds, and the outputs that it must produce: files or folders in the source's
/// folder.
struct Task<'a> {
    invocation: Invocation,
    components: Vec<&'a BuildTarget<'a, CommandBuild>>,
    outputs: BTreeSet<String>,
}

/// Runs each distinct command once.
///
/// # Errors
/// When a command fails, does not produce an output, or an input is missing.
pub(crate) fn build<'a>(
    wanted: &'a [BuildTarget<'a, CommandBuild>],
    context: &BuildContext<'_>,
) -> Result<Vec<BuiltFiles<'a>>, crate::Error> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let source_files = FileManifest::of_source(&context.source.dir, &context.outside)?;
    let source = source_files.hash();
    let made: Vec<Result<Vec<BuiltFiles<'a>>, crate::Error>> = tasks(wanted, context)
        .into_par_iter()
        .map(|task| {
            let inputs = host_inputs::identities(&task.invocation.inputs, &task.component(), context.store)?;
            let outputs =
                context.realise(&task.action(&source, &inputs)?, || task.run(context, &source_files, &inputs))?;
            task.components.iter().map(|one| task.made(one, &outputs)).collect()
        })
        .collect();
    Ok(made.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn tasks<'a>(wanted: &'a [BuildTarget<'a, CommandBuild>], context: &BuildContext<'_>) -> Vec<Task<'a>> {
    let mut tasks: BTreeMap<Invocation, Task<'a>> = BTreeMap::new();
    for one in wanted {
        let invocation = Invocation::of(one, context);
        let task = tasks.entry(invocation.clone()).or_insert_with(|| Task {
            invocation,
            components: Vec::new(),
            outputs: BTreeSet::new(),
        });
        task.outputs.extend(outputs::wanted(one).into_values());
        task.components.push(one);
    }
    tasks.into_values().collect()
}

impl Invocation {
    fn of(wanted: &BuildTarget<'_, CommandBuild>, context: &BuildContext<'_>) -> Self {
        let values = context.version.values().into_iter().chain([("arch", wanted.platform.architecture.as_str())]);
        let values: Vec<_> = values.collect();
        let CommandBuild { command, env, inputs, system, .. } = wanted.program;
        Self {
            platform: wanted.platform.clone(),
            command: command.iter().map(|word| word.fill(&values)).collect(),
            env: env.iter().map(|(name, value)| (name.clone(), value.fill(&values))).collect(),
            inputs: inputs.clone(),
            system: *system,
        }
    }
}

impl<'a> Task<'a> {
    /// Returns the action, whose key covers everything that the command sees.
    fn action(&self, source: &FileHash, inputs: &BTreeMap<String, FileHash>) -> Result<Action, crate::Error> {
        let Invocation { platform, command, env, system, .. } = &self.invocation;
        let action = Action::new("command", format!("{} {platform}", self.component()))
            .input("recipe", RECIPE)?
            .input("source", source)?
            .input("platform", platform)?
            .input("command", command)?
            .input("environment", env)?
            .input("inputs", inputs)?
            .input("system", if *system { Some(host_inputs::system()?) } else { None })?
            .input("outputs", &self.outputs)?;
        Ok(action)
    }

    /// Runs the command in a copy of the source, and stores its outputs.
    fn run(
        &self,
        context: &BuildContext<'_>,
        files: &FileManifest,
        inputs: &BTreeMap<String, FileHash>,
    ) -> Result<Outputs, crate::Error> {
        let sandbox = context.sandbox;
        let folder = sandbox.workplace(context.store)?;
        let work = folder.path();
        files.sync_to(&work.join("source"), sandbox)?;
        let step = self.step(context, work)?;
        sandbox.run(step).map_err(|failure| CommandError::Failed {
            command: self.command(),
            component: self.component(),
            platform: self.invocation.platform.clone(),
            source: Box::new(context.source.excluded.explain(failure, Reader::Command)),
        })?;
        host_inputs::unchanged(inputs, &self.invocation.inputs, &self.component(), context.store)?;
        let outputs = self.keep(context, &work.join("source"))?;
        Ok(outputs.with_note("sandbox", sandbox.confinement()?))
    }

    fn step(&self, context: &BuildContext<'_>, work: &Utf8Path) -> Result<Step, crate::Error> {
        let Invocation { command, env, inputs, system, .. } = &self.invocation;
        let (program, arguments) = command.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        let mut step = context.sandbox.step(program)?;
        if *system {
            step.system()?;
        }
        host_inputs::give(inputs, &self.component(), &mut step)?;
        let work = step.writable(work, "/build")?;
        step.dir(work.join("source"));
        step.env("PATH", host_inputs::PATH);
        step.envs(env);
        step.program(program);
        step.arguments(arguments);
        Ok(step)
    }

    /// Returns the names of the components that the command builds.
    fn component(&self) -> String {
        self.components.iter().map(|one| one.component.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Returns the command for messages.
    fn command(&self) -> String {
        self.invocation.command.join(" ")
    }
}

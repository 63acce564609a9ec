//! Errors of build commands, each with advice.

use camino::Utf8PathBuf;
use vcstore::Platform;

use vcsandbox::process;

/// An error of a component's command.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum CommandError {
    #[error("running `{command}` of {component} for {platform}")]
    #[diagnostic(help("{}", help(source)))]
    Failed { command: String, component: String, platform: Platform, source: Box<process::Failure> },

    #[error("running `{command}` of {component} for {platform}: it did not make {output}{why}")]
    #[diagnostic(help(
        "correct `outputs` in vcbuild.toml: its paths are relative to the source's folder, in which the command runs"
    ))]
    NotMade { command: String, component: String, platform: Platform, output: String, why: String },

    #[error("running `{command}` of {component} for {platform}: its output {output} {why}")]
    #[diagnostic(help("change the command to write regular files, or folders of them, in the source's folder"))]
    Unusable { command: String, component: String, platform: Platform, output: Utf8PathBuf, why: String },

    #[error("running `{command}` of {component} for {platform}: its output {output} is a program for {found}")]
    #[diagnostic(help(
        "change the command to build a program for {}: `{{arch}}` in `command` and `build_env` is the processor architecture",
        platform.architecture
    ))]
    Machine { command: String, component: String, platform: Platform, output: Utf8PathBuf, found: String },
}

fn help(failure: &process::Failure) -> String {
    failure.advice().unwrap_or_else(|| {
        "a command can access the source, the machine's programs and its `inputs`, but no network: correct the source, or \
         the component in vcbuild.toml"
            .to_owned()
    })
}

//! The command line: one file for each subcommand, and the options that several of them share. Uses every other module;
//! no other module uses it.

mod changes;
mod chart;
mod clusterversion;
mod deploy;
mod detect;
mod diff;
mod error;
mod helper;
mod history;
mod images;
mod interrupt;
mod join;
mod manifests;
mod node_images;
mod nodes;
mod progress;
mod prune;
mod push;
mod rbac;
mod relay;
mod release;
mod render;
mod role;
mod rollback;
mod run;
mod status;
mod uninstall;
mod validate;
mod values;
mod vars;
mod verify;
mod via;
mod watched;

use std::future::Future;

use clap::{Parser, Subcommand};
use miette::Diagnostic;
use vcterminal::Exit;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist validate                              # find what would make the steps below fail
  vcdist plan                                  # show what a push would send
  vcdist push                                  # send what each worker lacks
  vcdist deploy                                # apply the manifests, and wait until everything runs
  vcdist verify                                # check what runs";

/// Push container images to nodes over SSH, roll VirtualCluster out, and verify what runs.
#[derive(Debug, Parser)]
#[command(name = "vcdist", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = EXAMPLES)]
struct Cli {
    /// Say more: -v steps, -vv details, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 900)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Validate(Box<validate::Validate>),
    Push(Box<push::Push>),
    Plan(Box<push::Plan>),
    Status(Box<status::Status>),
    Prune(Box<prune::Prune>),
    Deploy(deploy::Deploy),
    Render(Box<render::Render>),
    History(history::History),
    Diff(diff::Diff),
    Rollback(Box<rollback::Rollback>),
    Verify(verify::Verify),
    Detect(detect::Detect),
    Clusterversion(Box<clusterversion::Clusterversion>),
    Uninstall(Box<uninstall::Uninstall>),
    Rbac(rbac::Rbac),
    Run(Box<run::Run>),
    Vars(vars::Vars),
    #[command(hide = true)]
    Helper(helper::Helper),
    #[command(hide = true)]
    Join(join::Join),
    #[command(hide = true)]
    Relay(relay::Relay),
}

/// Runs the command line of this process and returns its exit status.
#[must_use]
pub fn run() -> Exit {
    vcterminal::start_documented(dispatch)
}

fn dispatch(cli: Cli) -> Exit {
    vcterminal::log_to_stderr(cli.verbose);
    match cli.command {
        Command::Validate(validate) => ended(validate.run()),
        Command::Push(push) => ended(push.run()),
        Command::Plan(plan) => ended(plan.run()),
        Command::Status(status) => ended(status.run()),
        Command::Prune(prune) => ended(prune.run()),
        Command::Deploy(deploy) => ended(deploy.run()),
        Command::Render(render) => ended(render.run()),
        Command::History(history) => ended(history.run()),
        Command::Diff(diff) => ended(diff.run()),
        Command::Rollback(rollback) => ended(rollback.run()),
        Command::Verify(verify) => ended(verify.run()),
        Command::Detect(detect) => ended(detect.run()),
        Command::Clusterversion(clusterversion) => ended(clusterversion.run()),
        Command::Uninstall(uninstall) => ended(uninstall.run()),
        Command::Rbac(rbac) => ended(async { rbac.run() }),
        Command::Run(run) => ended(run.run()),
        Command::Vars(vars) => ended(vars.run()),
        Command::Helper(helper) => ended(helper.run()),
        Command::Join(join) => ended(join.run()),
        Command::Relay(relay) => ended(relay.run()),
    }
}

/// Runs a command to its end and reports its error, if it ends with one.
fn ended<E: Diagnostic>(command: impl Future<Output = Result<Exit, E>>) -> Exit {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            vcterminal::say(format_args!("error: starting the threads that requests run on: {error}"));
            return Exit::Failed;
        }
    };
    let ended = runtime.block_on(command);
    // A thread may still wait for stdin to end, such as the helper's; it has nothing left to do.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        vcterminal::report(&error);
        Exit::Failed
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_reference_page_is_that_of_this_command_line() {
        let is_current = vcterminal::reference(vcterminal::with_documents(Cli::command()))
            == include_str!("../../../docs/reference/vcdist.md");
        assert!(is_current, "docs/reference/vcdist.md differs from the command line: run `cargo xtask reference`");
    }

    #[test]
    fn what_the_documents_show_is_this_command_line() {
        let wrong = pages::wrong(&vcterminal::with_documents(Cli::command()), &pages::pages());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_short_help_has_a_line_for_each_option() {
        let wrapped = pages::wrapped(&Cli::command());
        assert!(wrapped.is_empty(), "{wrapped:#?}");
    }
}

//! `vcbuild sandbox`: runs a program in the sandbox of actions; also the entry point of the sandbox's own processes.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use vcsandbox::{Mode, Settings, Stage, parse_size, parse_time};
use vcterminal::{Exit, Text};

use crate::Error;

/// How programs that make outputs are confined.
#[derive(Debug, Args)]
pub(super) struct SandboxOptions {
    /// Confine compilers and commands
    ///
    /// By default as the user's settings say, else `auto`. A project may require a stricter mode.
    #[arg(long, value_name = "MODE")]
    sandbox: Option<Mode>,

    /// End a compiler or command after this time [default: 2h]
    ///
    /// In seconds, or for example 90m. By default as the user's settings say, else 2h; a project may set a lower limit.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,

    /// Limit its memory, such as 8G [default: no limit]
    ///
    /// By default as the user's settings say, else no limit; a project may set a lower limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_memory: Option<u64>,

    /// Limit its processes and threads [default: 4096 or more]
    ///
    /// By default as the user's settings say, else 4096, more on machines with many processors; a project may set a
    /// lower limit.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_processes: Option<u64>,

    /// Limit what it writes to disk, such as 20G [default: 64G]
    ///
    /// Also the maximum size of each file. By default as the user's settings say, else 64G; a project may set a lower
    /// limit.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_disk: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Run as a process of a sandbox that vcbuild is creating; it reads its specification from standard input.
    #[arg(long, exclusive = true)]
    stage: Option<Stage>,

    /// Allow reading a file or folder, optionally at another path inside the sandbox.
    #[arg(long, value_name = "PATH[:INSIDE]")]
    read: Vec<String>,

    /// Allow writing to a file or folder.
    #[arg(long, value_name = "PATH[:INSIDE]")]
    write: Vec<String>,

    /// Allow using the programs and libraries of this machine.
    #[arg(long)]
    system: bool,

    /// Set an environment variable.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// The working directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<Utf8PathBuf>,

    #[command(flatten)]
    options: SandboxOptions,

    /// The program and its arguments.
    #[arg(trailing_var_arg = true, value_name = "PROGRAM", required_unless_present = "stage")]
    program: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    if let Some(stage) = arguments.stage {
        return Ok(vcsandbox::stage(stage));
    }
    let sandbox = arguments.options.settings().sandbox();
    let [program, rest @ ..] = arguments.program.as_slice() else {
        return Err(Error::Usage("name a program to run".to_owned()));
    };
    let mut step = sandbox.step(program)?;
    if arguments.system {
        step.system()?;
        step.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    }
    for (mounts, writable) in [(&arguments.read, false), (&arguments.write, true)] {
        for mount in mounts {
            let (host, inside) = mount.split_once(':').unwrap_or((mount, mount));
            let host = camino::absolute_utf8(host).map_err(Error::io("finding", host))?;
            if writable {
                step.writable(&host, inside)?
            } else {
                step.read_only(&host, inside)?
            };
        }
    }
    for variable in &arguments.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        step.env(name, value);
    }
    if let Some(dir) = &arguments.dir {
        step.dir(dir);
    }
    step.program(program.as_str());
    step.arguments(rest);
    step.keep_output();
    let output = sandbox.run(step).map_err(|failure| Error::Program { source: Box::new(failure) })?;
    let mut text = Text::default();
    text.program(&String::from_utf8_lossy(&output));
    vcterminal::print(&text).map_err(Error::Print)?;
    Ok(Exit::Done)
}

impl SandboxOptions {
    /// What the command line says of sandboxes.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            mode: self.sandbox,
            time: self.timeout,
            memory: self.max_memory,
            processes: self.max_processes,
            disk: self.max_disk,
        }
    }
}

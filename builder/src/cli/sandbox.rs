//! `vcbuild sandbox`: runs a program as actions run theirs, and is what sandboxes are made of.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use vcterminal::Exit;

use crate::Error;
use crate::sandbox::{self, Limits, Mode, Sandbox, Stage};

/// How programs that make outputs are confined.
#[derive(Debug, Args)]
pub(super) struct SandboxOptions {
    /// Confine compilers and build commands in namespaces of their own: `required`, `auto` (where the machine allows it) or
    /// `off` [default: the project's, else auto].
    #[arg(long, value_name = "MODE")]
    sandbox: Option<Mode>,

    /// The longest that one compilation or build command may take, in seconds or as 90m or 2h [default: the project's, else
    /// 2h].
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,

    /// The memory that one of them may use, as 512M or 8G [default: the project's, else all there is].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_memory: Option<u64>,

    /// How many processes and threads one of them may have [default: the project's, else 4096 or more with the processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_processes: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Be one process of a sandbox that vcbuild is making: what to do comes over standard input.
    #[arg(long, exclusive = true)]
    stage: Option<Stage>,

    /// Let it read a file or folder, at another path within where one is given.
    #[arg(long, value_name = "PATH[:INSIDE]")]
    read: Vec<String>,

    /// Let it write to a file or folder.
    #[arg(long, value_name = "PATH[:INSIDE]")]
    write: Vec<String>,

    /// Let it use the programs and libraries of this machine.
    #[arg(long)]
    system: bool,

    /// Set a variable of its environment.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,

    /// The folder that it starts in.
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
        return Ok(sandbox::stage(stage));
    }
    let sandbox = arguments.options.sandbox();
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
    let output = sandbox.run(step).map_err(|failure| Error::Program { source: Box::new(failure) })?;
    super::print(&String::from_utf8_lossy(&output))?;
    Ok(Exit::Done)
}

impl SandboxOptions {
    /// The sandbox that the command line asks for.
    pub(super) fn sandbox(&self) -> Sandbox {
        let known = Limits::default();
        let limits = Limits {
            time: self.timeout.unwrap_or(known.time),
            memory: self.max_memory.or(known.memory),
            processes: self.max_processes.or(known.processes),
        };
        Sandbox::find(self.sandbox.unwrap_or_default(), limits)
    }
}

/// Reads a time: seconds, or a number with s, m or h.
fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 60 * 60)];
    let (number, factor) =
        units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor))).unwrap_or((text, 1));
    let seconds = number.parse::<u64>().ok().filter(|number| *number > 0).and_then(|number| number.checked_mul(factor));
    seconds.map(Duration::from_secs).ok_or_else(|| "give a number of seconds, or a number with s, m or h".to_owned())
}

/// Reads a size: bytes, or a number with K, M, G or T, each 1024 of the one before.
fn parse_size(text: &str) -> Result<u64, String> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let (number, shift) =
        units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift))).unwrap_or((text, 0));
    let bytes =
        number.parse::<u64>().ok().filter(|number| *number > 0).and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| "give a number of bytes, or a number with K, M, G or T".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{parse_size, parse_time};

    #[test]
    fn times_and_sizes_have_units() {
        let seconds = |text| parse_time(text).map(|time| time.as_secs());
        assert_eq!([seconds("90"), seconds("90s"), seconds("2m"), seconds("1h")], [Ok(90), Ok(90), Ok(120), Ok(3600)]);
        assert!(seconds("0").is_err() && seconds("soon").is_err() && seconds("99999999999999999999h").is_err());
        assert_eq!([parse_size("5"), parse_size("1K"), parse_size("2G")], [Ok(5), Ok(1024), Ok(2 << 30)]);
        assert!(parse_size("99999999999T").is_err() && parse_size("M").is_err());
    }
}

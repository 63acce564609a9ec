//! The settings of sandboxes as users write them. The command line takes precedence over the user's settings. A project
//! may request less than these permit, but never more.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Limits, Mode, Sandbox};

/// `[sandbox]` of a project or of the user's settings: how compilers and build commands are confined, where the command line
/// does not say.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SandboxTable {
    /// Whether they are.
    mode: Option<Mode>,
    /// The longest that one may take: `90m`.
    timeout: Option<String>,
    /// The memory that one may use: `8G`.
    max_memory: Option<String>,
    /// How many processes and threads one may have.
    #[schemars(range(min = 1))]
    max_processes: Option<u64>,
    /// How much one may write to disk: `64G`.
    max_disk: Option<String>,
}

impl SandboxTable {
    /// Parses the table.
    ///
    /// # Errors
    /// Returns a message about the value that is invalid.
    pub fn settings(&self) -> Result<Settings, String> {
        if self.max_processes == Some(0) {
            return Err("its max-processes is 0".to_owned());
        }
        Ok(Settings {
            mode: self.mode,
            time: self.timeout.as_deref().map(parse_time).transpose()?,
            memory: self.max_memory.as_deref().map(parse_size).transpose()?,
            processes: self.max_processes,
            disk: self.max_disk.as_deref().map(parse_size).transpose()?,
        })
    }
}

/// Settings of sandboxes; `None` for those that are not set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whether programs are confined.
    pub mode: Option<Mode>,
    /// The time limit of a program.
    pub time: Option<Duration>,
    /// The memory limit of all its processes together, in bytes.
    pub memory: Option<u64>,
    /// The maximum number of processes.
    pub processes: Option<u64>,
    /// The limit on disk usage, in bytes.
    pub disk: Option<u64>,
}

/// A setting that a project requests and does not get, because it exceeds what its user permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedSetting {
    /// The name in `[sandbox]`.
    name: &'static str,
    /// The option that permits it.
    option: &'static str,
    asked: String,
    stays: String,
}

impl fmt::Display for RefusedSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, option, asked, stays } = self;
        write!(
            f,
            "the project requests {name} = {asked} in [sandbox] but gets {stays}: a project may only tighten its sandbox \
             (--{option} {asked}, or {name} in the user's settings, allows it)"
        )
    }
}

impl Settings {
    /// Combines these settings of the command line with the `user`'s settings and with the requests of `project`, which
    /// apply if they are not looser. The second value contains the rejected requests.
    pub fn with(self, user: Self, project: Self) -> (Self, Vec<RefusedSetting>) {
        let (known, mut refused) = (Limits::default(), Vec::new());
        let mode = self.mode.unwrap_or_else(|| {
            let allowed = user.mode.unwrap_or_default();
            let asked = project.mode.unwrap_or(allowed);
            if asked.strictness() < allowed.strictness() {
                let (asked, stays) = (asked.name().to_owned(), allowed.name().to_owned());
                refused.push(RefusedSetting { name: "mode", option: "sandbox", asked, stays });
                return allowed;
            }
            asked
        });
        let mut limit = |name, given: Option<u64>, allowed: Option<u64>, asked: Option<u64>| match (asked, allowed) {
            _ if given.is_some() => given,
            (Some(asked), Some(allowed)) if asked > allowed => {
                let (asked, stays) = (asked.to_string(), allowed.to_string());
                refused.push(RefusedSetting { name, option: name, asked, stays });
                Some(allowed)
            }
            (asked, allowed) => asked.or(allowed),
        };
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
        let allowed = seconds(user.time).unwrap_or(known.time.as_secs());
        let settings = Self {
            mode: Some(mode),
            time: limit("timeout", seconds(self.time), Some(allowed), seconds(project.time)).map(Duration::from_secs),
            memory: limit("max-memory", self.memory, user.memory.or(known.memory), project.memory),
            processes: limit("max-processes", self.processes, user.processes.or(known.processes), project.processes),
            disk: limit("max-disk", self.disk, user.disk.or(known.disk), project.disk),
        };
        (settings, refused)
    }

    /// Creates the sandbox with these settings.
    pub fn sandbox(self) -> Sandbox {
        let known = Limits::default();
        let limits = Limits {
            time: self.time.unwrap_or(known.time),
            memory: self.memory.or(known.memory),
            processes: self.processes.or(known.processes),
            disk: self.disk.or(known.disk),
        };
        Sandbox::find(self.mode.unwrap_or_default(), limits)
    }
}

/// Parses a duration: seconds, or a number with s, m or h.
///
/// # Errors
/// Returns a message with the valid format if it is invalid.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 60 * 60)];
    let (number, factor) =
        units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor))).unwrap_or((text, 1));
    let seconds = number.parse::<u64>().ok().filter(|number| *number > 0).and_then(|number| number.checked_mul(factor));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is not a duration: use a number of seconds, or a number with s, m or h"))
}

/// Parses a size: bytes, or a number with K, M, G or T, each 1024 times the one before.
///
/// # Errors
/// Returns a message with the valid format if it is invalid.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let (number, shift) =
        units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift))).unwrap_or((text, 0));
    let bytes = number.parse::<u64>().ok().filter(|number| *number > 0);
    let bytes = bytes.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("{text:?} is not a size: use a number of bytes, or a number with K, M, G or T"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Mode, Settings, parse_size, parse_time};

    #[test]
    fn a_project_tightens_and_never_loosens() {
        let none = Settings::default();
        let of = |mode, time, memory, processes, disk| Settings {
            mode: Some(mode),
            time: Some(Duration::from_secs(time)),
            memory: Some(memory),
            processes: Some(processes),
            disk: Some(disk),
        };
        let tight = of(Mode::Required, 1, 2, 3, 4);
        assert_eq!(none.with(none, tight), (tight, vec![]));
        let loose = of(Mode::Off, 1 << 40, 1 << 60, 1 << 60, 1 << 60);
        let (settings, refused) = none.with(none, loose);
        // By default, memory is unlimited, so any limit is tighter.
        assert_eq!((settings.mode, settings.memory), (Some(Mode::Auto), Some(1 << 60)));
        assert_eq!(settings.time.unwrap().as_secs(), 7200);
        let names: Vec<_> = refused.iter().map(|one| one.name).collect();
        assert_eq!(names, ["mode", "timeout", "max-processes", "max-disk"]);
        let said = refused[0].to_string();
        assert!(said.starts_with("the project requests mode = off in [sandbox] but gets auto: "), "{said}");
        assert!(said.contains("--sandbox off, or mode in the user's settings"), "{said}");
        // A project may tighten the user's settings; the command line overrides both.
        let user = of(Mode::Required, 10, 10, 10, 10);
        assert_eq!(none.with(user, loose).0, user);
        assert_eq!(none.with(user, loose).1.len(), 5);
        assert_eq!(none.with(user, of(Mode::Auto, 5, 5, 5, 5)).0, of(Mode::Required, 5, 5, 5, 5));
        assert_eq!(none.with(loose, none).0, loose);
        assert_eq!(none.with(loose, tight).0, tight);
        assert_eq!(loose.with(user, tight), (loose, vec![]));
    }

    #[test]
    fn times_and_sizes_have_units() {
        let seconds = |text| parse_time(text).ok().map(|time| time.as_secs());
        assert_eq!(["90", "90s", "2m", "1h"].map(seconds), [Some(90), Some(90), Some(120), Some(3600)]);
        assert_eq!(["0", "soon", "", "99999999999999999999h"].map(seconds), [None; 4]);
        let bytes = |text| parse_size(text).ok();
        assert_eq!(["5", "1K", "2G"].map(bytes), [Some(5), Some(1024), Some(2 << 30)]);
        assert_eq!(["99999999999T", "M", "1.5G", "0"].map(bytes), [None; 4]);
        assert_eq!(
            parse_time("soon").unwrap_err(),
            "\"soon\" is not a duration: use a number of seconds, or a number with s, m or h"
        );
    }
}

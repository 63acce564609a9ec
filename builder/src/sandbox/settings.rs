//! How sandboxes are to be, as people write it: what the command line says goes before what the project says.

use std::time::Duration;

use super::{Limits, Mode, Sandbox};

/// What somebody says of sandboxes; nothing where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) mode: Option<Mode>,
    pub(crate) time: Option<Duration>,
    pub(crate) memory: Option<u64>,
    pub(crate) processes: Option<u64>,
    pub(crate) disk: Option<u64>,
}

impl Settings {
    /// The same, with what it does not say taken from `others`.
    pub(crate) fn over(self, others: Self) -> Self {
        Self {
            mode: self.mode.or(others.mode),
            time: self.time.or(others.time),
            memory: self.memory.or(others.memory),
            processes: self.processes.or(others.processes),
            disk: self.disk.or(others.disk),
        }
    }

    /// The sandbox that is asked for.
    pub(crate) fn sandbox(self) -> Sandbox {
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

/// Reads a time: seconds, or a number with s, m or h.
///
/// # Errors
/// When it is none; the text says what is one.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 60 * 60)];
    let (number, factor) =
        units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor))).unwrap_or((text, 1));
    let seconds = number.parse::<u64>().ok().filter(|number| *number > 0).and_then(|number| number.checked_mul(factor));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is no number of seconds, nor one with s, m or h"))
}

/// Reads a size: bytes, or a number with K, M, G or T, each 1024 of the one before.
///
/// # Errors
/// When it is none; the text says what is one.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let (number, shift) =
        units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift))).unwrap_or((text, 0));
    let bytes = number.parse::<u64>().ok().filter(|number| *number > 0);
    let bytes = bytes.and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| format!("{text:?} is no number of bytes, nor one with K, M, G or T"))
}

#[cfg(test)]
mod tests {
    use super::{parse_size, parse_time};

    #[test]
    fn times_and_sizes_have_units() {
        let seconds = |text| parse_time(text).ok().map(|time| time.as_secs());
        assert_eq!(["90", "90s", "2m", "1h"].map(seconds), [Some(90), Some(90), Some(120), Some(3600)]);
        assert_eq!(["0", "soon", "", "99999999999999999999h"].map(seconds), [None; 4]);
        let bytes = |text| parse_size(text).ok();
        assert_eq!(["5", "1K", "2G"].map(bytes), [Some(5), Some(1024), Some(2 << 30)]);
        assert_eq!(["99999999999T", "M", "1.5G", "0"].map(bytes), [None; 4]);
        assert_eq!(parse_time("soon").unwrap_err(), "\"soon\" is no number of seconds, nor one with s, m or h");
    }
}

//! Parses numbers with units, for both tools.

/// Parses a byte count: a whole number with the unit B, kB, MB, GB, TB, KiB, MiB, GiB or TiB.
///
/// # Errors
/// Returns a message with the valid format if it is invalid.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let decimal = [("B", 1), ("kB", 1_000), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
    let more = [("TB", 1_000_000_000_000), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    parse_number(text, &[&decimal[..], &more].concat())
        .ok_or_else(|| format!("{text:?} is not a size such as 500MB or 10GiB"))
}

/// Parses a whole number with one of these units, and multiplies it by the unit's value. Returns `None` if it is
/// invalid or too large.
#[must_use]
pub fn parse_number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, factor)| *factor)?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [("0B", 0), ("10GB", 10_000_000_000), ("1 GiB", 1 << 30), ("500kB", 500_000)] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for bad in ["", "GB", "10", "10gb", "-1GB", "99999999999TB"] {
            assert!(parse_bytes(bad).is_err(), "{bad:?} must be refused");
        }
    }
}

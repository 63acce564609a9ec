//! Facts about a node that scripts report: its architecture, and the free space of a file system.

use crate::images::inventory::Disk;

/// Parses a path and the lines that `df` prints for its bytes (in units of 1024) and for its inodes.
pub(crate) fn disk(lines: &[String]) -> Option<Disk> {
    let [path, bytes, inodes] = lines else { return None };
    let free = |line: &str| line.split_whitespace().nth(3).map(str::to_owned);
    let free_bytes = free(bytes)?.parse::<u64>().ok()?.saturating_mul(1024);
    let total: u64 = inodes.split_whitespace().nth(1).and_then(|total| total.parse().ok()).unwrap_or(0);
    let free_inodes = if total == 0 { u64::MAX } else { free(inodes)?.parse().ok()? };
    Some(Disk { path: path.clone(), free_bytes, free_inodes })
}

/// Returns the OCI (and Go) name of an architecture that `uname -m` prints.
pub(crate) fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_read_from_df() {
        let lines = ["/var", "/dev/vda1 1000 400 600 40% /", "/dev/vda1 64000 1000 63000 2% /"].map(str::to_owned);
        let found = disk(&lines).expect("a disk");
        assert_eq!((found.free_bytes, found.free_inodes), (600 * 1024, 63000));
        let without = ["/var", "x 1000 400 600 40% /", "x 0 0 0 - /"].map(str::to_owned);
        assert_eq!(disk(&without).expect("a disk").free_inodes, u64::MAX);
        assert_eq!(disk(&[]), None);
    }
}

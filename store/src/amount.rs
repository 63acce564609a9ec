//! Amounts: the number of files or blobs, and their size.

use serde::Serialize;

/// A number of files or blobs, and their total size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// The number.
    pub count: u64,
    /// The size in bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

impl FromIterator<u64> for Amount {
    fn from_iter<I: IntoIterator<Item = u64>>(sizes: I) -> Self {
        let mut amount = Self::default();
        sizes.into_iter().for_each(|size| amount.add(size));
        amount
    }
}

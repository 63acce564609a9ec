//! What confines a program beside namespaces: which of it this machine has, how it is applied, and what is recorded of it.

use super::spec::{Layer, Mount, SetupError, UnavailableLayer};
use super::{keyring, landlock, seccomp};

/// What a confined program is always in.
const NAMESPACES: &str = "user, mount, pid, network, ipc and uts namespaces";

/// The layers of this machine.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    missing: Vec<UnavailableLayer>,
}

impl Layer {
    /// All of them, in the order in which they are applied: the filter lets nobody apply the others.
    pub(super) const ALL: [Self; 3] = [Self::Keyring, Self::Landlock, Self::Filter];

    /// Applies it to this thread and to what it becomes and starts.
    pub(super) fn apply(self, mounts: &[Mount]) -> Result<(), SetupError> {
        match self {
            Self::Keyring => keyring::replace(),
            Self::Landlock => landlock::restrict(mounts),
            Self::Filter => seccomp::restrict(),
        }
    }

    /// Whether what the sandbox promises depends on it. The others are there in case that one fails: without a keyring of its
    /// own a program has the caller's, which the filter does not let it use; Landlock repeats what mounts say.
    fn is_essential(self) -> bool {
        self == Self::Filter
    }

    fn name(self) -> &'static str {
        match self {
            Self::Keyring => "session keyring",
            Self::Landlock => "Landlock",
            Self::Filter => "system call filter",
        }
    }
}

impl Layers {
    /// Those of a machine that lacks these.
    pub(super) fn without(missing: Vec<UnavailableLayer>) -> Self {
        Self { missing }
    }

    /// Those that can be applied, in their order.
    pub(super) fn present(&self) -> impl Iterator<Item = Layer> {
        Layer::ALL.into_iter().filter(|layer| self.missing.iter().all(|missing| missing.layer != *layer))
    }

    /// Why what is essential cannot be applied, where it cannot.
    pub(super) fn lacks(&self) -> Option<&SetupError> {
        self.missing.iter().find(|missing| missing.layer.is_essential()).map(|missing| &missing.obstacle)
    }

    /// What confines programs, for an action's record.
    pub(super) fn describe(&self) -> String {
        let mut text = NAMESPACES.to_owned();
        for layer in self.present() {
            text += &format!(", {}", layer.name());
        }
        for UnavailableLayer { layer, obstacle } in &self.missing {
            text += &format!("; no {}: cannot {}: {}", layer.name(), obstacle.attempt, obstacle.why);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::SetupError;
    use super::{Layer, Layers, UnavailableLayer};

    fn without(layers: &[Layer]) -> Layers {
        let missing = |layer: &Layer| {
            let obstacle = SetupError { attempt: "try".to_owned(), errno: None, why: "not here".to_owned() };
            UnavailableLayer { layer: *layer, obstacle }
        };
        Layers::without(layers.iter().map(missing).collect())
    }

    #[test]
    fn what_is_there_and_what_is_not_is_recorded() {
        let all = "user, mount, pid, network, ipc and uts namespaces";
        assert_eq!(without(&[]).describe(), format!("{all}, session keyring, Landlock, system call filter"));
        assert_eq!(
            without(&[Layer::Landlock]).describe(),
            format!("{all}, session keyring, system call filter; no Landlock: cannot try: not here")
        );
        assert!(without(&[Layer::Landlock, Layer::Keyring]).present().eq([Layer::Filter]));
    }

    #[test]
    fn only_the_filter_is_essential() {
        assert!(without(&[Layer::Landlock, Layer::Keyring]).lacks().is_none());
        assert_eq!(without(&[Layer::Filter]).lacks().unwrap().why, "not here");
    }
}

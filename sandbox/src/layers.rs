//! The layers that confine a program in addition to namespaces: which are available on this machine, how they are
//! applied, and what is recorded about them.

use super::spec::{Layer, Mount, SetupError, UnavailableLayer};
use super::{keyring, landlock, seccomp};

/// The namespaces of every confined program.
const NAMESPACES: &str = "user, mount, pid, network, ipc and uts namespaces";

/// The available layers of this machine.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    missing: Vec<UnavailableLayer>,
}

impl Layer {
    /// All layers in the order in which they are applied: the filter forbids applying the others.
    pub(super) const ALL: [Self; 3] = [Self::Keyring, Self::Landlock, Self::Filter];

    /// Applies the layer to this thread and its descendants.
    pub(super) fn apply(self, mounts: &[Mount]) -> Result<(), SetupError> {
        match self {
            Self::Keyring => keyring::replace(),
            Self::Landlock => landlock::restrict(mounts),
            Self::Filter => seccomp::restrict(),
        }
    }

    /// Whether the sandbox's guarantees depend on it. The other layers are redundant: without a keyring of its own, a
    /// program has the caller's, but the filter prevents its use; Landlock repeats the restrictions of the mounts.
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
    /// Returns the layers of a machine that lacks these.
    pub(super) fn without(missing: Vec<UnavailableLayer>) -> Self {
        Self { missing }
    }

    /// Returns the available layers in their order.
    pub(super) fn present(&self) -> impl Iterator<Item = Layer> {
        Layer::ALL.into_iter().filter(|layer| self.missing.iter().all(|missing| missing.layer != *layer))
    }

    /// Returns why an essential layer cannot be applied, if any.
    pub(super) fn lacks(&self) -> Option<&SetupError> {
        self.missing.iter().find(|missing| missing.layer.is_essential()).map(|missing| &missing.obstacle)
    }

    /// Describes the confinement for an action's record.
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

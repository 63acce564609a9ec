//! The identity of a node's machine, as the API reports it and as the machine that answers at its address reports it.

use serde::{Deserialize, Serialize};

/// The identifiers of a machine; empty if unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The machine ID (machine-id(5)), which the kubelet reports as the node's `machineID`.
    pub machine_id: String,
    /// Linux's identifier of the current boot, which the kubelet reports as the node's `bootID`.
    pub boot_id: String,
}

impl Machine {
    /// The script that makes a node's shell report its identity through a function `say`. Both files are
    /// world-readable.
    pub(crate) const SAY: &str = "say \"identity boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) \
                                  machine=$(cat /etc/machine-id 2>/dev/null || cat /var/lib/dbus/machine-id 2>/dev/null)\"";

    /// The first word of the reply to [`Self::SAY`].
    pub(crate) const WORD: &str = "identity";

    /// Reads what follows that word.
    pub(crate) fn read(values: &str) -> Self {
        let after = |key: &str| values.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap_or_default();
        Self { machine_id: after("machine=").to_owned(), boot_id: after("boot=").to_owned() }
    }

    /// Whether it lacks what identifies it.
    pub(crate) fn is_unknown(&self) -> bool {
        id(&self.machine_id).is_none() || id(&self.boot_id).is_none()
    }

    /// Whether it is certainly not the machine `other`, that is, both identifiers differ. A machine that rebooted keeps
    /// its machine ID; one that was reinstalled and joined again has reported both to the API; a container shares the
    /// boot ID of its host.
    pub(crate) fn differs_from(&self, other: &Self) -> bool {
        let differ = |ours: &str, theirs: &str| matches!((id(ours), id(theirs)), (Some(one), Some(two)) if one != two);
        differ(&self.machine_id, &other.machine_id) && differ(&self.boot_id, &other.boot_id)
    }
}

/// Returns the 32 hexadecimal digits of an ID, however they are grouped, or `None` for any other text, such as
/// systemd's `uninitialized`.
fn id(text: &str) -> Option<String> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').map(|c| c.to_ascii_lowercase()).collect();
    (digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::Machine;

    const ONE: &str = "0af3c2d4e5f60718293a4b5c6d7e8f90";
    const TWO: &str = "1bf3c2d4e5f60718293a4b5c6d7e8f91";
    const BOOT: &str = "6a7b8c9d-0e1f-4a2b-8c3d-4e5f60718293";
    const LATER: &str = "7a7b8c9d-0e1f-4a2b-8c3d-4e5f60718293";

    fn machine(machine_id: &str, boot_id: &str) -> Machine {
        Machine { machine_id: machine_id.into(), boot_id: boot_id.into() }
    }

    #[test]
    fn a_machine_is_another_when_both_of_its_ids_are() {
        let node = machine(ONE, BOOT);
        assert!(machine(TWO, LATER).differs_from(&node));
        for (same, why) in [
            (machine(ONE, BOOT), "the same"),
            (machine(ONE, LATER), "it booted anew"),
            (machine(TWO, BOOT), "a container, or an ID that was made anew"),
            (machine("", LATER), "it has no machine ID"),
            (machine("uninitialized", LATER), "it has none yet"),
            (machine(TWO, ""), "no boot is told"),
            (machine("", ""), "it tells nothing"),
            (machine("0AF3C2D4-E5F6-0718-293A-4B5C6D7E8F90", LATER), "written otherwise"),
        ] {
            assert!(!same.differs_from(&node), "{why}");
            assert!(!node.differs_from(&same), "{why}");
        }
    }

    #[test]
    fn a_shell_tells_which_machine_it_is_on() {
        let script = format!("say() {{ echo \"$1\"; }}; {}", Machine::SAY);
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
        let said = String::from_utf8(output.stdout).expect("text");
        let values = said.trim_end().strip_prefix(Machine::WORD).expect("the word");
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
        assert_eq!(Machine::read(values).boot_id, boot.trim());
        assert_eq!(Machine::read(" boot= machine="), Machine::default());
        assert_eq!(Machine::read(&format!(" boot= machine={ONE}")), machine(ONE, ""));
    }
}

//! The identity of a node's machine: as the API reports it, and as the machine at its address reports it.

use serde::{Deserialize, Serialize};

/// What identifies a machine; empty where it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The machine ID (machine-id(5)), which kubelet reports as the node's `machineID`.
    pub machine_id: String,
    /// Linux' name for the time between two boots, which kubelet reports as the node's `bootID`.
    pub boot_id: String,
}

impl Machine {
    /// The shell line that prints a node's identity by a function `say`. All users may read both files.
    pub(crate) const SAY: &str = "say \"identity boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) \
                                  machine=$(cat /etc/machine-id 2>/dev/null || cat /var/lib/dbus/machine-id 2>/dev/null)\"";

    /// The word that the answer to [`Self::SAY`] begins with.
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

    /// Whether it is certainly not the machine that `other` tells of. A machine that booted anew has its ID still; one that was
    /// installed anew and joined has told the API both; a container has the boot of the machine that it runs on.
    pub(crate) fn differs_from(&self, other: &Self) -> bool {
        let differ = |ours: &str, theirs: &str| matches!((id(ours), id(theirs)), (Some(one), Some(two)) if one != two);
        differ(&self.machine_id, &other.machine_id) && differ(&self.boot_id, &other.boot_id)
    }
}

/// The 32 hexadecimal digits of an ID, however they are grouped; nothing for other words, as systemd's `uninitialized`.
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

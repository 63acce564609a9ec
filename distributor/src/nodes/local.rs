//! Detects whether a node is the machine on which this program runs, which then needs no SSH.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::{Address, Node, Reach};

/// Linux's identifier of the current boot, which the kubelet reports as the node's `bootID`.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether a node of the API is this machine. Its address alone is not sufficient: virtual machines from the same
/// template often have the same address on a private network.
pub(super) fn is_this_node(node: &Node) -> bool {
    let Reach::Ssh(address) = &node.reach else { return true };
    let ours = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    let boot_id = &node.machine.boot_id;
    !boot_id.is_empty() && boot_id == ours.trim() && is_this_machine(address, false)
}

/// Whether an address from the user belongs to this machine. A loopback address counts only if it is `bare` and has
/// neither user nor port; otherwise it is the near end of a tunnel or a forwarded port of a virtual machine.
pub(super) fn is_this_machine(address: &Address, bare: bool) -> bool {
    let plain = address.port.is_none() && address.arguments.is_empty();
    let ip = match address.host.as_str() {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse(),
    };
    match ip {
        Ok(ip) if ip.is_loopback() => bare && plain && address.user.is_none(),
        Ok(ip) => plain && is_own(ip),
        Err(_) => false,
    }
}

/// Whether an interface of this machine has the address: the source address of a route to it is then the address
/// itself. No packet is sent.
fn is_own(ip: IpAddr) -> bool {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let way = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(ip, 9))?;
        socket.local_addr()
    });
    !ip.is_unspecified() && way.is_ok_and(|way| way.ip() == ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::Machine;

    fn address(text: &str) -> Address {
        Address::parse(text).expect("a host")
    }

    #[test]
    fn a_loopback_address_is_here_when_nothing_else_is_said() {
        assert!(is_this_machine(&address("127.0.0.1"), true));
        assert!(is_this_machine(&address("localhost"), true));
        for other in ["ops@127.0.0.1", "127.0.0.1:2222", "192.0.2.1", "w1", "0.0.0.0"] {
            assert!(!is_this_machine(&address(other), true), "{other}");
        }
        assert!(!is_this_machine(&address("127.0.0.1"), false));
    }

    #[test]
    fn a_node_with_our_address_is_here_when_it_booted_when_we_did() {
        let node = |host: &str, boot: &str| Node {
            name: "n".into(),
            reach: Reach::Ssh(address(host)),
            ready: None,
            machine: Machine { boot_id: boot.into(), ..Machine::default() },
            architecture: None,
            runtime: None,
        };
        // An address of this machine: the source address of a route to another one. A machine without a network has
        // none.
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let Ok(own) = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()) else { return };
        let boot = std::fs::read_to_string(BOOT_ID).expect("Linux");
        let own = own.ip().to_string();
        assert!(is_this_node(&node(&own, boot.trim())));
        assert!(!is_this_node(&node(&own, "another")));
        assert!(!is_this_node(&node(&own, "")));
        assert!(!is_this_node(&node("192.0.2.1", boot.trim())));
    }
}

//! Entry points for tests with hostile input: the parsers of nodes' answers and of operators' files must end without a
//! panic.

use prost::Message;

pub use crate::nodes::ansible::hostile as inventory;
pub use crate::runtime::ctr::hostile as ctr;
pub use crate::runtime::engine::hostile as engines;
pub use crate::transport::embedded::hostile::{known_hosts, ssh_config};

use crate::images::inventory::Inventory;
use crate::images::push_label::PushedImage;
use crate::protocol::proto;

/// Parses the answers of a helper.
pub fn helper(bytes: &[u8]) {
    let hello = proto::HelloResponse::decode(bytes).unwrap_or_default();
    if let Ok(answer) = proto::InventoryResponse::decode(bytes) {
        let _ = Inventory::read(&hello, answer);
    }
    if let Ok(answer) = proto::PushesResponse::decode(bytes) {
        answer.images.into_iter().filter_map(PushedImage::read).for_each(drop);
    }
    let _ = proto::ContainersResponse::decode(bytes);
    let _ = proto::FinishRequest::decode(bytes);
    let _ = proto::WriteRequest::decode(bytes);
}

#[cfg(test)]
mod tests {
    use mutate::hostile;

    #[test]
    fn answers_of_nodes_and_files_of_operators_are_read_or_refused() {
        hostile("helper", super::helper);
        hostile("ctr", super::ctr);
        hostile("engines", super::engines);
        hostile("inventory", super::inventory);
        hostile("known_hosts", super::known_hosts);
        hostile("ssh_config", super::ssh_config);
    }
}

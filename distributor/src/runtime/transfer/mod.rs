//! How blobs travel from the store to a node: counted, within rate limits, over one or several connections.
//!
//! Uses sessions, the protocol and types of the plan; of [`crate::runtime`] only its errors.

mod connection_pool;
mod rate;
mod sent_counter;
mod stream;

pub(crate) use connection_pool::{ConnectionPool, PoolTarget, connections_per_node};
pub(crate) use rate::Limits;
pub use rate::Rate;
pub use sent_counter::SentCounter;
pub(crate) use stream::send_blob;

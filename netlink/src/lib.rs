//! Just enough rtnetlink for the networker: requests, questions and dumps, and the attributes in them.

mod answer;
mod attributes;
mod body;
mod flags;
mod message;
mod netlink;
mod numbers;

pub use attributes::{Attributes, ip};
pub use body::Body;
pub use flags::{NLM_F_CREATE, NLM_F_EXCL};
pub use netlink::Netlink;
pub use numbers::{u16_at, u32_at};

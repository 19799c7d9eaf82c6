//! Just enough rtnetlink for the networker and the guest agent: requests, questions and dumps, and the attributes in
//! them. By hand, and small: the agent is paid once per pod, in memory and in start-up time.

mod answer;
mod attributes;
mod body;
mod flags;
mod message;
mod netlink;
mod numbers;

pub use attributes::{Attributes, ip};
pub use body::Body;
pub use flags::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
pub use netlink::Netlink;
pub use numbers::{u16_at, u32_at};

//! Messages as they are sent and received: struct nlmsghdr, then a body.

use crate::flags::NLM_F_REQUEST;
use crate::numbers::{u16_at, u32_at};

const NLMSG_HDRLEN: usize = 16;

/// A request.
pub fn encode(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(NLMSG_HDRLEN + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(NLMSG_HDRLEN + body.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The first message's kind, sequence number and body, and what comes after it.
pub fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let body = bytes.get(NLMSG_HDRLEN..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16_at(bytes, 4)?, u32_at(bytes, 8)?, body, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_what_comes_in_one_piece() {
        let both = [encode(16, 0, 1, &[1, 2, 3, 4]), encode(3, 0, 1, &[0; 4])].concat();
        let (kind, sequence, body, after) = split(&both).unwrap();
        assert_eq!((kind, sequence, body), (16, 1, &[1, 2, 3, 4][..]));
        let (kind, _, _, after) = split(after).unwrap();
        assert_eq!(kind, 3);
        assert!(split(after).is_none());
        assert!(split(&both[..19]).is_none());
        assert!(split(&[0; 64]).is_none());
    }
}

use crate::message::split;
use crate::numbers::u32_at;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Hands on the bodies of the messages that answer the request of that sequence number, up to the one that ends the
/// answer: its error number, negative, or 0.
pub fn read(mut bytes: &[u8], sequence: u32, mut each: impl FnMut(&[u8])) -> Option<i32> {
    while let Some((kind, of, body, after)) = split(bytes) {
        bytes = after;
        if of != sequence {
            continue;
        }
        match kind {
            // The end of a dump may say nothing.
            NLMSG_ERROR | NLMSG_DONE => return Some(u32_at(body, 0).map_or(0, u32::cast_signed)),
            _ => each(body),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::encode;

    #[test]
    fn finds_its_acknowledgement() {
        let ack = |sequence: u32, error: i32| {
            let mut bytes = encode(NLMSG_ERROR, 0, sequence, &error.to_ne_bytes());
            bytes.resize(36, 0);
            bytes[0] = 36;
            bytes
        };
        let acknowledgement = |bytes: &[u8], sequence| read(bytes, sequence, |_| ());
        let both = [ack(1, -17), ack(2, 0)].concat();
        assert_eq!(acknowledgement(&both, 1), Some(-17));
        assert_eq!(acknowledgement(&both, 2), Some(0));
        assert_eq!(acknowledgement(&both, 3), None);
        assert_eq!(acknowledgement(&both[..20], 2), None);
        assert_eq!(acknowledgement(&[0; 64], 2), None);
    }
}

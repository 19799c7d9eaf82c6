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

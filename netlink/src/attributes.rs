//! Attributes as they are read. Those that are not asked for are passed over, whatever later kernels put into them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::numbers::{u16_at, u32_at};

/// The low bits of a kind say what it is; the others that it is nested, or in network order.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The attributes of a message, or within one.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Those of a message with a header of that length.
    pub fn after(message: &'a [u8], header: usize) -> Self {
        Self(message.get(header..).unwrap_or_default())
    }

    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        let mut rest = self.0;
        while let Some((found, value, after)) = split(rest) {
            if found == kind {
                return Some(value);
            }
            rest = after;
        }
        None
    }

    pub fn u32(self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    /// Text up to its zero byte.
    pub fn name(self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    pub fn ip(self, kind: u16) -> Option<IpAddr> {
        ip(self.get(kind)?)
    }

    /// A hardware address of any length.
    pub fn mac(self, kind: u16) -> Option<String> {
        let digits: Vec<String> = self.get(kind)?.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(digits.join(":"))
    }
}

/// The family is told by the length.
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        16 => Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
        _ => None,
    }
}

/// The first attribute's kind and value, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16_at(bytes, 0)?);
    let kind = u16_at(bytes, 2)? & NLA_TYPE_MASK;
    let value = bytes.get(4..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, value, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;

    #[test]
    fn reads_what_it_has_written() {
        let inner = Body::new(&[]).with(2, &1300u32.to_ne_bytes());
        let body = Body::new(&[1, 2, 3, 4])
            .with_name(3, "eth0")
            .with(1, &[2, 0, 0, 0, 0xab, 1])
            .with(5, &[10, 1, 0, 1])
            .nest(8, &inner);
        assert_eq!(body.bytes().len() % 4, 0);
        let read = Attributes::after(body.bytes(), 4);
        assert_eq!(read.name(3).as_deref(), Some("eth0"));
        assert_eq!(read.mac(1).as_deref(), Some("02:00:00:00:ab:01"));
        assert_eq!(read.ip(5), Some("10.1.0.1".parse().unwrap()));
        assert_eq!(read.get(8).and_then(|bytes| Attributes::new(bytes).u32(2)), Some(1300));
        assert_eq!(read.get(9), None);
    }

    #[test]
    fn is_not_led_astray_by_lengths() {
        for bytes in [
            &[][..],
            &[0; 3],
            &[0; 16],
            &[200, 0, 1, 0, 5],
            &[2, 0, 1, 0],
            &[4, 0, 1, 0, 9],
        ] {
            assert_eq!(Attributes::new(bytes).get(7), None);
        }
        // Nested, as some kernels mark it.
        assert_eq!(Attributes::new(&[5, 0, 8, 0x80, 42, 0, 0, 0]).get(8), Some(&[42][..]));
        assert_eq!(ip(&[1, 2, 3]), None);
    }
}

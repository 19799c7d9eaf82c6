//! Just enough rtnetlink to configure interfaces: messages that are acknowledged, no dumps.

use std::{io, os::fd::OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// Make it, or put it in the place of what is there.
pub const SET: u16 = 0x400 | 0x100;

/// One request: a fixed header of its kind, then attributes.
#[derive(Clone, Debug)]
pub struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        Self {
            kind,
            flags,
            body: header.to_vec(),
        }
    }

    #[must_use]
    pub fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        // No value here is longer than a name or an address.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&attribute.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    #[must_use]
    pub fn with_if(self, condition: bool, attribute: u16, value: &[u8]) -> Self {
        if condition { self.with(attribute, value) } else { self }
    }

    /// The message that takes back what this one makes.
    #[must_use]
    pub fn inverse(&self, kind: u16) -> Self {
        Self {
            kind,
            flags: 0,
            body: self.body.clone(),
        }
    }

    fn encode(&self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + self.body.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.body.len());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&(self.flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and waits for its acknowledgement.
    pub fn request(&mut self, message: &Message) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.socket, &message.encode(self.sequence), SendFlags::empty())?;
        let mut buffer = [0; 8192];
        loop {
            let (_, length) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::empty())?;
            if let Some(error) = acknowledgement(&buffer[..length.min(8192)], self.sequence) {
                return if error == 0 {
                    Ok(())
                } else {
                    Err(io::Error::from_raw_os_error(-error))
                };
            }
        }
    }
}

/// The error number of the acknowledgement with that sequence number; 0 is success.
fn acknowledgement(mut bytes: &[u8], sequence: u32) -> Option<i32> {
    while let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        let length = usize::try_from(u32_at(header, 0)?).ok()?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if kind == NLMSG_ERROR && u32_at(header, 8)? == sequence {
            return u32_at(bytes, HEADER_BYTES).map(u32::cast_signed);
        }
        bytes = bytes.get(length.max(HEADER_BYTES).next_multiple_of(4)..)?;
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pads_attributes() {
        let message = Message::new(16, 0, &[1, 2, 3, 4])
            .with(3, b"eth0\0")
            .with_if(false, 9, b"no");
        let bytes = message.encode(7);
        assert_eq!(u32_at(&bytes, 0), Some(16 + 4 + 12));
        assert_eq!(
            &bytes[16..],
            [1, 2, 3, 4, 9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0]
        );
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn finds_its_acknowledgement() {
        let ack = |sequence: u32, error: i32| {
            let mut bytes = Message::new(NLMSG_ERROR, 0, &error.to_ne_bytes()).encode(sequence);
            bytes.resize(36, 0);
            bytes[0] = 36;
            bytes
        };
        let both = [ack(1, -17), ack(2, 0)].concat();
        assert_eq!(acknowledgement(&both, 1), Some(-17));
        assert_eq!(acknowledgement(&both, 2), Some(0));
        assert_eq!(acknowledgement(&both, 3), None);
        assert_eq!(acknowledgement(&both[..20], 2), None);
        assert_eq!(acknowledgement(&[0; 64], 2), None);
    }

    #[test]
    fn talks_to_the_kernel() {
        let mut netlink = Netlink::open().unwrap();
        // No such interface; what matters is that the kernel understood the question.
        let header = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
        let error = netlink.request(&Message::new(19, 0, &header)).unwrap_err();
        assert!(
            [libc::ENODEV, libc::EPERM].contains(&error.raw_os_error().unwrap()),
            "{error}"
        );
    }
}

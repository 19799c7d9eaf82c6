use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::message::{u16_at, u32_at};

const HEADER_BYTES: usize = 16;
/// The kernel fills no more than this in one go.
const BUFFER_BYTES: usize = 32 * 1024;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;

/// A connection to the rtnetlink of the namespace that it was opened in.
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
    pub fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, flags | NLM_F_ACK, body)?;
        self.receive(|_| ())
    }

    /// What the kernel answers to a question about one thing.
    pub fn ask(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.send(kind, NLM_F_ACK, body)?;
        let mut answer = Vec::new();
        self.receive(|body| answer = body.to_vec())?;
        Ok(answer)
    }

    /// All that the kernel has of a kind.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.send(kind, NLM_F_DUMP, body)?;
        let mut all = Vec::new();
        self.receive(|body| all.push(body.to_vec()))?;
        Ok(all)
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        send(
            &self.socket,
            &encode(kind, flags, self.sequence, body),
            SendFlags::empty(),
        )?;
        Ok(())
    }

    /// Hands on the bodies of the answer's messages, up to the one that ends it.
    fn receive(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let (_, length) = recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC)?;
            let Some(mut rest) = buffer.get(..length) else {
                return Err(io::Error::other("an answer of rtnetlink is too long"));
            };
            while let Some((kind, sequence, body, after)) = split(rest) {
                rest = after;
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        // Negative, or nothing at the end of a dump.
                        let error = u32_at(body, 0).map_or(0, u32::cast_signed);
                        return if error < 0 {
                            Err(io::Error::from_raw_os_error(-error))
                        } else {
                            Ok(())
                        };
                    }
                    _ => each(body),
                }
            }
        }
    }
}

fn encode(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// The first message's kind, sequence number and body, and what comes after it.
fn split(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let body = bytes.get(HEADER_BYTES..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((u16_at(bytes, 4)?, u32_at(bytes, 8)?, body, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_what_comes_in_one_piece() {
        let both = [encode(16, 0, 1, &[1, 2, 3, 4]), encode(NLMSG_DONE, 0, 1, &[0; 4])].concat();
        let (kind, sequence, body, after) = split(&both).unwrap();
        assert_eq!((kind, sequence, body), (16, 1, &[1, 2, 3, 4][..]));
        let (kind, _, _, after) = split(after).unwrap();
        assert_eq!(kind, NLMSG_DONE);
        assert!(split(after).is_none());
        assert!(split(&both[..19]).is_none());
        assert!(split(&[0; 64]).is_none());
    }

    #[test]
    fn talks_to_the_kernel() {
        let mut netlink = Netlink::open().unwrap();
        // RTM_GETLINK: every namespace has a loopback.
        let links = netlink.dump(18, &[0; 16]).unwrap();
        assert!(!links.is_empty());
        // RTM_SETLINK of an interface that there is not; what matters is that the kernel understood the question.
        let header = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
        let error = netlink.request(19, 0, &header).unwrap_err();
        assert!(
            [libc::ENODEV, libc::EPERM].contains(&error.raw_os_error().unwrap()),
            "{error}"
        );
    }
}

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::answer::read;
use crate::flags::{NLM_F_ACK, NLM_F_DUMP};
use crate::message::encode;

/// An acknowledgement repeats a request that was refused, and no request is nearly as long.
const ACKNOWLEDGEMENT_BYTES: usize = 8 * 1024;
/// The kernel fills no more than this in one go.
const ANSWER_BYTES: usize = 32 * 1024;

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
        self.receive(&mut [0; ACKNOWLEDGEMENT_BYTES], |_| ())
    }

    /// What the kernel answers to a question about one thing.
    pub fn ask(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
        self.send(kind, NLM_F_ACK, body)?;
        let mut answer = Vec::new();
        self.receive(&mut vec![0; ANSWER_BYTES], |body| answer = body.to_vec())?;
        Ok(answer)
    }

    /// All that the kernel has of a kind.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.send(kind, NLM_F_DUMP, body)?;
        let mut all = Vec::new();
        self.receive(&mut vec![0; ANSWER_BYTES], |body| all.push(body.to_vec()))?;
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
    fn receive(&self, buffer: &mut [u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            let (_, length) = recv(&self.socket, &mut *buffer, RecvFlags::TRUNC)?;
            let Some(messages) = buffer.get(..length) else {
                return Err(io::Error::other("an answer of rtnetlink is too long"));
            };
            match read(messages, self.sequence, &mut each) {
                Some(error) if error < 0 => return Err(io::Error::from_raw_os_error(-error)),
                Some(_) => return Ok(()),
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libc::{RTM_GETLINK, RTM_SETLINK};

    use super::*;

    #[test]
    fn reads_what_the_kernel_has() {
        let mut netlink = Netlink::open().unwrap();
        // Every namespace has a loopback.
        let links = netlink.dump(RTM_GETLINK, &[0; 16]).unwrap();
        assert!(!links.is_empty());
    }

    #[test]
    fn talks_to_the_kernel() {
        let mut netlink = Netlink::open().unwrap();
        // An interface that there is not; what matters is that the kernel understood the question.
        let header = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
        let error = netlink.request(RTM_SETLINK, 0, &header).unwrap_err();
        assert!(
            [libc::ENODEV, libc::EPERM].contains(&error.raw_os_error().unwrap()),
            "{error}"
        );
    }
}

//! A server and its client over loopback, and what event loops use.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use crate::Outcome;

const TEXT: &[u8] = b"rehearsal";
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

pub fn talk() -> Outcome {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    epoll::add(&poll, &wake, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    let mut events = Vec::with_capacity(4);
    epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
    let (mut server, _) = listener.accept()?;
    exchange(&mut client, &mut server)?;
    exchange(&mut server, &mut client)?;
    rustix::io::write(&wake, &1u64.to_ne_bytes())?;
    epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&NO_TIME))?;
    drop((client, server));

    let (mut near, mut far) = UnixStream::pair()?;
    exchange(&mut near, &mut far)?;
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.send_to(TEXT, socket.local_addr()?)?;
    socket.recv_from(&mut [0; 16])?;
    Ok(())
}

fn exchange(from: &mut impl Write, to: &mut impl Read) -> io::Result<()> {
    from.write_all(TEXT)?;
    to.read_exact(&mut [0; TEXT.len()])
}

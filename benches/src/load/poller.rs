//! Readiness of many sockets, waited for with the precision of nanoseconds.
//!
//! A generator that may only wait whole milliseconds sends in bursts, and measures its own naps.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Events taken at once.
const BATCH: usize = 256;

/// Sockets, each with a number.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// Nothing is watched yet.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Says when a connection can be read or written anew, or has ended. It is forgotten when it is closed.
    pub fn watch_stream(&self, source: impl AsFd, number: u64) -> io::Result<()> {
        self.watch(source, number, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP)
    }

    /// Says when there is something new to receive.
    pub fn watch_datagrams(&self, source: impl AsFd, number: u64) -> io::Result<()> {
        self.watch(source, number, EventFlags::IN)
    }

    fn watch(&self, source: impl AsFd, number: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(number), flags | EventFlags::ET)?)
    }

    /// Waits at most so long; the numbers of what is ready.
    pub fn wait(&self, at_most: Duration) -> io::Result<Vec<u64>> {
        let at_most = Timespec::try_from(at_most).map_err(io::Error::other)?;
        let mut ready = [PollFd::new(&self.epoll, PollFlags::IN)];
        match poll(&mut ready, Some(&at_most)) {
            // a signal came: whoever waits looks whether it is over
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            waited => waited?,
        };
        let mut events: Vec<Event> = Vec::with_capacity(BATCH);
        let room = rustix::buffer::spare_capacity(&mut events);
        epoll::wait(&self.epoll, room, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(events.iter().map(|event| event.data.u64()).collect())
    }
}

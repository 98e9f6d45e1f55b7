//! The child that is our side: the product's media shard with its relays open, and nothing else.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::channel;

use media::{Order, RelayEvent, RelayId, TableConfig};
use portcullis::clock::Clock;
use portcullis::media_shard::{AddressSets, Shard};
use portcullis_benches::relays::rtp_relay;

use crate::contender::FACES;

/// Opens the sessions, prints the ports of each, and relays until standard input ends.
pub(crate) fn serve(sessions: usize, [phone, pbx]: [SocketAddr; 2]) -> io::Result<()> {
    let config = TableConfig {
        faces: FACES,
        ports: [10_000..=59_999, 10_000..=59_999],
        forbidden: Default::default(),
        seed: 1,
    };
    let clock = Clock::start();
    let (heard, events) = channel();
    let shard = Shard::spawn(
        "media".into(),
        config,
        move || clock.mono(),
        AddressSets::default(),
        // nobody listens any more once all sessions are open
        Box::new(move |event| heard.send(event).unwrap_or_default()),
    )?;
    let mut out = io::stdout().lock();
    for session in 0..sessions {
        let relay = RelayId(session as u64);
        let open = Order::Open { relay, spec: rtp_relay(phone, pbx) };
        shard.order(open, clock.mono()).map_err(io::Error::other)?;
        let ports = events.iter().find_map(|event| match event {
            RelayEvent::Ready { relay: ready, ports } if ready == relay => Some(ports),
            _ => None,
        });
        let Some([outside, inside]) = ports else { return Err(io::Error::other("the shard has ended")) };
        writeln!(out, "{outside} {inside}")?;
    }
    out.flush()?;
    drop(events);
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

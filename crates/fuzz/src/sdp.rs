//! A session description: what we write for the other side can be read, has our addresses and ports alone, and
//! does not change when it is written again.

use std::net::{IpAddr, Ipv4Addr};

use wire::sdp::SessionDescription;

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

pub(crate) fn run(bytes: &[u8]) {
    let Ok(session) = SessionDescription::parse(bytes) else { return };
    let ports: Vec<_> =
        (0..session.media.len()).map(|index| u16::try_from(20_000 + 2 * index).ok()).collect();
    let written = session.rewritten(OURS, &ports, &[]);
    let shown = || written.escape_ascii();
    let again = SessionDescription::parse(&written).unwrap_or_else(|fault| panic!("{fault}: {}", shown()));
    assert_eq!(again.media.len(), session.media.len(), "{}", shown());
    for (index, (old, new)) in session.media.iter().zip(&again.media).enumerate() {
        assert_eq!(
            (old.kind, old.proto, old.direction, old.rtcp_mux),
            (new.kind, new.proto, new.direction, new.rtcp_mux)
        );
        if let Some(to) = again.rtp_address(index) {
            assert_eq!(
                (to.ip(), Some(to.port())),
                (OURS, ports.get(index).copied().flatten()),
                "{}",
                shown()
            );
        }
        if let Some(to) = again.rtcp_address(index) {
            assert_eq!(to.ip(), OURS, "{}", shown());
        }
        assert!(old.port != 0 || new.port == 0, "what was refused stays refused: {}", shown());
    }
    // A line that had our address from the beginning is one of the writer's own the second time.
    let had_ours = bytes.windows(9).any(|window| window == OURS.to_string().as_bytes());
    assert!(had_ours || again.rewritten(OURS, &ports, &[]) == written, "{}", shown());
    hides(&session, &written);
}

/// None of the addresses that the reader understood stands in what is written.
fn hides(session: &SessionDescription<'_>, written: &[u8]) {
    let media = session.media.iter().filter_map(|media| media.connection);
    for address in session.connection.into_iter().chain(media) {
        let text = address.to_string();
        if address == OURS || address.is_unspecified() || OURS.to_string().contains(&text) {
            continue;
        }
        let connection = written.split(|byte| matches!(byte, b'\r' | b'\n')).filter(|line| {
            line.starts_with(b"c=") || line.starts_with(b"o=") || line.starts_with(b"a=rtcp:")
        });
        for line in connection {
            let words = String::from_utf8_lossy(line);
            let told = words.split(' ').any(|word| word == text);
            assert!(!told, "{text} is told: {}", written.escape_ascii());
        }
    }
}

//! Literal addresses without a look-up.

use wire::net::Transport;

use super::*;

#[test]
fn an_address_needs_no_resolver() {
    let sip = |host: &str, port, transport| NameQuery::Sip { host: host.into(), port, transport };
    for (query, expected) in [
        (sip("192.0.2.1", None, None), Some((Transport::Udp, "192.0.2.1:5060"))),
        (sip("192.0.2.1", Some(5070), Some(Transport::Tcp)), Some((Transport::Tcp, "192.0.2.1:5070"))),
        (sip("[2001:db8::1]", None, Some(Transport::Tls)), Some((Transport::Tls, "[2001:db8::1]:5061"))),
        (NameQuery::Address { host: "192.0.2.1".into() }, Some((Transport::Udp, "192.0.2.1:0"))),
        (sip("pbx.example.com", None, None), None),
    ] {
        let expected =
            expected.map(|(transport, address)| vec![(transport, address.parse::<SocketAddr>().unwrap())]);
        assert_eq!(query.literal(), expected, "{query:?}");
    }
}

#[test]
fn the_core_hears_of_an_address_at_the_start() {
    let query = NameQuery::Sip { host: "192.0.2.1".into(), port: None, transport: None };
    let names = vec![NameQuery::Address { host: "192.0.2.9".into() }, query];
    let mut rig = Rig::start(NetConfig { names, ..NetConfig::default() });
    let mut resolved = Vec::new();
    while resolved.len() < 2 {
        if let NetEvent::Resolved { name, targets } = rig.next() {
            resolved.push((name, targets));
        }
    }
    resolved.sort();
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(
        resolved,
        [
            (0, vec![(Transport::Udp, address("192.0.2.9:0"))]),
            (1, vec![(Transport::Udp, address("192.0.2.1:5060"))]),
        ]
    );
}

//! Sources that are blocked while they are in use: what ends, what goes on, and what is said of it.

use media::Order;
use wire::net::HandshakeFault;

use super::calls::call;
use super::*;
use crate::Command;

/// The operator blocks the phone's address, and hears this.
fn block(bench: &mut Bench, flow: FlowId) -> String {
    let prefix = wire::net::Prefix::single(phone_address(flow).ip());
    let why = "rings my neighbour".to_owned();
    bench.put(Input::Command { id: 1, command: Command::BlockAdd { prefix, time: None, why, force: false } });
    let Some(Answer::Done(text)) = bench.answers.pop() else { panic!("{:?}", bench.answers) };
    text
}

/// Somebody at the phone's address offends until it is blocked.
fn offend(bench: &mut Bench, flow: FlowId) {
    for _ in 0..50 {
        let tuple = FiveTuple {
            transport: Transport::Tls,
            local: "203.0.113.10:5061".parse().unwrap(),
            remote: phone_address(flow),
        };
        let fault = HandshakeFault::CertUntrusted;
        bench.put(Input::HandshakeFailed { tuple, fault, detail: "of a stranger".into() });
    }
    assert!(bench.has_event(Code::Blocked));
}

fn text_of(bench: &Bench, code: Code) -> Vec<&str> {
    bench.events.iter().filter(|event| event.code == code).map(|event| event.text.as_str()).collect()
}

/// Whether the media plane was told last that the phone's flow is spared.
fn spared(bench: &Bench) -> bool {
    let spec = |order: &Order| match order {
        Order::Open { spec, .. } | Order::Update { spec, .. } => Some(spec.legs[0].spared),
        Order::Close { .. } => None,
    };
    bench.media.iter().rev().find_map(spec).unwrap()
}

/// A call from the PBX to the phone of a REGISTER that it got.
fn call_to(asked: &Sent) -> String {
    let contact = asked.header(HeaderName::Contact);
    let (uri, _) = contact.trim_start_matches('<').split_once('>').unwrap();
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1;branch=z9hG4bKin\r\nMax-Forwards: 70\r\n\
         From: <sip:2001@main.example>;tag=desk\r\nTo: <sip:1001@main.example>\r\nCall-ID: in-1\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:desk@10.0.1.1>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{OFFER}",
        OFFER.len()
    )
}

#[test]
fn an_operator_who_blocks_a_phone_ends_its_call_and_its_registration() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call(&mut bench, flow);
    let answer = block(&mut bench, flow);
    assert!(answer.contains("cuts off 1 registered phone: 1001"), "{answer}");
    assert!(answer.ends_with("; 1 call was ended"), "{answer}");
    let bye = bench.take("BYE");
    assert_eq!((bye.flow, bye.to), (INSIDE_UDP, pbx_address(0)));
    let gone = bench.take("REGISTER");
    assert!(gone.header(HeaderName::Contact).ends_with(";expires=0"), "{}", gone.text);
    assert!(matches!(bench.media.last(), Some(Order::Close { .. })), "{:?}", bench.media);
    assert!(!bench.sent.iter().any(|sent| sent.flow == flow), "not a byte to a blocked source");
    let words = "the phone's address was blocked by the operator";
    assert!(text_of(&bench, Code::CallFailed)[0].ends_with(words), "{:?}", bench.events);
    assert_eq!(text_of(&bench, Code::Deregistered), [words]);
    assert!(text_of(&bench, Code::Blocked)[0].ends_with("by the operator: rings my neighbour"));
    bench.pbx_says(&bye.answer(200, "desk", ""));
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.border.unfinished()[3], ("calls", 0));
    assert_eq!(text_of(&bench, Code::Deregistered).len(), 1, "told once");
}

#[test]
fn whoever_calls_a_phone_that_is_blocked_while_it_rings_hears_480() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    bench.sent.clear();
    bench.pbx_says(&call_to(&asked));
    let invite = bench.take("INVITE");
    bench.phone_says(flow, &invite.answer(180, "p", ""));
    bench.sent.clear();
    let answer = block(&mut bench, flow);
    assert!(answer.ends_with("; 1 call was ended"), "{answer}");
    assert_eq!(bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status()), Some(480));
}

#[test]
fn a_phone_that_proved_itself_goes_on_until_the_operator_blocks_it_himself() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    call(&mut bench, flow);
    assert!(!spared(&bench));
    offend(&mut bench, flow);
    assert!(spared(&bench), "its media go on as well");
    assert!(!bench.has_event(Code::CallFailed) && !bench.has_event(Code::Deregistered));
    bench.phone_says(flow, &request("INFO", 2, Some("desk"), "application/dtmf-relay", "Signal=1"));
    bench.take("INFO");
    let answer = block(&mut bench, flow);
    assert!(answer.ends_with("; 1 call was ended"), "{answer}");
    assert!(bench.try_take("BYE").is_some());
    assert!(text_of(&bench, Code::Deregistered)[0].ends_with("by the operator"));
}

#[test]
fn a_media_path_is_no_longer_spared_when_the_block_has_ended() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    offend(&mut bench, flow);
    call(&mut bench, flow);
    assert!(spared(&bench), "a call that begins under the block");
    let prefixes = vec![wire::net::Prefix::single(phone_address(flow).ip())];
    bench.put(Input::Command { id: 1, command: Command::BlockRemove { prefixes } });
    assert!(!spared(&bench));
}

#[test]
fn a_phone_known_by_its_password_alone_is_cut_off_by_any_block() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("1003", 1));
    let asked = bench.take("REGISTER");
    bench.pbx_says(&asked.registered(&[]));
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
    offend(&mut bench, flow);
    bench.sent.clear();
    bench.pbx_says(&call_to(&asked));
    assert_eq!(bench.final_answer(INSIDE_UDP).and_then(|answer| answer.status()), Some(480));
    assert!(!bench.has_event(Code::Deregistered), "the PBX keeps it");
    bench.pass(Duration::from_secs(4000));
    assert_eq!(text_of(&bench, Code::Deregistered), ["the phone's address was blocked for offences"]);
}

#[test]
fn a_storm_of_blocks_costs_ten_looks_at_all_that_is_open_in_a_second_and_spares_nobody() {
    let mut config = config();
    config.block.after = 1;
    let mut bench = Bench::with_pbx_up(config);
    let phone = bench.registered(1);
    let (before, since) = (bench.lists, bench.now);
    let attackers: Vec<FlowId> = (20..70).map(|flow| bench.connect(flow, None)).collect();
    for flow in &attackers {
        bench.phone_says(*flow, "no SIP at all\r\n\r\n");
        let tuple = FiveTuple {
            transport: Transport::Tls,
            local: "203.0.113.10:5061".parse().unwrap(),
            remote: phone_address(*flow),
        };
        bench.put(Input::FlowOpened {
            flow: FlowId(flow.0 + 1_000),
            side: Side::Outside,
            tuple,
            device: None,
        });
        bench.pass(Duration::from_millis(4));
    }
    assert_eq!(bench.status().blocks, attackers.len());
    bench.pass(Duration::from_millis(100));
    let looks = u128::try_from(bench.lists - before).unwrap();
    assert!((2..=(bench.now - since).as_millis() / 100 + 1).contains(&looks), "{looks}");
    // Each is turned away from the moment of its block, not from when that was carried out.
    let refused = |flow: &&FlowId| bench.closed.contains(&FlowId(flow.0 + 1_000));
    assert_eq!(attackers.iter().filter(refused).count(), attackers.len());
    bench.phone_says(phone, &register("1001", 2));
    assert_eq!(bench.final_answer(phone).and_then(|answer| answer.status()), Some(200));

    // A phone at a blocked address is spared at once; `net` is told of it by the next look.
    offend_once(&mut bench, FlowId(90));
    offend_once(&mut bench, phone);
    let told = bench.lists;
    bench.phone_says(phone, &register("1001", 3));
    assert_eq!(bench.final_answer(phone).and_then(|answer| answer.status()), Some(200), "spared at once");
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.lists, told + 1);
    let block = Command::BlockAdd {
        prefix: wire::net::Prefix::single(phone_address(phone).ip()),
        time: None,
        why: String::new(),
        force: false,
    };
    offend_once(&mut bench, FlowId(91));
    bench.put(Input::Command { id: 1, command: block });
    assert!(bench.closed.contains(&phone), "an order is carried out at once");
}

/// One offence from a phone's address.
fn offend_once(bench: &mut Bench, flow: FlowId) {
    let (local, remote) = ("203.0.113.10:5061".parse().unwrap(), phone_address(flow));
    let tuple = FiveTuple { transport: Transport::Tls, local, remote };
    bench.put(Input::HandshakeFailed {
        tuple,
        fault: HandshakeFault::CertUntrusted,
        detail: "of a stranger".into(),
    });
}

#[test]
fn the_lists_follow_the_addresses_of_an_allowed_name() {
    let mut config = config();
    config.allowed.push(crate::config::Allowed {
        name: "partner".into(),
        description: String::new(),
        prefixes: Vec::new(),
        address: "partner.example".into(),
    });
    let mut bench = Bench::new(config);
    for (address, told) in [("192.0.2.7", true), ("192.0.2.7", false), ("192.0.2.8", true)] {
        let ip: std::net::IpAddr = address.parse().unwrap();
        let targets = vec![Target { transport: Transport::Udp, address: SocketAddr::new(ip, 5060) }];
        bench.border.handle_input(Input::Resolved { name: ResolvedName::Allowed(0), targets }, bench.time());
        let lists = std::iter::from_fn(|| bench.border.poll_output()).find_map(|output| {
            let Output::Lists { allowed, .. } = output else { return None };
            Some(["192.0.2.7", "192.0.2.8"].map(|ip| allowed.contains(ip.parse().unwrap())))
        });
        let only = ["192.0.2.7", "192.0.2.8"].map(|other| other == address);
        assert_eq!(lists, told.then_some(only), "{address}");
    }
}

/// Whoever is at the phone's address offends until it is blocked: for how long.
fn blocked_for(bench: &mut Bench, flow: FlowId) -> String {
    bench.events.clear();
    offend(bench, flow);
    let text = text_of(bench, Code::Blocked).pop().unwrap();
    text.split_once(" is blocked for ").unwrap().1.split_once(':').unwrap().0.to_owned()
}

fn block_records(bench: &Bench) -> usize {
    bench.stored.keys().filter(|(table, _)| *table == Table::Blocks).count()
}

#[test]
fn a_block_that_was_over_before_a_restart_still_doubles_the_next() {
    const HOUR: i64 = 3_600_000;
    let mut config = config();
    config.pbx[0].health_check = Duration::from_secs(86_400);
    let stranger = FlowId(9);
    let mut bench = Bench::with_pbx_up(config.clone());
    assert_eq!(blocked_for(&mut bench, stranger), "2m");
    bench.pass(Duration::from_secs(120));
    assert!(bench.has_event(Code::Unblocked));
    for (set, length, records) in [
        (0, "4m", 1),
        (24 * HOUR - 1, "4m", 1),
        (24 * HOUR, "2m", 0),
        // Set back to a moment in which it was in force, or had not begun: it is over all the same.
        (-60_000, "4m", 1),
        (-HOUR, "4m", 1),
    ] {
        let wall = WallTime(bench.time().wall.0.saturating_add_signed(set));
        let start = Now { mono: Instant::ZERO, wall };
        let mut again = Bench::started_at(config.clone(), bench.records(), start);
        assert_eq!((again.status().blocks, block_records(&again)), (0, records), "{set}");
        // And the one that follows is still known after one start more.
        let mut again = Bench::started_at(config.clone(), again.records(), start);
        assert_eq!(blocked_for(&mut again, stranger), length, "{set}");
        assert_eq!((again.status().blocks, block_records(&again)), (1, 1), "in the place of the old one");
    }
}

#[test]
fn a_block_that_ended_while_we_were_down_is_over_for_good() {
    let stranger = FlowId(9);
    let mut bench = Bench::with_pbx_up(config());
    assert_eq!(blocked_for(&mut bench, stranger), "2m");
    let at =
        |ms: i64| Now { mono: Instant::ZERO, wall: WallTime(bench.time().wall.0.saturating_add_signed(ms)) };
    let down = Bench::started_at(config(), bench.records(), at(120_000));
    let mut again = Bench::started_at(config(), down.records(), at(0));
    assert_eq!(
        again.status().blocks,
        0,
        "though the clock was set back to a moment in which it was in force"
    );
    assert_eq!(blocked_for(&mut again, stranger), "4m");
}

#[test]
fn the_record_of_a_block_that_is_over_goes_when_it_counts_no_more() {
    let mut config = config();
    config.pbx[0].health_check = Duration::from_secs(86_400);
    let mut bench = Bench::with_pbx_up(config);
    let [pardoned, old, newer] = [7, 8, 60].map(FlowId);
    for stranger in [pardoned, old] {
        blocked_for(&mut bench, stranger);
    }
    bench.pass(Duration::from_secs(120));
    assert_eq!(block_records(&bench), 2);
    let prefix: wire::net::Prefix = "198.51.100.6/31".parse().unwrap();
    let command = Command::BlockAdd { prefix, time: None, why: String::new(), force: false };
    bench.put(Input::Command { id: 1, command });
    assert_eq!(block_records(&bench), 3);
    bench.put(Input::Command { id: 1, command: Command::BlockRemove { prefixes: vec![prefix] } });
    assert_eq!(block_records(&bench), 1, "who is pardoned begins anew after a start too");
    bench.pass(Duration::from_secs(86_399));
    blocked_for(&mut bench, newer);
    assert_eq!(block_records(&bench), 2);
    bench.pass(Duration::from_secs(120));
    assert_eq!(block_records(&bench), 1, "a day is over");
}

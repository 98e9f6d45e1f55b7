//! A PBX and one that stands by: who waits for which, and who goes back.

use super::*;

const MAIN: usize = 0;
const STANDBY: usize = 1;

fn two_pbxs() -> Bench {
    let mut config = config();
    let mut standby = pbx("standby", 2);
    standby.domain = "main.example".into();
    config.pbx.push(standby);
    Bench::new(config)
}

impl Bench {
    /// Takes the first request of this method that went to this PBX, with all its repetitions; no question which
    /// contacts it has.
    fn take_at(&mut self, pbx: usize, method: &str) -> Option<Sent> {
        let place = self.sent.iter().position(|sent| {
            sent.to == pbx_address(pbx)
                && sent.text.starts_with(method)
                && (method != "REGISTER" || !sent.header(HeaderName::Contact).is_empty())
        })?;
        let taken = self.sent.remove(place);
        self.sent.retain(|sent| sent.text != taken.text);
        Some(taken)
    }

    /// Takes the first REGISTER without a Contact that this PBX was asked.
    fn question_at(&mut self, pbx: usize) -> Option<Sent> {
        let place = self.sent.iter().position(|sent| {
            sent.to == pbx_address(pbx)
                && sent.text.starts_with("REGISTER")
                && sent.header(HeaderName::Contact).is_empty()
        })?;
        Some(self.sent.remove(place))
    }

    /// A PBX answers what it was asked for its health, and says nothing of its contacts.
    fn healthy(&mut self, pbx: usize) {
        while let Some(options) = self.take_at(pbx, "OPTIONS") {
            self.pbx_says_from(pbx, &options.answer(200, "o", ""));
        }
        while let Some(question) = self.question_at(pbx) {
            self.pbx_says_from(pbx, &question.answer(503, "q", ""));
        }
    }

    /// Lets time pass in which these PBXs answer health checks.
    fn pass_healthy(&mut self, time: Duration, pbxs: &[usize]) {
        let until = self.now + time;
        while self.now < until {
            self.pass(Duration::from_millis(100).min(until - self.now));
            for pbx in pbxs {
                self.healthy(*pbx);
            }
        }
    }

    /// A REGISTER that went to this PBX is answered as a registrar does.
    #[track_caller]
    fn confirmed_at(&mut self, pbx: usize) -> Sent {
        let asked = self.take_at(pbx, "REGISTER").unwrap_or_else(|| panic!("no REGISTER: {:#?}", self.sent));
        self.pbx_says_from(pbx, &asked.registered(&[]));
        asked
    }

    /// A phone of 1001 that is at the standby, while the main PBX has never been heard; the wait is over.
    fn registered_at_standby(&mut self) -> FlowId {
        let flow = self.connect(100, Some(DEVICE));
        self.phone_says(flow, &register("1001", 1));
        self.pass_healthy(Duration::from_secs(6), &[STANDBY]);
        self.confirmed_at(STANDBY);
        assert_eq!(self.final_answer(flow).and_then(|answer| answer.status()), Some(200));
        flow
    }

    /// Whether a registration went to the main PBX.
    fn is_moving_back(&self) -> bool {
        self.sent.iter().any(|sent| {
            sent.to == pbx_address(MAIN)
                && sent.text.starts_with("REGISTER")
                && !sent.header(HeaderName::Contact).is_empty()
        })
    }

    /// Lets time pass until one does.
    fn pass_until_moving_back(&mut self) {
        let since = self.now;
        while !self.is_moving_back() {
            assert!(self.now - since < Duration::from_secs(120), "nothing goes back");
            self.pass_healthy(Duration::from_millis(100), &[MAIN, STANDBY]);
        }
    }
}

#[test]
fn the_first_registrations_wait_for_the_main_pbx_though_the_standby_is_faster() {
    let mut bench = two_pbxs();
    bench.healthy(STANDBY);
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    bench.pass(Duration::from_secs(4));
    assert!(bench.take_at(STANDBY, "REGISTER").is_none() && bench.final_answer(flow).is_none());
    bench.healthy(MAIN);
    bench.confirmed_at(MAIN);
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200));
}

#[test]
fn a_main_pbx_that_is_silent_is_waited_for_no_longer_than_its_phones_wait() {
    let mut bench = two_pbxs();
    bench.healthy(STANDBY);
    let since = bench.now;
    let (phone, digest) = (bench.connect(100, Some(DEVICE)), bench.connect(101, None));
    bench.phone_says(phone, &register("1001", 1));
    bench.phone_says(digest, &register("1003", 1));
    bench.pass_healthy(Duration::from_millis(4_900), &[STANDBY]);
    assert!(bench.take_at(STANDBY, "REGISTER").is_none());
    bench.pass_healthy(Duration::from_millis(200), &[STANDBY]);
    bench.confirmed_at(STANDBY);
    let passed = bench.take_at(STANDBY, "REGISTER").expect("the digest phone's REGISTER");
    bench.pbx_says_from(STANDBY, &passed.answer(401, "c", CHALLENGE));
    assert_eq!(bench.final_answer(phone).and_then(|answer| answer.status()), Some(200));
    assert_eq!(bench.final_answer(digest).and_then(|answer| answer.status()), Some(401));
    // Whom the standby does not answer either waits as long as everybody, from when he asked.
    let mut hangs = two_pbxs();
    hangs.healthy(STANDBY);
    let phone = hangs.connect(100, Some(DEVICE));
    hangs.phone_says(phone, &register("1001", 1));
    hangs.pass_healthy(Duration::from_secs(11), &[STANDBY]);
    let answer = hangs.final_answer(phone).unwrap();
    assert_eq!((answer.status(), answer.at - since), (Some(503), Duration::from_secs(10)));
}

#[test]
fn who_is_blocked_while_he_waits_for_the_main_pbx_hears_nothing() {
    for name in ["1003", "4711"] {
        let mut bench = two_pbxs();
        bench.healthy(STANDBY);
        let from: SocketAddr = "192.0.2.7:5060".parse().unwrap();
        let text = register(name, 1).replace("/TLS", "/UDP");
        bench.put(Input::Bytes { flow: OUTSIDE_UDP, from, bytes: text.as_bytes() });
        let (prefix, before) = (wire::net::Prefix::single(from.ip()), bench.status().drops);
        let command = Command::BlockAdd { prefix, time: None, why: String::new(), force: false };
        bench.put(Input::Command { id: 1, command });
        bench.healthy(MAIN);
        bench.pass(Duration::from_secs(6));
        assert!(bench.take_at(MAIN, "REGISTER").is_none() && bench.take_answer(OUTSIDE_UDP).is_none());
        assert_eq!(bench.dropped_since(&before), [(crate::DropReason::Blocked, 1)], "{name}");
    }
}

#[test]
fn a_stranger_waits_for_the_main_pbx_as_a_phone_does() {
    let mut bench = two_pbxs();
    bench.healthy(STANDBY);
    let (known, unknown) = (bench.connect(100, None), bench.connect(101, None));
    bench.phone_says(known, &register("1003", 1));
    bench.phone_says(unknown, &register("4711", 1));
    bench.pass(Duration::from_secs(2));
    assert!(bench.final_answer(known).is_none() && bench.final_answer(unknown).is_none());
    assert_eq!(bench.events.iter().filter(|event| event.code == Code::NameUnknown).count(), 1);
    bench.healthy(MAIN);
    let passed = bench.take_at(MAIN, "REGISTER").expect("the phone's REGISTER");
    bench.pbx_says(&passed.answer(401, "c", CHALLENGE));
    while let Some(asked) = bench.question_at(MAIN) {
        bench.pbx_says(&asked.answer(401, "c", CHALLENGE));
    }
    bench.pass(Duration::from_millis(1));
    for flow in [known, unknown] {
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(401));
    }
    assert_eq!(bench.events.iter().filter(|event| event.code == Code::NameUnknown).count(), 1, "told once");
}

#[test]
fn whoever_hangs_up_while_he_waits_is_forgotten_without_offence() {
    let mut bench = two_pbxs();
    let flow = bench.connect(100, Some(DEVICE));
    bench.phone_says(flow, &register("1001", 1));
    bench.put(Input::FlowClosed { flow });
    bench.healthy(MAIN);
    bench.pass(Duration::from_secs(6));
    assert!(!bench.is_moving_back(), "nobody is registered");
    assert!(!bench.has_event(Code::CertMissing) && !bench.has_event(Code::Detected), "{:#?}", bench.events);
}

#[test]
fn a_phone_at_the_standby_goes_back_when_the_main_pbx_has_stayed_up_for_a_while() {
    let mut bench = two_pbxs();
    bench.healthy(STANDBY);
    let flow = bench.registered_at_standby();
    // Up, but not for long.
    bench.healthy(MAIN);
    bench.pass_healthy(Duration::from_secs(12), &[MAIN, STANDBY]);
    bench.pass_healthy(Duration::from_secs(40), &[STANDBY]);
    assert!(bench.has_event(Code::PbxDown));
    assert!(!bench.is_moving_back(), "a PBX that comes and goes gets nobody back");
    // Up for good.
    bench.phone_says(flow, &register("1001", 2));
    bench.pass_healthy(Duration::from_secs(20), &[STANDBY]);
    bench.healthy(MAIN);
    let up = bench.now;
    bench.pass_until_moving_back();
    assert!((20..=30).contains(&(bench.now - up).as_secs()), "{:?}", bench.now - up);
    let asked = bench.take_at(MAIN, "REGISTER").unwrap();
    bench.pbx_says_from(MAIN, &asked.answer(401, "c", CHALLENGE));
    bench.confirmed_at(MAIN);
    assert!(bench.take_at(STANDBY, "REGISTER").is_none(), "its old place is left to run out");
    let told = bench.events.last().unwrap();
    assert_eq!((told.code, told.text.contains("PBX main")), (Code::Reregistered, true), "{told:?}");
    // From now on it is refreshed there, and calls go there.
    bench.sent.clear();
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    assert!(bench.take_at(MAIN, "INVITE").is_some());
}

#[test]
fn each_return_is_told_of_once() {
    // Whether the standby confirmed it once more when the main PBX was up already.
    for refreshed in [false, true] {
        let mut bench = two_pbxs();
        bench.healthy(STANDBY);
        let flow = bench.connect(100, Some(DEVICE));
        bench.phone_says(flow, &register("1001", 1));
        bench.pass_healthy(Duration::from_secs(6), &[STANDBY]);
        let asked = bench.take_at(STANDBY, "REGISTER").unwrap();
        let expires = if refreshed { "expires=40" } else { "expires=3600" };
        bench.pbx_says_from(STANDBY, &asked.registered(&[]).replace("expires=3600", expires));
        bench.pass_healthy(Duration::from_secs(20), &[STANDBY]);
        bench.healthy(MAIN);
        if refreshed {
            bench.pass_healthy(Duration::from_secs(15), &[MAIN, STANDBY]);
            bench.confirmed_at(STANDBY);
        }
        bench.pass_until_moving_back();
        bench.events.clear();
        bench.confirmed_at(MAIN);
        let told = bench.events.iter().filter(|event| event.code == Code::Reregistered);
        let told: Vec<bool> = told.map(|event| event.text.contains("PBX main")).collect();
        assert_eq!(told, [true], "refreshed: {refreshed}, {:#?}", bench.events);
    }
}

#[test]
fn a_phone_stays_at_the_standby_while_the_main_pbx_does_not_take_it_back() {
    for status in [403, 404, 503] {
        let mut bench = two_pbxs();
        bench.healthy(STANDBY);
        let flow = bench.registered_at_standby();
        bench.healthy(MAIN);
        let mut tries = 0;
        for refresh in 2..6 {
            bench.phone_says(flow, &register("1001", refresh));
            assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(200), "{status}");
            bench.pass_healthy(Duration::from_secs(35), &[MAIN, STANDBY]);
            while let Some(asked) = bench.take_at(MAIN, "REGISTER") {
                bench.pbx_says_from(MAIN, &asked.answer(status, "n", ""));
                tries += 1;
            }
        }
        assert!((2..=3).contains(&tries), "it is tried again now and then: {tries}, {status}");
        bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
        assert!(bench.take_at(STANDBY, "INVITE").is_some(), "{status}");
    }
}

#[test]
fn those_who_go_back_keep_the_pace_and_let_others_go_first() {
    let mut bench = two_pbxs();
    bench.border.config.pbx[MAIN].registrations = "1/1s".parse().unwrap();
    bench.border.pbxs[MAIN].pacing = guard::CallLimit::new(vec!["1/1s".parse().unwrap()]);
    bench.healthy(STANDBY);
    bench.registered_at_standby();
    let second = bench.connect(101, Some(OTHER_DEVICE));
    bench.phone_says(
        second,
        &register("1001", 1).replace("reg-1001", "reg-other").replace("z9hG4bKr", "z9hG4bKo"),
    );
    bench.confirmed_at(STANDBY);
    bench.healthy(MAIN);
    bench.pass_until_moving_back();
    let third = bench.connect(102, Some("009033010205"));
    bench.phone_says(third, &register("1002", 1));
    for extension in ["1001", "1002", "1001"] {
        let went = bench.confirmed_at(MAIN);
        assert!(went.header(HeaderName::To).contains(extension), "a new phone before one that has a place");
        assert!(!bench.is_moving_back(), "one a second");
        bench.pass_healthy(Duration::from_secs(1), &[MAIN, STANDBY]);
    }
}

#[test]
fn a_phone_that_leaves_on_its_way_back_is_taken_out_of_both() {
    let mut bench = two_pbxs();
    bench.healthy(STANDBY);
    let flow = bench.registered_at_standby();
    bench.healthy(MAIN);
    bench.pass_until_moving_back();
    bench.phone_says(flow, &register("1001", 2).replace("expires=120", "expires=0"));
    assert!(bench.take_at(STANDBY, "REGISTER").unwrap().header(HeaderName::Contact).ends_with("expires=0"));
    bench.confirmed_at(MAIN);
    assert!(bench.take_at(MAIN, "REGISTER").unwrap().header(HeaderName::Contact).ends_with("expires=0"));
}

#[test]
fn a_call_goes_on_where_it_began() {
    let mut bench = two_pbxs();
    bench.healthy(STANDBY);
    let flow = bench.registered_at_standby();
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take_at(STANDBY, "INVITE").unwrap();
    bench.pbx_says_from(STANDBY, &accepted(&invite, "desk").replace("10.0.1.1", "10.0.1.2"));
    bench.phone_says(flow, &request("ACK", 1, Some("desk"), "", ""));
    bench.healthy(MAIN);
    bench.pass_until_moving_back();
    bench.confirmed_at(MAIN);
    bench.phone_says(flow, &request("BYE", 2, Some("desk"), "", ""));
    assert!(bench.take_at(STANDBY, "BYE").is_some() && bench.take_at(MAIN, "BYE").is_none());
}

/// The moments at which the border tries to connect to a PBX that refuses every connection.
fn tries_of(bench: &mut Bench, time: Duration) -> Vec<u128> {
    let (since, until) = (bench.now, bench.now + time);
    let mut tries = Vec::new();
    loop {
        for flow in std::mem::take(&mut bench.opening) {
            tries.push((bench.now - since).as_millis());
            bench.put(Input::FlowFailed { flow });
        }
        match bench.border.poll_timeout().filter(|at| *at <= until) {
            Some(at) => bench.pass(at - bench.now),
            None => return tries,
        }
    }
}

#[test]
fn a_pbx_whose_connection_is_lost_is_asked_again_sooner_than_its_next_health_check() {
    let mut config = config();
    config.pbx[MAIN].health_check = Duration::from_secs(3);
    let mut bench = Bench::new(config);
    let targets = vec![Target { transport: Transport::Tcp, address: pbx_address(MAIN) }];
    bench.put(Input::Resolved { name: ResolvedName::Pbx(MAIN), targets });
    bench.pass(Duration::from_secs(3));
    let tries = tries_of(&mut bench, Duration::from_secs(10));
    // Up to the interval of the health checks, which go on.
    assert_eq!(tries, [0, 100, 600, 1_600, 3_000, 3_600, 6_000, 9_000]);
    // It is back: the loss of its connection is news again.
    let flow = loop {
        bench.pass(Duration::from_millis(100));
        if let Some(flow) = bench.opening.pop() {
            break flow;
        }
    };
    let tuple = FiveTuple {
        transport: Transport::Tcp,
        local: "10.0.0.1:40000".parse().unwrap(),
        remote: pbx_address(MAIN),
    };
    bench.put(Input::FlowOpened { flow, side: Side::Inside, tuple, device: None });
    let steady = |bench: &mut Bench| {
        while let Some(options) = bench.take_at(MAIN, "OPTIONS") {
            let answer = options.answer(200, "o", "");
            bench.put(Input::Bytes { flow, from: pbx_address(MAIN), bytes: answer.as_bytes() });
        }
    };
    for _ in 0..40 {
        steady(&mut bench);
        bench.pass(Duration::from_millis(100));
    }
    bench.put(Input::FlowClosed { flow });
    assert_eq!(tries_of(&mut bench, Duration::from_millis(700)), [100, 600]);
}

#[test]
fn the_media_plane_knows_the_addresses_of_every_pbx_as_they_are_now() {
    let mut bench = Bench::new(config());
    let known = |bench: &Bench, address: &str| bench.pbx_addresses.contains(address.parse().unwrap());
    assert!(bench.pbx_addresses.contains(pbx_address(MAIN).ip()));
    let target = |address: &str| Target { transport: Transport::Udp, address: address.parse().unwrap() };
    let targets = vec![target("10.0.0.77:5060"), target("10.0.0.78:5060")];
    bench.put(Input::Resolved { name: ResolvedName::Pbx(MAIN), targets });
    assert!(known(&bench, "10.0.0.77") && known(&bench, "10.0.0.78"));
    assert!(!bench.pbx_addresses.contains(pbx_address(MAIN).ip()));
    bench.put(Input::Resolved { name: ResolvedName::Pbx(MAIN), targets: Vec::new() });
    assert!(known(&bench, "10.0.0.77"), "a look-up in vain changes nothing");
}

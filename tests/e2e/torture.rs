//! The messages of RFC 4475 and RFC 5118, sent to the running border: each gets the answer that their table
//! says, nobody else hears of it, and calls go on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use portcullis_tests::kamailio::DOMAIN;
use portcullis_tests::lab::{Lab, Variation};
use portcullis_tests::raw_message::{Draft, RawMessage, unique};
use portcullis_tests::raw_phone::{RawPhone, Silence};
use portcullis_tests::rtp::RtpEnd;

use crate::support::{Established, SOON, call_desk, hang_up, wait_idle};

/// No automatic blocks, for tests that offend on purpose.
const PATIENT: (&str, &str) = ("[block]\n", "[block]\nafter = 1000\n");

/// Calls are not limited, for tests that make many.
const TALKATIVE: (&str, &str) = (r#"rules = ["5/1s", "60/1h"]"#, r#"rules = ["1000/1s"]"#);

/// Long enough for an answer that is wrongly given to arrive after what it waits for.
const A_MOMENT: Duration = Duration::from_millis(300);

/// One message, and what becomes of it: of a stranger's and of a phone's, by UDP and by TCP.
struct Case {
    name: String,
    bytes: Vec<u8>,
    stranger: [Fate; 2],
    phone: [Fate; 2],
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    /// The final answer to it.
    answer: Option<u16>,
    /// Whether the connection ends.
    closed: bool,
    /// Whether what follows is taken for a part of it, and not answered.
    swallows: bool,
}

impl Fate {
    fn read(cell: &str) -> Self {
        let mut fate = Self::default();
        for word in cell.split(' ') {
            match word {
                "-" => {}
                "closed" => fate.closed = true,
                "waits" | "lost" => fate.swallows = true,
                code => fate.answer = Some(code.parse().expect("a status code")),
            }
        }
        fate
    }
}

/// All messages with the rows of their table.
fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/wire/tests/sip_torture");
    let table = fs::read_to_string(folder.join("README.md")).expect("the table is part of the tree");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.skip(2)
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let fate = |column: usize| Fate::read(cells[column]);
            let name = cells[1].to_owned();
            let bytes = fs::read(folder.join(format!("{name}.sip"))).expect("a row has its file");
            Case { name, bytes, stranger: [fate(3), fate(4)], phone: [fate(5), fate(6)] }
        })
        .collect()
}

/// A sound request whose answer tells that what came before it was read.
fn control(method: &str) -> (String, String) {
    let id = unique("control");
    let text = format!(
        "{method} sip:pbx.lab SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;rport;branch=z9hG4bK{id}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:1003@pbx.lab>;tag=t\r\nTo: <sip:pbx.lab>\r\nCall-ID: {id}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:a@192.0.2.1>\r\nContent-Length: 0\r\n\r\n"
    );
    (text, id)
}

/// Sends the message and a sound request after it, and tells what came of the message.
fn observe(phone: &mut RawPhone, case: &Case, expected: Fate, method: &str) -> Fate {
    let (sound, id) = control(method);
    phone.send_bytes(&case.bytes);
    phone.send_bytes(sound.as_bytes());
    let mut found = Fate { swallows: true, ..Fate::default() };
    loop {
        let whole = found.answer == expected.answer && !found.swallows && !expected.closed;
        let silent = expected.swallows && found.answer == expected.answer;
        let wait = match (whole, silent) {
            (true, _) => return found,
            (false, true) => A_MOMENT,
            (false, false) => SOON,
        };
        match phone.receive(wait) {
            Ok(message) if message.values("Call-ID") == [id.as_str()] => found.swallows = false,
            Ok(message) if message.status() < 200 => {}
            Ok(message) => found.answer = Some(message.status()),
            Err(Silence::Nothing) => return found,
            Err(_) => return Fate { closed: true, swallows: false, ..found },
        }
    }
}

/// Registers 1003 with its password at this phone, by one contact whatever its address.
fn register(phone: &mut RawPhone) {
    let contact = format!("sip:1003@192.0.2.77;transport={}", phone.transport().to_lowercase());
    let mut register = Draft::register("1003", DOMAIN, &contact, 600);
    let challenge = phone.ask(&register);
    let answer = phone.ask(register.follow_up().authorize(&challenge, "1003", "secret1003"));
    assert_eq!(answer.status(), 200, "{answer:?}");
}

#[test]
fn every_torture_message_gets_its_answer() {
    let mut lab = Lab::with(&Variation { replace: &[PATIENT], ..Variation::default() });
    let mark = lab.pbx.mark();
    let cases = cases();
    assert_eq!(cases.len(), 61);
    let mut strangers = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        // Addresses of their own: nobody floods. And ports: several of these messages have one branch.
        let [from, home] = [10, 80].map(|first| lab.addresses.phone(first + number as u8));
        let mut datagrams = RawPhone::udp(from, lab.plain());
        let mut stream = RawPhone::tcp(from, lab.plain()).expect("TCP is open");
        let mut phone = RawPhone::tcp(home, lab.plain()).expect("TCP is open");
        register(&mut phone);
        let mut registered = RawPhone::udp(home, lab.plain());
        register(&mut registered);
        for (link, expected, method, who) in [
            (&mut datagrams, case.stranger[0], "INVITE", "a stranger by UDP"),
            (&mut stream, case.stranger[1], "INVITE", "a stranger by TCP"),
            (&mut registered, case.phone[0], "OPTIONS", "a phone by UDP"),
            (&mut phone, case.phone[1], "OPTIONS", "a phone by TCP"),
        ] {
            let found = observe(link, case, expected, method);
            assert_eq!(found, expected, "{} of {who}", case.name);
        }
        strangers.push((&case.name, datagrams));
    }
    for (name, mut stranger) in strangers {
        assert_eq!(
            stranger.receive(Duration::from_millis(1)),
            Err(Silence::Nothing),
            "{name}: a late answer"
        );
    }
    let heard = lab.pbx.received_after(mark);
    let of_torture: Vec<_> = heard.iter().filter(|message| message.0.contains("example.")).collect();
    assert!(of_torture.is_empty(), "{of_torture:#?}");
    assert_calls_are_possible(&mut lab);
}

/// The process is alive, and a call goes through.
#[track_caller]
fn assert_calls_are_possible(lab: &mut Lab) {
    assert!(lab.portcullis.is_running());
    let (mut phone, mut desk) = (lab.registered_phone(1), lab.desk_phone("2001"));
    let outside = RtpEnd::open(lab.addresses.phone(1), None);
    let inside = RtpEnd::open(lab.addresses.inside_phone(), None);
    let Established { mut caller, .. } = call_desk(&mut phone, &mut desk, [&outside, &inside]);
    hang_up(&mut phone, &mut caller, &mut desk);
    wait_idle(lab);
}

/// The message as a registered phone could send it: From is 1003's, and what it is for lies in our domain.
fn dressed(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
    let mut lines: Vec<Vec<u8>> = bytes[..end].split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let mut field = String::new();
    for (number, line) in lines.iter_mut().enumerate() {
        if !line.starts_with(b" ") {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            field = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
        }
        let is_register = bytes.starts_with(b"REGISTER");
        if matches!(field.as_str(), "from" | "f") || (is_register && matches!(field.as_str(), "to" | "t")) {
            replace_uri(line, b"sip:1003@pbx.lab");
        } else if number == 0 {
            replace_host(line);
        }
    }
    [lines.join(&b'\n'), bytes[end..].to_vec()].concat()
}

/// Puts another URI in the place of the first one.
fn replace_uri(line: &mut Vec<u8>, uri: &[u8]) {
    let Some(start) = line.windows(4).position(|four| four == b"sip:") else { return };
    let rest = &line[start..];
    let length = rest.iter().position(|byte| b"> ;\r".contains(byte)).unwrap_or(rest.len());
    line.splice(start..start + length, uri.iter().copied());
}

/// Puts our domain in the place of the host of the Request-URI.
fn replace_host(line: &mut Vec<u8>) {
    let at = line.iter().rposition(|byte| *byte == b'@');
    let scheme = line.windows(4).position(|four| four == b"sip:").map(|start| start + 3);
    let Some(start) = at.or(scheme).map(|before| before + 1) else { return };
    let rest = &line[start..];
    let length = rest.iter().position(|byte| b"> ;?\r".contains(byte)).unwrap_or(rest.len());
    line.splice(start..start + length, b"pbx.lab".iter().copied());
}

#[test]
fn what_passes_of_the_torture_passes_clean() {
    let mut lab = Lab::with(&Variation { replace: &[PATIENT, TALKATIVE], ..Variation::default() });
    let mut phone = RawPhone::udp(lab.addresses.phone(90), lab.plain());
    register(&mut phone);
    let mark = lab.pbx.mark();
    for case in cases() {
        let (sound, id) = control("OPTIONS");
        phone.send_bytes(&dressed(&case.bytes));
        phone.send_bytes(sound.as_bytes());
        while phone.receive(SOON).expect("the sound request is answered").values("Call-ID") != [id.as_str()] {
        }
    }
    let mut sound = Draft::request("MESSAGE", "sip:9999@pbx.lab", "sip:1003@pbx.lab", "sip:9999@pbx.lab");
    sound.set("X-Mark", "the-last-one");
    phone.send(&sound);
    portcullis_tests::deadline::wait_until("the last request is at the PBX", SOON, || {
        lab.pbx.requests_after(mark, "MESSAGE").iter().any(|it| it.0.contains("the-last-one")).then_some(())
    });
    let mut passed = BTreeSet::new();
    for message in lab.pbx.received_after(mark).iter().filter(|message| message.status() == 0) {
        assert_clean(message, &lab);
        passed.insert(message.method().to_owned());
    }
    // Calls and registrations among them, so that there is something to judge.
    assert!(
        passed.contains("INVITE") && passed.contains("REGISTER") && passed.contains("MESSAGE"),
        "{passed:?}"
    );
    assert_calls_are_possible(&mut lab);
}

/// What the PBX gets is of one meaning, and names nobody outside.
#[track_caller]
fn assert_clean(message: &RawMessage, lab: &Lab) {
    for name in ["Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length"] {
        assert_eq!(message.values(name).len(), 1, "{name} stands once: {message:?}");
    }
    let head = message.0.split("\r\n\r\n").next().unwrap_or_default();
    for line in head.split("\r\n").skip(1) {
        let name = line.split(':').next().unwrap_or_default();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
        assert!(!name.is_empty() && name.bytes().all(token), "no fold, no blank before the colon: {line:?}");
        assert!(!line.bytes().any(|byte| byte < b' ' && byte != b'\t'), "no control character: {line:?}");
    }
    let words: Vec<&str> = message.start_line().split(' ').collect();
    assert!(matches!(words.as_slice(), [_, uri, "SIP/2.0"] if uri.starts_with("sip:")), "{words:?}");
    let ours = lab.addresses.inside().to_string();
    assert!(message.value("Via").contains(&ours), "{message:?}");
    for contact in message.values("Contact") {
        assert!(contact == "*" || contact.contains(&ours), "{message:?}");
    }
    assert!(message.values("Route").is_empty() && message.values("Record-Route").is_empty(), "{message:?}");
    for hidden in
        ["192.0.2.", "192.168.255.", "host5.example", "spindle", &lab.addresses.phone(90).to_string()]
    {
        assert!(!message.0.contains(hidden), "{hidden} is told inside: {message:?}");
    }
}

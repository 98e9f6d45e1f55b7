//! Two phones on the two ends of one wire, and a phone against a server that is played by hand.

use tokio::io::{DuplexStream, duplex};

use super::*;

fn phone(number: &str, stream: DuplexStream) -> LabPhone<DuplexStream> {
    let owner = Owner {
        number: number.to_owned(),
        domain: "pbx.lab".to_owned(),
        hardware_id: "009033010203".to_owned(),
    };
    LabPhone::new(owner, stream, "127.0.0.1:5062".parse().unwrap()).unwrap()
}

fn two_phones() -> (LabPhone<DuplexStream>, LabPhone<DuplexStream>) {
    let (near, far) = duplex(64 * 1024);
    (phone("1001", near), phone("1002", far))
}

/// The next request that a phone sent.
async fn heard(server: &mut Link<DuplexStream>) -> Request {
    match server.receive().await.unwrap() {
        SipMessage::Request(request) => request,
        SipMessage::Response(response) => panic!("{response}"),
    }
}

async fn tell(server: &mut Link<DuplexStream>, request: &Request, status: (u16, &str), more: Vec<Header>) {
    let mut response = answer(request, status, "server");
    response.headers.extend(more);
    server.send([response.into()]).await.unwrap();
}

#[tokio::test]
async fn a_call_from_invite_to_bye() {
    let (mut one, mut two) = two_phones();
    let answered = async {
        let incoming = two.ring().await.unwrap();
        assert_eq!(incoming.offer(), b"offer");
        two.pick_up(incoming, "answer").await.unwrap()
    };
    let (called, answered) = tokio::join!(one.call("1002", "offer"), answered);
    let called = called.unwrap();
    assert_eq!((&*called.remote_media, &*answered.remote_media), (&b"answer"[..], &b"offer"[..]));
    let (bye, heard) = tokio::join!(one.hang_up(called), two.hear_hanging_up(&answered));
    bye.and(heard).unwrap();
}

#[tokio::test]
async fn the_called_one_may_hang_up_too() {
    let (mut one, mut two) = two_phones();
    let answered = async {
        let incoming = two.ring().await.unwrap();
        two.pick_up(incoming, "answer").await.unwrap()
    };
    let (called, answered) = tokio::join!(one.call("1002", "offer"), answered);
    let called = called.unwrap();
    let (heard, bye) = tokio::join!(one.hear_hanging_up(&called), two.hang_up(answered));
    bye.and(heard).unwrap();
}

#[tokio::test]
async fn a_refused_call_is_acknowledged_in_its_own_transaction() {
    let (near, far) = duplex(64 * 1024);
    let (mut phone, mut server) = (phone("1001", near), Link::new(far));
    let refuse = async {
        let invite = heard(&mut server).await;
        tell(&mut server, &invite, (486, "Busy Here"), Vec::new()).await;
        (invite, heard(&mut server).await)
    };
    let (called, (invite, ack)) = tokio::join!(phone.call("1002", ""), refuse);
    assert_eq!(called.unwrap_err().to_string(), "the call to 1002 got 486");
    let via = |request: &Request| {
        message::values(request.headers(), message::via).first().map(|via| via.to_string())
    };
    assert_eq!((ack.method, via(&ack), &ack.uri), (Method::Ack, via(&invite), &invite.uri));
    assert_eq!(message::parameter(message::to(&ack), "tag"), Some("server"));
}

#[tokio::test]
async fn the_answers_of_a_burst_are_put_in_the_order_of_the_calls() {
    let (near, far) = duplex(64 * 1024);
    let (mut phone, mut server) = (phone("1001", near), Link::new(far));
    let play = async {
        let mut invites = Vec::new();
        for _ in 0..3 {
            invites.push(heard(&mut server).await);
        }
        tell(&mut server, &invites[0], (100, "Trying"), Vec::new()).await;
        let later = vec![Header::RetryAfter("7".into())];
        tell(&mut server, &invites[2], (480, "Temporarily Unavailable"), later).await;
        tell(&mut server, &invites[1], (404, "Not Found"), Vec::new()).await;
        tell(&mut server, &invites[0], (404, "Not Found"), Vec::new()).await;
        for _ in 0..3 {
            assert_eq!(heard(&mut server).await.method, Method::Ack);
        }
    };
    let (answers, ()) = tokio::join!(phone.burst("4711", 3, ""), play);
    let answers = answers.unwrap();
    let codes: Vec<u16> = answers.iter().map(|answer| answer.status_code.code()).collect();
    assert_eq!(codes, [404, 404, 480]);
    assert_eq!(retry_after(&answers[2]), Some("7"));
}

#[tokio::test]
async fn a_registration_names_its_instance_and_hears_what_it_was_granted() {
    let (near, far) = duplex(64 * 1024);
    let (mut phone, mut server) = (phone("1001", near), Link::new(far));
    let play = async {
        let register = heard(&mut server).await;
        let contact = message::values(register.headers(), message::contact)[0].to_owned();
        assert!(contact.contains("+sip.instance=\"<urn:uuid:"), "{contact}");
        // A request that comes before the answer waits.
        let options = Request { method: Method::Options, ..register.clone() };
        server.send([options.into()]).await.unwrap();
        let granted = vec![Header::Contact(format!("{contact};expires=90").into())];
        tell(&mut server, &register, (200, "OK"), granted).await;
    };
    let (answer, ()) = tokio::join!(phone.register(120), play);
    assert_eq!(granted(&answer.unwrap()), Some("90"));
    assert_eq!(phone.next_request().await.unwrap().method, Method::Options);
}

#[tokio::test]
async fn a_closed_connection_is_said() {
    let (near, far) = duplex(1024);
    drop(far);
    let mut phone = phone("1001", near);
    assert!(matches!(phone.next_request().await, Err(Fault::Closed)));
}

//! Two phones on the two ends of one wire, and a phone against a server that is played by hand.

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::answer::Answer;
use crate::message;
use crate::sdp;
use rsip::message::HasHeaders;

fn phone(number: &str, stream: DuplexStream) -> UserAgent<DuplexStream> {
    let owner = Owner {
        number: number.to_owned(),
        domain: "pbx.lab".to_owned(),
        hardware_id: "009033010203".to_owned(),
    };
    UserAgent::new(owner, stream, "127.0.0.1:5062".parse().unwrap()).unwrap()
}

fn two_phones() -> (UserAgent<DuplexStream>, UserAgent<DuplexStream>) {
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
    assert_eq!(Answer::from(&answers[2]).retry_after.as_deref(), Some("7"));
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
    assert_eq!(Answer::from(&answer.unwrap()).expires.as_deref(), Some("90"));
    assert_eq!(phone.next_request().await.unwrap().method, Method::Options);
}

#[tokio::test]
async fn a_closed_connection_is_said() {
    let (near, far) = duplex(1024);
    drop(far);
    let mut phone = phone("1001", near);
    assert!(matches!(phone.next_request().await, Err(Fault::Closed)));
}

/// An INVITE with a description that names a port of ours.
fn call_from(caller: &str, audio: SocketAddr) -> Request {
    let text = format!(
        "INVITE sip:1001@127.0.0.1:5062 SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.2;branch=z9hG4bK{caller}\r\n\
         From: <sip:{caller}@pbx.lab>;tag={caller}\r\nTo: <sip:1001@pbx.lab>\r\nCall-ID: {caller}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:127.0.0.2>\r\n\r\n\
         v=0\r\nc=IN IP4 {}\r\nm=audio {} RTP/AVP 0\r\n",
        audio.ip(),
        audio.port()
    );
    Request::try_from(text.as_bytes()).unwrap()
}

/// Sends a request to a phone that nobody sits at; its answer.
async fn ask(server: &mut Link<DuplexStream>, request: Request) -> Response {
    let id = call_id(&request).to_owned();
    server.send([request.into()]).await.unwrap();
    loop {
        if let SipMessage::Response(response) = server.receive().await.unwrap()
            && call_id(&response) == id
        {
            return response;
        }
    }
}

#[tokio::test]
async fn a_phone_that_nobody_sits_at_sends_one_caller_his_echo() {
    let (near, far) = duplex(64 * 1024);
    let (phone, mut server) = (phone("1001", near), Link::new(far));
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let mouth = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let audio = mouth.local_addr().unwrap();
    let play = async {
        let first = call_from("one", audio);
        let taken = ask(&mut server, first.clone()).await;
        assert_eq!(taken.status_code.code(), 200);
        let ear = sdp::read(&taken.body).unwrap().audio;
        let packet = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 42];
        mouth.send_to(&packet, ear).await.unwrap();
        let mut heard = [0; 64];
        let (length, from) = mouth.recv_from(&mut heard).await.unwrap();
        assert_eq!((&heard[..length], from), (&packet[..], ear));

        let second = call_from("two", audio);
        assert_eq!(ask(&mut server, second.clone()).await.status_code.code(), 486);
        let again = ask(&mut server, first.clone()).await;
        assert_eq!(sdp::read(&again.body).unwrap().audio, ear, "the same call keeps its port");
        let silent = Request { body: Vec::new(), ..second.clone() };
        assert_eq!(ask(&mut server, silent).await.status_code.code(), 488);
        let bye = Request { method: Method::Bye, body: Vec::new(), ..first };
        assert_eq!(ask(&mut server, bye).await.status_code.code(), 200);
        assert_eq!(ask(&mut server, second).await.status_code.code(), 200, "the first has hung up");
        end.send(()).unwrap();
    };
    let until = async { ended.await.unwrap() };
    let ((), attended) =
        within("the end", async { Ok(tokio::join!(play, phone.attend(120, until))) }).await.unwrap();
    attended.unwrap();
}

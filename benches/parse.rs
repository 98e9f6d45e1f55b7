//! The scanner beside untyped rsip, on the same INVITE in the same run.
//!
//! Goal: `wire_message_essentials_and_headers`, which types what the border reads of every INVITE, takes at
//! most a quarter of the time of `rsip_untyped`, which only cuts the text; the aim is a fifth.

use divan::{Bencher, black_box};
use wire::sip::{Framer, HeaderName, Message, NameAddr, Uri};

const INVITE: &[u8] = include_bytes!("../crates/wire/tests/sip_corpus/invite.sip");

fn main() {
    divan::main();
}

#[divan::bench(sample_size = 1000)]
fn wire_message(bencher: Bencher<'_, '_>) {
    bencher.bench(|| Message::parse(black_box(INVITE)).map(|message| message.body().len()));
}

#[divan::bench(sample_size = 1000)]
fn wire_message_essentials_and_headers(bencher: Bencher<'_, '_>) {
    bencher.bench(|| {
        let message = Message::parse(black_box(INVITE))?;
        let essentials = message.essentials()?;
        let contact = message.value(HeaderName::Contact).map(NameAddr::parse).transpose()?;
        let content_type = message.value(HeaderName::ContentType);
        let routes = message.values(HeaderName::Route).count();
        Ok::<_, wire::sip::ParseError>(
            black_box((
                essentials.cseq.number,
                essentials.from.tag(),
                contact.map(|contact| contact.uri),
                content_type,
                routes,
            )) != (0, None, None, None, 0),
        )
    });
}

#[divan::bench(sample_size = 1000)]
fn wire_request_uri(bencher: Bencher<'_, '_>) {
    bencher.bench(|| Uri::parse(black_box("sip:1001@10.1.2.3:39242;transport=tls;ob")));
}

#[divan::bench(sample_size = 1000)]
fn wire_framer(bencher: Bencher<'_, '_>) {
    bencher.bench_local(|| {
        let mut framer = Framer::default();
        framer.push(black_box(INVITE)).map(|()| framer.next())
    });
}

#[divan::bench(sample_size = 1000)]
fn rsip_untyped(bencher: Bencher<'_, '_>) {
    bencher.bench(|| rsip::SipMessage::try_from(black_box(INVITE)));
}

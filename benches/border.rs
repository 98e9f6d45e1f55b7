//! One REGISTER and one INVITE through the whole border, without input and output.
//!
//! All that the core thread does for a message is in it: framing, grammar, transactions, identity, digest,
//! both legs of a call, SDP, timers, until nothing of it is left. So is the PBX of byte templates, which
//! `templates_alone` shows to be a small part. Sockets, TLS and the disk are not.

use std::cell::RefCell;
use std::time::Duration;

use border::config::Authentication;
use divan::{Bencher, black_box};
use portcullis_benches::bare_border::PBX_WORDS;
use portcullis_benches::bare_border::{BareBorder, LONG, Phone};

/// Phones that are registered meanwhile, so that the tables are not empty.
const PHONES: u32 = 1_000;

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// A border with [`PHONES`] registered phones, and one more that is not.
fn busy() -> (BareBorder, Vec<Phone>, Phone) {
    let (mut bare, mut phones) = BareBorder::new(PHONES + 1, Authentication::Certificate);
    let newcomer = phones.split_off(PHONES as usize).remove(0);
    bare.register_all(&mut phones);
    (bare, phones, newcomer)
}

/// A REGISTER of one phone after the other.
fn register_in_turn(bencher: Bencher<'_, '_>, bare: &mut BareBorder, phones: &mut [Phone]) {
    let mut next = 0;
    bencher
        .with_inputs(|| {
            next = (next + 1) % phones.len();
            let register = phones[next].register(LONG);
            (phones[next].clone(), register)
        })
        .bench_local_refs(|(phone, register)| {
            bare.advance(Duration::from_millis(1));
            bare.say(phone, black_box(register))
        });
}

/// The REGISTER that a phone with a certificate repeats: answered at the border, unknown to the PBX.
#[divan::bench(sample_size = 100, sample_count = 200)]
fn register_refresh_absorbed(bencher: Bencher<'_, '_>) {
    let (mut bare, mut phones, _) = busy();
    let asked = bare.pbx_requests();
    register_in_turn(bencher, &mut bare, &mut phones);
    assert_eq!(bare.pbx_requests(), asked, "every refresh was absorbed");
}

/// A new connection, its REGISTER, our own REGISTER at the PBX, its challenge, the answer to it, the PBX's
/// 200, the record on disk, the phone's 200, and the end of all transactions.
#[divan::bench(sample_size = 1, sample_count = 5_000)]
fn register_first(bencher: Bencher<'_, '_>) {
    let (bare, _, newcomer) = busy();
    let world = RefCell::new((bare, newcomer));
    let connected = RefCell::new(false);
    bencher
        .with_inputs(|| {
            let (bare, phone) = &mut *world.borrow_mut();
            if connected.replace(true) {
                let leave = phone.register(Duration::ZERO);
                bare.say(phone, &leave);
                bare.disconnect(phone);
                bare.forget_transactions();
            }
            phone.register(LONG)
        })
        .bench_local_values(|register| {
            let (bare, phone) = &mut *world.borrow_mut();
            let asked = bare.pbx_requests();
            bare.connect(phone);
            let answer = bare.say(phone, black_box(&register));
            bare.forget_transactions();
            assert_eq!(bare.pbx_requests(), asked + 2, "one without and one with credentials");
            answer
        });
}

/// The REGISTER of a phone without a certificate, over UDP: passed to the PBX, and its 200 back to the phone.
/// All such phones share one flow, so what it costs must not grow with their number.
#[divan::bench(args = [100, 10_000], sample_size = 100, sample_count = 200)]
fn register_passed_through(bencher: Bencher<'_, '_>, others: u32) {
    let (mut bare, mut phones) = BareBorder::new(others, Authentication::Digest);
    bare.register_all(&mut phones);
    register_in_turn(bencher, &mut bare, &mut phones);
}

/// INVITE with an offer, ports, 100, 180 and 200 of the PBX, ACK, BYE and its 200; then the end of all
/// transactions.
#[divan::bench(sample_size = 10, sample_count = 500)]
fn call_from_a_phone(bencher: Bencher<'_, '_>) {
    let (mut bare, phones, _) = busy();
    let mut call = 0;
    bencher
        .with_inputs(|| {
            call += 1;
            let phone = phones[call as usize % phones.len()].clone();
            let invite = phone.speaker.invite(call);
            (phone, call, invite)
        })
        .bench_local_refs(|(phone, call, invite)| {
            bare.call(phone, *call, black_box(invite));
            bare.forget_transactions();
        });
}

/// What the templates cost in a call: three requests of a phone made, three answered by the PBX.
#[divan::bench(sample_size = 10, sample_count = 500)]
fn templates_alone(bencher: Bencher<'_, '_>) {
    let (_, phones) = BareBorder::new(1, Authentication::Certificate);
    let speaker = &phones[0].speaker;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    bencher.bench_local(|| {
        let invite = text(speaker.invite(1));
        let answers = PBX_WORDS.answers(black_box(&invite));
        let ok = text(answers.into_iter().next_back().unwrap_or_default());
        for (method, cseq) in [("ACK", 1), ("BYE", 2)] {
            black_box(PBX_WORDS.answers(&text(speaker.in_dialog(method, cseq, 1, &ok))));
        }
    });
}

//! The call of the story: 1001 → frontend → PBX → frontend → 1002, with audio both ways, and its end.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;

use portcullis_lab::{Call, CallSeen, Heard, Pbx, Phone, Tone};

use crate::quickstart::cast::{INSIDE, OUTSIDE, PBX};
use crate::quickstart::fault::Fault;
use crate::quickstart::frontend::Frontend;
use crate::quickstart::output::{Failed, Output};

/// Packets each way: a second of speech.
const PACKETS: u16 = 50;

const CALLER_TONE: Tone = Tone { hertz: 440, ssrc: 0x1001 };
const CALLEE_TONE: Tone = Tone { hertz: 1000, ssrc: 0x1002 };

/// Sets the call up, talks, hangs up; four steps.
pub(crate) async fn hold<W: Write>(
    frontend: &Frontend,
    pbx: &Pbx,
    one: &mut Phone,
    two: &mut Phone,
    out: &mut Output<W>,
) -> Result<(), Failed> {
    let (mut caller, mut callee) = out.step("call 1001 → 1002", set_up(one, two)).await?;
    out.step("hidden inside", look_at_addresses(pbx, one, two, &caller, &callee)).await?;
    out.step("audio", converse(frontend, &mut caller, &mut callee)).await?;
    out.step("hanging up", hang_up(frontend, one, two, caller, callee)).await
}

async fn set_up(one: &mut Phone, two: &mut Phone) -> Result<((Call, Call), String), Fault> {
    let number = two.owner().number.clone();
    let (calling, picking_up) = tokio::join!(one.call(&number), two.pick_up());
    let (caller, callee) = (calling?, picking_up?);
    let candidates = caller.candidates() + callee.candidates();
    if candidates < 2 {
        return Err(Fault::unlike(format!("the ICE agents of two phones gathered {candidates} candidates")));
    }
    let seen = format!(
        "rang and was picked up; the phones offered {candidates} ICE candidates\n\
         audio by {} and {}",
        caller.remote().audio,
        callee.remote().audio
    );
    Ok(((caller, callee), seen))
}

/// Neither side has seen an address of the other: not in SDP, nor anywhere else.
async fn look_at_addresses(
    pbx: &Pbx,
    one: &Phone,
    two: &Phone,
    caller: &Call,
    callee: &Call,
) -> Result<((), String), Fault> {
    let number = two.owner().number.as_str();
    let call =
        pbx.seen("the call", |journal| journal.calls.iter().find(|call| call.number == number).cloned());
    let CallSeen { offer, addresses, caller: name, .. } = call.await?;
    if name != one.owner().number {
        return Err(Fault::unlike(format!("at the PBX it was {name} who called")));
    }
    let offer = offer.ok_or_else(|| Fault::unlike("the PBX was offered no audio"))?;
    for (who, remote, ours) in
        [("the PBX", &offer, INSIDE), ("1001", caller.remote(), OUTSIDE), ("1002", callee.remote(), OUTSIDE)]
    {
        if remote.addresses != BTreeSet::from([ours]) || remote.candidates != 0 {
            let found = list(&remote.addresses);
            let candidates = remote.candidates;
            return Err(Fault::unlike(format!("the SDP to {who} shows {found} and {candidates} candidates")));
        }
    }
    for (who, found, hidden) in [
        ("the PBX", addresses, [OUTSIDE, one.ip()]),
        ("1001", caller.addresses(), [INSIDE, PBX]),
        ("1002", callee.addresses(), [INSIDE, PBX]),
    ] {
        if hidden.iter().any(|address| found.contains(address)) {
            return Err(Fault::unlike(format!("a message to {who} shows {}", list(&found))));
        }
    }
    let seen = format!(
        "SDP to the PBX shows {INSIDE} alone, SDP to the phones {OUTSIDE} alone\n\
         no candidate, no address of the other side in any message"
    );
    Ok(((), seen))
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

async fn converse(frontend: &Frontend, caller: &mut Call, callee: &mut Call) -> Result<((), String), Fault> {
    let (to_caller, to_callee) = tokio::join!(
        caller.talk(CALLER_TONE, CALLEE_TONE, PACKETS),
        callee.talk(CALLEE_TONE, CALLER_TONE, PACKETS),
    );
    let (to_caller, to_callee) = (to_caller?, to_callee?);
    for (who, heard, relay) in
        [("1001", &to_caller, caller.remote().audio), ("1002", &to_callee, callee.remote().audio)]
    {
        let Heard { equal, other, sources } = heard;
        if *equal != usize::from(PACKETS) || *other != 0 || *sources != BTreeSet::from([relay]) {
            let text = format!(
                "{who} heard {equal} of {PACKETS} packets as they were sent, and {other} others, from {sources:?}"
            );
            return Err(Fault::unlike(text));
        }
    }
    let in_use = |status: &serde_json::Value| status["relays"].as_u64() == Some(2);
    frontend.operator().status("a relay for each leg through us", in_use).await?;
    let seen = format!(
        "1001 → 1002: {} packets of {} Hz, payload equal; 1002 → 1001: {} of {} Hz, equal\n\
         2 relays in use, nothing but their ports heard",
        to_callee.equal, CALLER_TONE.hertz, to_caller.equal, CALLEE_TONE.hertz
    );
    Ok(((), seen))
}

async fn hang_up(
    frontend: &Frontend,
    one: &mut Phone,
    two: &mut Phone,
    caller: Call,
    callee: Call,
) -> Result<((), String), Fault> {
    let (bye, heard) = tokio::join!(one.hang_up(caller), two.hear_hanging_up(callee));
    bye.and(heard)?;
    let idle = |status: &serde_json::Value| status["calls"] == 0 && status["relays"] == 0;
    frontend.operator().status("no call and no relay", idle).await?;
    Ok(((), "1002 heard it; 0 calls, 0 relays: every port is given back".to_owned()))
}

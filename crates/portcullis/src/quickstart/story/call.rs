//! The call of the story: 1001 → frontend → PBX → frontend → 1002, with audio both ways, and its end.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::Phone;
use crate::quickstart::audio::{Heard, Tone, talk};
use crate::quickstart::cast::{INSIDE, OUTSIDE, PBX};
use crate::quickstart::fault::Fault;
use crate::quickstart::frontend::Frontend;
use crate::quickstart::lab_pbx::{CallSeen, LabPbx};
use crate::quickstart::lab_phone::Dialog;
use crate::quickstart::media::Media;
use crate::quickstart::output::{Failed, Output};
use crate::quickstart::sdp;

/// Packets each way: a second of speech.
const PACKETS: u16 = 50;

const CALLER_TONE: Tone = Tone { hertz: 440, ssrc: 0x1001 };
const CALLEE_TONE: Tone = Tone { hertz: 1000, ssrc: 0x1002 };

/// One end of the call.
struct End {
    media: Media,
    dialog: Dialog,
    /// Where the other's audio goes: a port of the frontend's.
    relay: SocketAddr,
}

/// Sets the call up, talks, hangs up; four steps.
pub(crate) async fn hold<W: Write>(
    frontend: &Frontend,
    pbx: &LabPbx,
    one: &mut Phone,
    two: &mut Phone,
    out: &mut Output<W>,
) -> Result<(), Failed> {
    let (mut caller, mut callee) = out.step("call 1001 → 1002", set_up(one, two)).await?;
    out.step("hidden inside", look_at_addresses(pbx, one, two, &caller, &callee)).await?;
    out.step("audio", converse(frontend, &mut caller, &mut callee)).await?;
    out.step("hanging up", hang_up(frontend, one, two, caller, callee)).await
}

async fn set_up(one: &mut Phone, two: &mut Phone) -> Result<((End, End), String), Fault> {
    let (from, to) = (Media::open(one.ip()).await?, Media::open(two.ip()).await?);
    let offer = sdp::describe(from.local(), from.candidates());
    let answer = sdp::describe(to.local(), to.candidates());
    let candidates = from.candidates().lines.len() + to.candidates().lines.len();
    if candidates < 2 {
        return Err(Fault::unlike(format!("the ICE agents of two phones gathered {candidates} candidates")));
    }
    let number = two.owner().number.clone();
    let pick_up = async {
        let incoming = two.ring().await?;
        if sdp::read(incoming.offer()).is_none() {
            return Err(Fault::unlike("the call offers no audio"));
        }
        two.pick_up(incoming, &answer).await
    };
    let (calling, picking_up) = tokio::join!(one.call(&number, &offer), pick_up);
    let (caller, callee) = (end(from, calling?)?, end(to, picking_up?)?);
    let seen = format!(
        "rang and was picked up; the phones offered {candidates} ICE candidates\n\
         audio by {} and {}",
        caller.relay, callee.relay
    );
    Ok(((caller, callee), seen))
}

fn end(media: Media, dialog: Dialog) -> Result<End, Fault> {
    let remote = sdp::read(&dialog.remote_media).ok_or_else(|| Fault::unlike("a phone heard of no audio"))?;
    Ok(End { media, dialog, relay: remote.audio })
}

/// Neither side has seen an address of the other: not in SDP, nor anywhere else.
async fn look_at_addresses(
    pbx: &LabPbx,
    one: &Phone,
    two: &Phone,
    caller: &End,
    callee: &End,
) -> Result<((), String), Fault> {
    let number = two.owner().number.as_str();
    let call =
        pbx.seen("the call", |journal| journal.calls.iter().find(|call| call.number == number).cloned());
    let CallSeen { message, offer, caller: name, .. } = call.await?;
    if name != one.owner().number {
        return Err(Fault::unlike(format!("at the PBX it was {name} who called")));
    }
    for (who, description, ours) in [
        ("the PBX", offer.as_slice(), INSIDE),
        ("1001", caller.dialog.remote_media.as_slice(), OUTSIDE),
        ("1002", callee.dialog.remote_media.as_slice(), OUTSIDE),
    ] {
        let remote = sdp::read(description).ok_or_else(|| Fault::unlike("a description was no SDP"))?;
        if remote.addresses != BTreeSet::from([ours]) || remote.candidates != 0 {
            let found = list(&remote.addresses);
            let candidates = remote.candidates;
            return Err(Fault::unlike(format!("the SDP to {who} shows {found} and {candidates} candidates")));
        }
    }
    for (who, text, hidden) in [
        ("the PBX", &message, [OUTSIDE, one.ip()]),
        ("1001", &caller.dialog.message, [INSIDE, PBX]),
        ("1002", &callee.dialog.message, [INSIDE, PBX]),
    ] {
        let found = sdp::addresses(text);
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

async fn converse(frontend: &Frontend, caller: &mut End, callee: &mut End) -> Result<((), String), Fault> {
    let (to_caller, to_callee) = tokio::join!(
        talk(&mut caller.media, caller.relay, CALLER_TONE, CALLEE_TONE, PACKETS),
        talk(&mut callee.media, callee.relay, CALLEE_TONE, CALLER_TONE, PACKETS),
    );
    let (to_caller, to_callee) = (to_caller?, to_callee?);
    for (who, heard, relay) in [("1001", &to_caller, caller.relay), ("1002", &to_callee, callee.relay)] {
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
    caller: End,
    callee: End,
) -> Result<((), String), Fault> {
    let (bye, heard) = tokio::join!(one.hang_up(caller.dialog), two.hear_hanging_up(&callee.dialog));
    bye.and(heard)?;
    let idle = |status: &serde_json::Value| status["calls"] == 0 && status["relays"] == 0;
    frontend.operator().status("no call and no relay", idle).await?;
    caller.media.close().await?;
    callee.media.close().await?;
    Ok(((), "1002 heard it; 0 calls, 0 relays: every port is given back".to_owned()))
}

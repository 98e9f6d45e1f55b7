//! The story's attacks: an intruder, refused and then blocked, and a burst of calls, limited.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_lab::{Got, Owner, Pbx, Phone};
use rustls::ClientConfig;

use super::start::Papers;
use crate::admin::protocol::Request;
use crate::quickstart::cast::{DOMAIN, INTRUDER, NOBODY};
use crate::quickstart::fault::Fault;
use crate::quickstart::frontend::Frontend;
use crate::quickstart::output::{Failed, Output};

/// Calls of the burst, and how many of them the rule `5/1s` admits.
const BURST: usize = 6;
const ADMITTED: usize = 5;

/// Guesses until the door must be shut: as many as the configuration's `after`.
const GUESSES_MAX: usize = 5;

/// A stranger's certificate, a stolen one with guessed names, and the block that follows.
pub(crate) async fn refuse_intruder<W: Write>(
    frontend: &Frontend,
    server: SocketAddr,
    papers: &Papers,
    out: &mut Output<W>,
) -> Result<(), Failed> {
    out.step("another CA", show_wrong_certificate(frontend, server, papers)).await?;
    out.step("guessed names", guess_names(server, papers)).await?;
    out.step("blocked", look_at_block(frontend, server, papers)).await
}

async fn show_wrong_certificate(
    frontend: &Frontend,
    server: SocketAddr,
    papers: &Papers,
) -> Result<((), String), Fault> {
    match guess(server, &papers.stranger, "1001").await? {
        Got::Alert(alert) => {
            frontend.operator().row("the event", events("cert_untrusted"), is_intruder).await?;
            let seen = format!("{INTRUDER} shows a stranger's certificate for 1001: no SIP byte\n{alert}");
            Ok(((), seen))
        }
        other => Err(Fault::unlike(format!("a stranger's certificate got {other:?}"))),
    }
}

/// The first certificate was refused, so the intruder steals one, which lets him in as nobody else.
async fn guess_names(server: SocketAddr, papers: &Papers) -> Result<((), String), Fault> {
    let mut refused = 0;
    for number in 0..=GUESSES_MAX {
        match guess(server, &papers.second, &format!("20{number:02}")).await? {
            Got::Answer(403) => refused += 1,
            Got::ShutOut | Got::HungUp if refused > 0 => {
                let seen = format!(
                    "with the stolen certificate of 1002: 403 to {refused} unknown names, then no answer"
                );
                return Ok(((), seen));
            }
            other => return Err(Fault::unlike(format!("guess {} got {other:?}", number + 1))),
        }
    }
    Err(Fault::unlike(format!("{refused} guesses were answered, and the next would be too")))
}

async fn look_at_block(
    frontend: &Frontend,
    server: SocketAddr,
    papers: &Papers,
) -> Result<((), String), Fault> {
    let operator = frontend.operator();
    let listed = |row: &serde_json::Value| row["address"] == INTRUDER.to_string();
    let block = operator.row("the block", Request::BlockList, listed).await?;
    operator.row("the event", events("blocked"), is_intruder).await?;
    let got = guess(server, &papers.second, "1002").await?;
    if got != Got::ShutOut {
        return Err(Fault::unlike(format!("a blocked source with a good certificate got {got:?}")));
    }
    let text = |key: &str| block[key].as_str().unwrap_or("?").to_owned();
    let seen = format!(
        "on the block list: {} for {} s more ({}, {})\n\
         a connection from there, with a good certificate: closed at accept, not a byte",
        text("range"),
        block["remaining_s"],
        text("block_type"),
        text("defense_type"),
    );
    Ok(((), seen))
}

/// Six calls within a moment: five reach the PBX, the sixth is told when to come again.
pub(crate) async fn limit_burst<W: Write>(
    frontend: &Frontend,
    pbx: &Pbx,
    phone: &mut Phone,
    out: &mut Output<W>,
) -> Result<(), Failed> {
    let work = async {
        let answers = phone.burst(NOBODY, BURST).await?;
        let (passed, limited) = answers.split_at(ADMITTED.min(answers.len()));
        let [last] = limited else {
            return Err(Fault::unlike(format!("{} of {BURST} calls were answered", answers.len())));
        };
        if last.status != 480 || passed.iter().any(|answer| answer.status != 404) {
            let codes: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            return Err(Fault::unlike(format!("the {BURST} calls got {codes:?}")));
        }
        let again = last.retry_after.as_deref().ok_or_else(|| Fault::unlike("the 480 has no Retry-After"))?;
        frontend.operator().row("the event", events("call_limited"), |_| true).await?;
        let reached = pbx.journal().calls_to(NOBODY);
        if reached != ADMITTED {
            return Err(Fault::unlike(format!("{reached} of {BURST} calls reached the PBX")));
        }
        let seen = format!(
            "{BURST} calls at once from 1002 to {NOBODY}: the PBX saw {reached} (404, no such number)\n\
             call {BURST} got {last}, Retry-After {again}"
        );
        Ok(((), seen))
    };
    out.step("burst of calls", work).await
}

/// The intruder asks for a name.
async fn guess(server: SocketAddr, papers: &Arc<ClientConfig>, name: &str) -> Result<Got, Fault> {
    let pretended =
        Owner { number: name.to_owned(), domain: DOMAIN.to_owned(), hardware_id: "000000000000".to_owned() };
    Ok(portcullis_lab::guess(pretended, INTRUDER, server, Arc::clone(papers)).await?)
}

fn events(code: &str) -> Request {
    Request::Events { follow: false, since_s: None, code: Some(code.to_owned()) }
}

fn is_intruder(event: &serde_json::Value) -> bool {
    let source = event["source"].as_str().unwrap_or_default();
    source.split(':').next() == Some(&INTRUDER.to_string())
}

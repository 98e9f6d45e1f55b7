//! Calls whose media plane has no ports, or loses them.

use media::{RelayEvent, RelayFault, RelayId};

use super::*;
use crate::command::{Answer, Command};

fn lost(bench: &mut Bench, fault: RelayFault) {
    bench.put(Input::Media(RelayEvent::Failed { relay: RelayId(1), fault }));
}

fn states(bench: &mut Bench) -> Vec<&'static str> {
    let Answer::Calls(rows) = bench.ask(Command::Calls) else { panic!("no calls") };
    rows.iter().map(|row| row.state).collect()
}

#[test]
fn a_call_that_gets_no_ports_is_refused_and_one_that_loses_them_goes_on() {
    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
    let invite = bench.take("INVITE");
    bench.pbx_says(&invite.answer(180, "desk", ""));
    lost(&mut bench, RelayFault::NoPorts);
    assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(503));
    bench.take("CANCEL");

    let mut bench = Bench::with_pbx_up(config());
    let flow = bench.registered(100);
    calls::call(&mut bench, flow);
    lost(&mut bench, RelayFault::ShardLost);
    assert_eq!(states(&mut bench), ["confirmed"]);
    assert!(bench.try_take("BYE").is_none());
    // The next offer has ports again.
    bench.phone_says(flow, &request("INVITE", 2, Some("desk"), "application/sdp", OFFER));
    let ports = format!("m=audio {} ", bench.ports);
    assert!(bench.take("INVITE").body().contains(&ports));
}

//! Strangers: a name that exists is answered like one that does not, whatever the PBX does.

use super::*;

/// One that exists and proves itself by the PBX's challenge, and one that does not exist.
const NAMES: [&str; 2] = ["1003", "4711"];

/// Both names ask at once, each on a connection of its own.
fn ask(bench: &mut Bench) -> [FlowId; 2] {
    let first = 100 + u64::try_from(bench.writes + bench.events.len()).unwrap() % 50 * 2;
    [0, 1].map(|index| {
        let flow = bench.connect(first + index, None);
        bench.phone_says(flow, &register(NAMES[usize::try_from(index).unwrap()], 1));
        flow
    })
}

/// What a stranger can compare: when, which status, which headers.
fn answers(bench: &mut Bench, flows: [FlowId; 2]) -> [Option<(Duration, u16, Vec<String>)>; 2] {
    flows.map(|flow| {
        let answer = bench.final_answer(flow)?;
        let names = answer.read(|message, _| {
            message.headers().map(|header| header.name.as_str().to_owned()).collect::<Vec<_>>()
        });
        Some((answer.at - Instant::ZERO, answer.status().unwrap(), names))
    })
}

fn pbx_answers(bench: &mut Bench, more: &str) -> usize {
    let mut count = 0;
    while let Some(asked) = bench.try_take("REGISTER") {
        bench.pbx_says(&asked.answer(401, "pbx", more));
        count += 1;
    }
    count
}

#[test]
fn a_pbx_that_hangs_tells_nobody_which_names_exist() {
    let mut bench = Bench::with_pbx_up(config());
    for wait in [3, 40, 300, 9_900] {
        let flows = ask(&mut bench);
        bench.pass(Duration::from_millis(wait));
        assert_eq!(answers(&mut bench, flows), [None, None], "{wait} ms");
        pbx_answers(&mut bench, CHALLENGE);
        bench.pass(Duration::ZERO);
        let [known, unknown] = answers(&mut bench, flows);
        assert_eq!(known, unknown, "{wait} ms");
        assert_eq!(known.map(|(_, status, _)| status), Some(401));
        for flow in flows {
            bench.put(Input::FlowClosed { flow });
        }
        bench.sent.clear();
        bench.pass(Duration::from_secs(5));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
        pbx_answers(&mut bench, CHALLENGE);
        bench.sent.clear();
    }
    // And one that never answers, but its health checks.
    let flows = ask(&mut bench);
    for _ in 0..110 {
        bench.pass(Duration::from_millis(100));
        while let Some(options) = bench.try_take("OPTIONS") {
            bench.pbx_says(&options.answer(200, "o", ""));
        }
    }
    let [known, unknown] = answers(&mut bench, flows);
    assert_eq!(known, unknown);
    assert_eq!(known.map(|(_, status, _)| status), Some(503));
}

#[test]
fn many_strangers_cost_the_pbx_little_and_wait_like_the_first() {
    let mut bench = Bench::with_pbx_up(config());
    let before = bench.sent.len();
    let mut flows = Vec::new();
    for number in 0..40 {
        let flow = bench.connect(100 + number, None);
        bench.phone_says(flow, &register(&format!("47{number}"), 1));
        flows.push(flow);
    }
    let asked = bench.sent[before..].iter().filter(|sent| sent.flow == INSIDE_UDP).count();
    assert_eq!(asked, 1, "one question for all of them");
    assert!(bench.sent.iter().all(|sent| !sent.text.contains("sip:47")), "none of their names");
    bench.pass(Duration::from_millis(20));
    pbx_answers(&mut bench, CHALLENGE);
    bench.pass(Duration::from_millis(20));
    for flow in flows {
        assert_eq!(bench.final_answer(flow).and_then(|answer| answer.status()), Some(401));
    }
}

#[test]
fn a_stranger_who_leaves_is_forgotten() {
    let mut bench = Bench::with_pbx_up(config());
    let decoys = |bench: &Bench| {
        bench.border.unfinished().into_iter().find(|(name, _)| *name == "decoys").map(|(_, count)| count)
    };
    let flow = bench.connect(100, None);
    bench.phone_says(flow, &register("4711", 1));
    assert_eq!(decoys(&bench), Some(1));
    bench.put(Input::FlowClosed { flow });
    assert_eq!(decoys(&bench), Some(0));
}

//! Redirections (3xx): whom else the other side may call.

use super::*;

#[test]
fn a_redirection_names_the_same_users_at_our_domain_and_nobody_elsewhere() {
    for (contacts, told) in [
        (
            "<sip:2002@10.0.1.1>;q=0.5, <sips:2003@other.example>",
            "<sip:2002@main.example> <sip:2003@main.example>",
        ),
        ("<sip:%23212@10.0.1.1>", "<sip:%23212@main.example>"),
        (
            "<sip:x%3E%2C%3Csip%3Ay%40other.example@10.0.1.1>",
            "<sip:x%3E%2C%3Csip%3Ay%40other.example@main.example>",
        ),
        ("<tel:2004>", "<sip:2004@main.example>"),
        ("<sip:a%40main.inside.example@10.0.1.1>, <sip:10.0.1.1>", ""),
    ] {
        let mut bench = Bench::with_pbx_up(config());
        let flow = bench.registered(100);
        bench.phone_says(flow, &request("INVITE", 1, None, "application/sdp", OFFER));
        let invite = bench.take("INVITE");
        bench.pbx_says(&invite.answer(302, "desk", &format!("Contact: {contacts}")));
        let answer = bench.final_answer(flow).unwrap();
        assert_eq!(answer.status(), Some(302));
        let heard: Vec<String> =
            answer.read(|message, _| message.values(HeaderName::Contact).map(str::to_owned).collect());
        assert_eq!(heard.join(" "), told, "{contacts}");
        assert_eq!(bench.status().calls, 0);
    }
}

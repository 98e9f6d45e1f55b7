//! A dialog as one end sees it, kept by hand (RFC 3261 §12).

use crate::raw_message::{Draft, RawMessage};

/// One end's view.
#[derive(Clone, Debug)]
pub struct Dialog {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    routes: Vec<String>,
    cseq: u32,
}

impl Dialog {
    /// As the caller sees it: its INVITE and the answer.
    #[track_caller]
    pub fn of_caller(invite: &Draft, answer: &RawMessage) -> Self {
        let mut routes = split_routes(answer);
        routes.reverse();
        Self {
            call_id: invite.get("Call-ID").to_owned(),
            local: invite.get("From").to_owned(),
            remote: answer.value("To"),
            target: answer.uri_of("Contact"),
            routes,
            cseq: sequence_of(invite.get("CSeq")),
        }
    }

    /// As the called end sees it: the INVITE it got and the answer it gave.
    #[track_caller]
    pub fn of_callee(invite: &RawMessage, answer: &Draft) -> Self {
        Self {
            call_id: invite.value("Call-ID"),
            local: answer.get("To").to_owned(),
            remote: invite.value("From"),
            target: invite.uri_of("Contact"),
            routes: split_routes(invite),
            cseq: 0,
        }
    }

    /// The ACK of the INVITE that made it, or of the last one within it.
    pub fn ack(&self) -> Draft {
        self.draft("ACK")
    }

    /// The next request within it.
    pub fn request(&mut self, method: &str) -> Draft {
        self.cseq += 1;
        self.draft(method)
    }

    fn draft(&self, method: &str) -> Draft {
        let mut draft = Draft::request(method, &self.target, "sip:a@b", "sip:a@b");
        draft.set("From", &self.local).set("To", &self.remote).set("Call-ID", &self.call_id);
        draft.set("CSeq", &format!("{} {method}", self.cseq));
        for route in &self.routes {
            draft.push("Route", route);
        }
        draft
    }
}

/// All values of Record-Route, in order.
fn split_routes(message: &RawMessage) -> Vec<String> {
    let lines = message.values("Record-Route");
    lines.iter().flat_map(|line| line.split(',')).map(|route| route.trim().to_owned()).collect()
}

#[track_caller]
fn sequence_of(value: &str) -> u32 {
    value.split(' ').next().and_then(|number| number.parse().ok()).expect("a CSeq has a number")
}

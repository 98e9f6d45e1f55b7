//! Transactions as RFC 3261 §17 and RFC 6026 tell them, for actors: lists and linear thinking, no machine.

use std::collections::BTreeMap;
use std::time::Duration;

use wire::clock::Instant;

use crate::act::{Path, Stage};
use crate::text::Text;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(32);
/// A ringing INVITE that nobody ends (timer C).
const RINGING: Duration = Duration::from_secs(180);

/// Branch and method.
pub type Key = (String, String);

struct Client {
    request: Text,
    path: Path,
    interval: Duration,
    resend_at: Option<Instant>,
    ends_at: Instant,
    provisional: bool,
    status: u16,
    ack: Option<Text>,
    cancel: bool,
}

struct Server {
    path: Path,
    request: Text,
    answer: Option<Text>,
    interval: Duration,
    resend_at: Option<Instant>,
    ends_at: Option<Instant>,
    acknowledged: bool,
}

/// What a message means once repetitions are taken out.
#[derive(Debug)]
pub enum Heard {
    /// A new request.
    Request(Text, Key),
    /// An ACK that ends no transaction: that of a 2xx.
    Ack(Text),
    /// A provisional answer, the first final one, or any 2xx of an INVITE.
    Response(Key, Text),
    /// A repetition, or nothing of ours.
    Nothing,
}

/// All transactions of one actor.
#[derive(Default)]
pub struct Transactions {
    clients: BTreeMap<Key, Client>,
    servers: BTreeMap<Key, Server>,
}

impl Transactions {
    /// Sends a request under a new branch; `via` is our sent-by.
    pub fn request(&mut self, mut request: Text, via: &str, path: Path, stage: &mut Stage<'_>) -> Key {
        let key = (format!("z9hG4bK{}", stage.rng.word()), request.method().to_owned());
        let transport = if path.is_reliable() { "TCP" } else { "UDP" };
        request.push_front("Via", format!("SIP/2.0/{transport} {via};branch={};rport", key.0));
        self.begin(key.clone(), request, path, stage);
        key
    }

    fn begin(&mut self, key: Key, request: Text, path: Path, stage: &mut Stage<'_>) {
        stage.send(path, &request);
        let resend_at = (!path.is_reliable()).then_some(stage.now + T1);
        let client = Client {
            request,
            path,
            interval: T1,
            resend_at,
            ends_at: stage.now + PATIENCE,
            provisional: false,
            status: 0,
            ack: None,
            cancel: false,
        };
        self.clients.insert(key, client);
    }

    /// The request of a client transaction.
    pub fn sent(&self, key: &Key) -> Option<&Text> {
        self.clients.get(key).map(|client| &client.request)
    }

    /// The request and path of a server transaction.
    pub fn asked(&self, key: &Key) -> Option<(&Text, Path)> {
        self.servers.get(key).map(|server| (&server.request, server.path))
    }

    /// Whether a request was answered finally.
    pub fn is_answered(&self, key: &Key) -> bool {
        let answer = self.servers.get(key).and_then(|server| server.answer.as_ref());
        answer.and_then(Text::code).is_some_and(|code| code >= 200)
    }

    /// Gives an INVITE up; the CANCEL waits for a provisional answer (RFC 3261 §9.1).
    pub fn cancel(&mut self, key: &Key, stage: &mut Stage<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.status >= 200 || client.cancel {
            return;
        }
        client.cancel = true;
        if client.provisional {
            self.send_cancel(key, stage);
        }
    }

    fn send_cancel(&mut self, key: &Key, stage: &mut Stage<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.ends_at = stage.now + PATIENCE;
        let invite = &client.request;
        let mut cancel = Text::request("CANCEL", invite.uri()).with("Via", invite.header("Via"));
        for name in ["From", "To", "Call-ID", "Max-Forwards"] {
            cancel = cancel.with(name, invite.header(name));
        }
        cancel = cancel.with("CSeq", format!("{} CANCEL", invite.cseq()));
        for route in invite.all("Route") {
            cancel = cancel.with("Route", route);
        }
        let path = client.path;
        self.begin((key.0.clone(), "CANCEL".into()), cancel, path, stage);
    }

    /// Answers a request. `repeat`: a 2xx of an INVITE is sent until its ACK (RFC 3261 §13.3.1.4).
    pub fn respond(&mut self, key: &Key, answer: Text, repeat: bool, stage: &mut Stage<'_>) {
        let Some(server) = self.servers.get_mut(key) else { return };
        let code = answer.code().unwrap_or(500);
        let invite = key.1 == "INVITE";
        stage.send(server.path, &answer);
        server.answer = Some(answer);
        if code >= 200 {
            server.ends_at = Some(stage.now + PATIENCE);
            server.interval = T1;
            let again = match (invite, code) {
                (true, 200..=299) => repeat,
                (true, _) => !server.path.is_reliable(),
                (false, _) => false,
            };
            server.resend_at = again.then_some(stage.now + T1);
        }
    }

    /// Takes a message in.
    pub fn receive(&mut self, text: Text, path: Path, stage: &mut Stage<'_>) -> Heard {
        match text.code() {
            Some(code) => self.receive_response(text, code, stage),
            None if text.method() == "ACK" => self.receive_ack(text),
            None => self.receive_request(text, path, stage),
        }
    }

    fn receive_request(&mut self, text: Text, path: Path, stage: &mut Stage<'_>) -> Heard {
        let key = (text.branch().to_owned(), text.method().to_owned());
        if let Some(server) = self.servers.get(&key) {
            if let Some(answer) = &server.answer {
                stage.send(server.path, answer);
            }
            return Heard::Nothing;
        }
        let server = Server {
            path,
            request: text.clone(),
            answer: None,
            interval: T1,
            resend_at: None,
            ends_at: None,
            acknowledged: false,
        };
        self.servers.insert(key.clone(), server);
        Heard::Request(text, key)
    }

    fn receive_ack(&mut self, text: Text) -> Heard {
        let key = (text.branch().to_owned(), "INVITE".to_owned());
        if let Some(server) = self.servers.get_mut(&key) {
            server.resend_at = None;
            return Heard::Nothing;
        }
        for server in self.servers.values_mut() {
            let same = server.answer.as_ref().is_some_and(|answer| {
                answer.method() == "INVITE"
                    && answer.code().is_some_and(|code| (200..300).contains(&code))
                    && answer.header("Call-ID") == text.header("Call-ID")
                    && answer.cseq() == text.cseq()
                    && answer.to_tag() == text.to_tag()
                    && answer.from_tag() == text.from_tag()
            });
            if same {
                server.resend_at = None;
                server.acknowledged = true;
            }
        }
        Heard::Ack(text)
    }

    fn receive_response(&mut self, text: Text, code: u16, stage: &mut Stage<'_>) -> Heard {
        let key = (text.branch().to_owned(), text.method().to_owned());
        let Some(client) = self.clients.get_mut(&key) else { return Heard::Nothing };
        let invite = key.1 == "INVITE";
        if code < 200 {
            let first = !std::mem::replace(&mut client.provisional, true);
            if client.status >= 200 {
                return Heard::Nothing;
            }
            if invite {
                client.resend_at = None;
                if !client.cancel {
                    client.ends_at = stage.now + RINGING;
                }
            } else {
                client.interval = T2;
            }
            if first && client.cancel {
                self.send_cancel(&key, stage);
            }
            return Heard::Response(key, text);
        }
        let before = std::mem::replace(&mut client.status, code);
        client.resend_at = None;
        client.ends_at = client.ends_at.min(stage.now + PATIENCE).max(stage.now + T2);
        if !invite {
            return if before >= 200 { Heard::Nothing } else { Heard::Response(key, text) };
        }
        if code < 300 {
            client.ends_at = stage.now + PATIENCE;
            return Heard::Response(key, text);
        }
        let ack = client.ack.get_or_insert_with(|| ack_of(&client.request, &text)).clone();
        let path = client.path;
        client.ends_at = stage.now + PATIENCE;
        stage.send(path, &ack);
        if before >= 200 { Heard::Nothing } else { Heard::Response(key, text) }
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        let clients = self.clients.values().flat_map(|client| [client.resend_at, Some(client.ends_at)]);
        let servers = self.servers.values().flat_map(|server| [server.resend_at, server.ends_at]);
        clients.chain(servers).flatten().min()
    }

    /// Repeats what is due; returns client transactions that had no final answer, and 2xx that had no ACK.
    pub fn on_timer(&mut self, stage: &mut Stage<'_>) -> Vec<Key> {
        let now = stage.now;
        let mut lost = Vec::new();
        for (key, client) in &mut self.clients {
            if client.resend_at.is_some_and(|at| at <= now) {
                stage.acts.push(crate::act::Act::Send(client.path, client.request.render().into_bytes()));
                client.interval = (client.interval * 2).min(if key.1 == "INVITE" { PATIENCE } else { T2 });
                client.resend_at = Some(now + client.interval);
            }
            if client.ends_at <= now && client.status < 200 {
                lost.push(key.clone());
            }
        }
        for server in self.servers.values_mut() {
            if server.resend_at.is_some_and(|at| at <= now)
                && let Some(answer) = &server.answer
            {
                stage.acts.push(crate::act::Act::Send(server.path, answer.render().into_bytes()));
                server.interval = (server.interval * 2).min(T2);
                server.resend_at = Some(now + server.interval);
            }
        }
        self.clients.retain(|_, client| client.ends_at > now);
        let unacknowledged = self.servers.iter().filter(|(_, server)| {
            server.ends_at.is_some_and(|at| at <= now) && server.resend_at.is_some() && !server.acknowledged
        });
        lost.extend(unacknowledged.map(|(key, _)| key.clone()));
        self.servers.retain(|_, server| server.ends_at.is_none_or(|at| at > now));
        lost
    }

    /// A connection is gone: its client transactions are lost.
    pub fn path_lost(&mut self, path: Path) -> Vec<Key> {
        let lost: Vec<Key> = self
            .clients
            .iter()
            .filter(|(_, client)| client.path == path && client.status < 200)
            .map(|(key, _)| key.clone())
            .collect();
        self.clients.retain(|_, client| client.path != path);
        self.servers.retain(|_, server| server.path != path);
        lost
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The ACK of a refused INVITE (RFC 3261 §17.1.1.3).
fn ack_of(invite: &Text, answer: &Text) -> Text {
    let mut ack = Text::request("ACK", invite.uri())
        .with("Via", invite.header("Via"))
        .with("From", invite.header("From"))
        .with("To", answer.header("To"))
        .with("Call-ID", invite.header("Call-ID"))
        .with("CSeq", format!("{} ACK", invite.cseq()))
        .with("Max-Forwards", "70");
    for route in invite.all("Route") {
        ack = ack.with("Route", route);
    }
    ack
}

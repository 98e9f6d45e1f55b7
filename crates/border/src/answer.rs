//! Our own answers, and the requests that wait for one.

use bytes::Bytes;
use sip::{Hop, ServerId};
use wire::clock::Instant;
use wire::net::{Side, Transport};
use wire::sip::{Message, Writer};

use crate::Border;
use crate::drop_reason::DropReason;

/// A request that waits for an answer. It is kept as it came: what an answer repeats is read from it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) server: ServerId,
    pub(crate) hop: Hop,
    pub(crate) side: Side,
    pub(crate) bytes: Bytes,
    /// When it came.
    pub(crate) came: Instant,
}

/// The largest message that may leave us; masking may make one grow beyond what came.
pub(crate) fn size_max(transport: Transport) -> usize {
    match transport {
        Transport::Udp => DATAGRAM_MAX,
        Transport::Tcp | Transport::Tls => wire::sip::Limits::MESSAGE,
    }
}

/// What fits into a datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;

/// The reason phrases of RFC 3261 §21 and its extensions; what we never send has none.
pub(crate) fn reason_phrase(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        other => match other / 100 {
            1 => "Progress",
            2 => "Done",
            3 => "Redirected",
            4 => "Refused",
            5 => "Failed",
            _ => "Declined",
        },
    }
}

impl Border {
    /// Answers a request of its own accord. `more` adds headers.
    pub(crate) fn answer(&mut self, ask: &Ask, code: u16, more: impl FnOnce(&mut Writer)) {
        let Ok(request) = Message::parse(&ask.bytes) else {
            return self.never("a request that was read cannot be read again");
        };
        let to_tag = (code > 100).then(|| self.entropy.word());
        let mut writer =
            sip::response::response(&request, ask.hop.remote, code, reason_phrase(code), to_tag.as_deref());
        more(&mut writer);
        let bytes = Bytes::from(writer.finish(b""));
        self.transactions.respond(ask.server, code, bytes, self.now.mono);
    }

    /// Drops a request without an answer.
    pub(crate) fn abandon(&mut self, ask: &Ask, reason: DropReason) {
        self.dropped(reason);
        self.transactions.abandon(ask.server);
        self.room.answered(ask.server);
    }

    /// Answers a request with nothing but a status.
    pub(crate) fn refuse(&mut self, ask: &Ask, code: u16) {
        self.answer(ask, code, |_| {});
    }
}

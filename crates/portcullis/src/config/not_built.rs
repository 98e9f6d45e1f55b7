//! Sections and keys that this version reads and cannot carry out yet (contract section 1).
//!
//! What harms nobody by its absence gives one warning. What would weaken safety or change calls is refused:
//! never does the product run on as if it were there.

use super::defaults;
use super::document::{Parse, Section, header, quoted_key};
use super::fault::{FaultCode, Faults, Place, Problem};
use super::file::Sections;
use super::value;

/// Reports every use of something that is not built yet.
pub(super) fn examine(sections: &Sections<'_>, faults: &mut Faults) {
    if let Some(outside) = &sections.outside {
        examine_outside(outside, faults);
    }
    if let Some(media) = &sections.media {
        examine_media(media, faults);
    }
    if let Some(block) = &sections.block {
        examine_block(block, faults);
    }
    for extension in &sections.extension {
        examine_extension(extension, faults);
    }
    for dialing in &sections.dialing {
        examine_dialing(dialing, faults);
    }
    if let Some(console) = &sections.console {
        examine_console(console, faults);
    }
    if let Some(metrics) = &sections.metrics {
        examine_listener(metrics, faults);
    }
    if let Some(store) = &sections.store
        && let Some(url) = store.required("url", value::text, "\"redis://10.0.0.20:6379\"", faults)
    {
        refuse(&url.place, "nothing would be kept where it says", faults);
    }
}

fn examine_outside(outside: &Section<'_>, faults: &mut Faults) {
    let files = "write files in a list, such as [\"certs/device-ca.crl\"]";
    if !outside.list("revocation_lists", value::path, files, faults).is_empty() {
        let why = "revoked devices could register";
        refuse(&outside.place_of("revocation_lists"), why, faults);
    }
    if let Some(keepalive) = outside.optional("keepalive", value::duration, faults)
        && keepalive.value != defaults::KEEPALIVE
    {
        warn(&keepalive.place, "phones may take 30 s between two keepalives", faults);
    }
    if let Some(wss) = outside.optional("wss", value::port, faults) {
        // A fault of the address itself is reported where the address is read.
        let addresses = outside.one_or_more("address", value::ip, &mut Faults::default());
        let listens = |ip| format!("nothing listens on {}", std::net::SocketAddr::new(ip, wss.value));
        let consequence =
            addresses.first().map_or("nothing listens there".to_owned(), |at| listens(at.value));
        warn(&wss.place, &consequence, faults);
    }
}

/// What becomes of a word that asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// What is asked for is what happens.
    Met,
    /// What is asked for does not happen, to nobody's harm.
    Harmless,
    /// What is asked for does not happen, and somebody relies on it.
    Refused,
}

/// A word and what becomes of it.
type Judged = (&'static str, Wish);

const ICE: [Judged; 3] = [("off", Wish::Met), ("lite", Wish::Harmless), ("full", Wish::Refused)];
const SRTP: [Judged; 3] = [("off", Wish::Met), ("preferred", Wish::Harmless), ("required", Wish::Refused)];
const RELAY: [Judged; 2] = [("always", Wish::Met), ("when-needed", Wish::Harmless)];
const FIREWALL: [Judged; 2] = [("off", Wish::Met), ("nftables", Wish::Refused)];

/// Reads one of a few words; none where what it asks for is what happens anyway.
fn unmet<'a>(
    section: &Section<'a>,
    key: &str,
    parse: Parse<'a, Wish>,
    faults: &mut Faults,
) -> Option<(Place, Wish)> {
    let found = section.optional(key, parse, faults)?;
    (found.value != Wish::Met).then_some((found.place, found.value))
}

fn examine_media(media: &Section<'_>, faults: &mut Faults) {
    let cases: [(&str, Parse<'_, Wish>, &str); 3] = [
        ("ice", |item| value::one_of(item, &ICE), "phones are told plain RTP addresses, without candidates"),
        ("srtp", |item| value::one_of(item, &SRTP), "audio goes as plain RTP"),
        ("relay", |item| value::one_of(item, &RELAY), "every call is relayed"),
    ];
    for (key, parse, consequence) in cases {
        match unmet(media, key, parse, faults) {
            Some((place, Wish::Refused)) => refuse(&place, consequence, faults),
            Some((place, _)) => warn(&place, consequence, faults),
            None => {}
        }
    }
    let servers = "write servers in a list, such as [\"stun.example.org:3478\"]";
    if !media.list("stun_servers", value::text, servers, faults).is_empty() {
        let consequence = "phones are told `public_address`, or else `address`";
        warn(&media.place_of("stun_servers"), consequence, faults);
    }
}

fn examine_extension(extension: &Section<'_>, faults: &mut Faults) {
    let networks = "write networks in a list, such as [\"198.51.100.0/24\"]";
    if !extension.list("allow_from", value::prefix, networks, faults).is_empty() {
        refuse(&extension.place_of("allow_from"), "the extension could register from anywhere", faults);
    }
    if let Some(dialing) = extension.optional("dialing", value::name, faults) {
        refuse(&dialing.place, "every number could be dialed", faults);
    }
}

fn examine_dialing(dialing: &Section<'_>, faults: &mut Faults) {
    dialing.required("name", value::name, "\"no-international\"", faults);
    for key in ["deny", "allow", "emergency"] {
        dialing.list(key, value::text, "write patterns in a list, such as [\"00*\"]", faults);
    }
    refuse(&dialing.place, "its rules would bar no number", faults);
}

fn examine_block(block: &Section<'_>, faults: &mut Faults) {
    if let Some((place, _)) = unmet(block, "firewall", |item| value::one_of(item, &FIREWALL), faults) {
        refuse(&place, "packets of blocked sources would still reach the process", faults);
    }
}

/// A listener that would serve people or programs, not phones.
fn examine_listener(section: &Section<'_>, faults: &mut Faults) {
    let listen = section.required("listen", value::socket_address, "\"127.0.0.1:8080\"", faults);
    let consequence = match listen {
        Some(listen) => format!("nothing listens on {}", listen.value),
        None => "nothing listens".to_owned(),
    };
    warn(&section.place, &consequence, faults);
}

/// The keys of `[console]` beside `listen`. What they name is not opened while nothing uses it.
fn examine_console(console: &Section<'_>, faults: &mut Faults) {
    console.optional("certificate", value::path, faults);
    console.optional("private_key", value::path, faults);
    console.optional("admin_password", value::secret, faults);
    examine_listener(console, faults);
}

fn warn(place: &Place, consequence: &str, faults: &mut Faults) {
    let message = format!("{} is not available yet; {consequence}", quoted(&place.key));
    let help = "leave it out, or keep it for a later version";
    faults.warning(place, Problem::new(FaultCode::NotAvailable, message, "has no effect", help));
}

fn refuse(place: &Place, consequence: &str, faults: &mut Faults) {
    let message = format!("{} is not available yet", quoted(&place.key));
    let found = format!("refused: without it {consequence}");
    let help = "take it out, if you can do without it in this version";
    faults.error(place, Problem::new(FaultCode::NotAvailable, message, found, help));
}

fn quoted(key: &str) -> String {
    if key.contains('.') { quoted_key(key) } else { header(key) }
}

//! Who would reach whom: PBXs and trusted servers against our own addresses.
//!
//! Compares what stands in the file; never asks for a name or a port.

use std::net::IpAddr;

use wire::net::Side;

use super::document::{At, quoted_key};
use super::fault::{FaultCode, Faults, Problem};
use super::file::FileConfig;
use super::settings::Listener;
use super::value::{HostName, PbxUri};

/// Where a PBX listens whose URI names no port (RFC 3261 §19.1.2).
const SIP_PORT: u16 = 5060;

/// Reports whatever would reach ourselves, nobody, or everybody.
pub(super) fn check(
    config: &FileConfig,
    outside: Option<IpAddr>,
    inside: Option<IpAddr>,
    listeners: &[Listener],
    faults: &mut Faults,
) {
    let public = config.outside.as_ref().and_then(|outside| outside.public_address.as_ref());
    let own_outside = [outside, public.map(|at| at.value)];
    if let (Some(face), true) = (&config.inside, outside.is_some() && outside == inside)
        && let Some(address) = face.address.first()
    {
        let message = format!("{} is the address of [outside], too", quoted_key(&address.place.key));
        let help = "give the inside an address that only the PBX's network reaches";
        let found = "what is for the PBX is open to the Internet";
        faults.warning(&address.place, Problem::new(FaultCode::Conflict, message, found, help));
    }
    for uri in config.pbx.iter().filter_map(|pbx| pbx.uri.as_ref()) {
        check_pbx(uri, own_outside, inside, listeners, faults);
    }
    let trusted = config.inside.iter().flat_map(|inside| &inside.trusted);
    for address in trusted {
        check_trusted(address, own_outside, inside, faults);
    }
}

fn check_pbx(
    uri: &At<PbxUri>,
    own_outside: [Option<IpAddr>; 2],
    inside: Option<IpAddr>,
    listeners: &[Listener],
    faults: &mut Faults,
) {
    let HostName::Ip(ip) = uri.value.host else { return };
    let port = uri.value.port.unwrap_or(SIP_PORT);
    let own_port = |side: Side| listeners.iter().any(|it| it.side == side && it.address.port() == port);
    let key = quoted_key(&uri.place.key);
    let help = "name the address and port at which the PBX itself listens";
    let own = if inside == Some(ip) && own_port(Side::Inside) {
        "[inside]"
    } else if own_outside.contains(&Some(ip)) && own_port(Side::Outside) {
        "[outside]"
    } else {
        if inside.is_some_and(|inside| inside.is_ipv4() != ip.is_ipv4()) {
            let message = format!("{key} cannot be reached from [inside]: one is IPv4, the other IPv6");
            let help = "give [inside] an address of the PBX's kind, or name the PBX by its other address";
            let found = format!("found `{ip}`");
            faults.error(&uri.place, Problem::new(FaultCode::Conflict, message, found, help));
        } else if own_outside.contains(&Some(ip)) {
            let message = format!("{key} is our own address in [outside]: the PBX would stand outside");
            let found = format!("found `{ip}`");
            faults.warning(&uri.place, Problem::new(FaultCode::Conflict, message, found, help));
        }
        return;
    };
    let message = format!("{key} is our own port in {own}: we would ask ourselves");
    let found = format!("found `{ip}`, port {port}");
    faults.error(&uri.place, Problem::new(FaultCode::Conflict, message, found, help));
}

fn check_trusted(
    address: &At<IpAddr>,
    own_outside: [Option<IpAddr>; 2],
    inside: Option<IpAddr>,
    faults: &mut Faults,
) {
    let (ip, key) = (address.value, quoted_key(&address.place.key));
    let (code, message, help) = if ip.is_unspecified() {
        let message = format!("{key} holds {ip}, from which nothing ever comes");
        (FaultCode::Unused, message, "name each server that sends calls to us, by its own address")
    } else if inside == Some(ip) || own_outside.contains(&Some(ip)) {
        let message = format!("{key} holds our own address {ip}");
        (FaultCode::Conflict, message, "take it out, unless the server is on this very machine")
    } else if is_public(ip) {
        let message =
            format!("{key} holds {ip}, an address of the Internet: who has it may call every phone");
        (FaultCode::Conflict, message, "take it out, unless that network is yours and ends at [inside]")
    } else {
        return;
    };
    faults.warning(&address.place, Problem::new(code, message, "as it stands here", help));
}

/// Whether an address may be somebody's in the Internet: neither private (RFC 1918, RFC 4193), shared
/// (RFC 6598), of this link or machine, nor for documentation (RFC 5737, RFC 3849).
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && (64..128).contains(&second);
            let kept = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation();
            !(kept || shared || first == 0 || first >= 224)
        }
        IpAddr::V6(ip) => {
            let documentation = ip.segments().starts_with(&[0x2001, 0xdb8]);
            (ip.segments()[0] & 0xe000) == 0x2000 && !documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_told_from_those_of_a_company() {
        for (address, public) in [
            ("10.0.0.30", false),
            ("192.168.1.1", false),
            ("172.31.0.1", false),
            ("100.100.0.1", false),
            ("127.0.0.4", false),
            ("203.0.113.7", false),
            ("8.8.8.8", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
            ("2001:db8::1", false),
            ("2a00::1", true),
            ("::ffff:8.8.8.8", true),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }
}

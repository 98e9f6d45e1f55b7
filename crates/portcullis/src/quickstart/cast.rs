//! Who plays in the quickstart, and where: addresses of loopback that no other machine can reach.

use std::net::{IpAddr, Ipv4Addr};

use super::fault::Fault;

/// The frontend's face to the phones.
pub(crate) const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// The frontend's face to the PBX.
pub(crate) const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// The PBX.
pub(crate) const PBX: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));
/// The phones.
pub(crate) const PHONES: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The intruder.
pub(crate) const INTRUDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

/// The PBX's domain, and realm.
pub(crate) const DOMAIN: &str = "pbx.lab";

/// A number that the PBX has not: calls to it end at once.
pub(crate) const NOBODY: &str = "4711";

/// An extension with its phone.
#[derive(Clone)]
pub(crate) struct Extension {
    /// Its number.
    pub number: String,
    /// Its phone's.
    pub hardware_id: String,
    /// Its digest password at the PBX.
    pub password: String,
}

/// The two extensions of the story.
pub(crate) fn extensions() -> Result<[Extension; 2], Fault> {
    let extension = |number: &str, hardware_id: &str| -> Result<Extension, Fault> {
        let (number, hardware_id) = (number.to_owned(), hardware_id.to_owned());
        Ok(Extension { number, hardware_id, password: format!("{:016x}", getrandom::u64()?) })
    };
    Ok([extension("1001", "009033010203")?, extension("1002", "009033010204")?])
}

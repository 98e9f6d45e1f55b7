//! The quickstart's certificates in its directory: the CA's, the frontend's, and one for each phone.
//!
//! Made on the spot, written for their owner alone, and never in this repository.

use std::net::IpAddr;

use portcullis_lab::{Authority, Identity, Pem};

use super::directory::Directory;
use super::fault::Fault;

/// Where they are, below the quickstart's directory. The names are those of `certs/make-dev-ca.sh`, which
/// can therefore make more of them.
pub(crate) const FOLDER: &str = "certs";

/// Name of the server, beside its address.
pub(crate) const SERVER_NAME: &str = "portcullis.lab";

/// The CA's certificate and key, and the frontend's, which phones know it by: `device-ca` and `server`.
pub(crate) fn write(directory: &Directory, authority: &Authority, server: IpAddr) -> Result<(), Fault> {
    directory.subdirectory(FOLDER)?;
    write_pair(directory, "device-ca", authority.pem())?;
    write_pair(directory, "server", authority.server(SERVER_NAME, server)?.pem())
}

/// A phone's certificate: `HARDWARE_ID.pem`, `.key`, and both in one file as many phones want them.
pub(crate) fn write_phone(
    directory: &Directory,
    authority: &Authority,
    hardware_id: &str,
) -> Result<Identity, Fault> {
    let identity = authority.device(hardware_id)?;
    let Pem { certificate, key } = identity.pem();
    write_pair(directory, hardware_id, identity.pem())?;
    directory.write(&file(&format!("{hardware_id}-both.pem")), &format!("{certificate}{key}"))?;
    Ok(identity)
}

fn write_pair(directory: &Directory, name: &str, Pem { certificate, key }: &Pem) -> Result<(), Fault> {
    directory.write(&file(&format!("{name}.pem")), certificate)?;
    directory.write(&file(&format!("{name}.key")), key)
}

/// The path of one of them, as the configuration names it.
pub(crate) fn file(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

//! What is printed after the story: how a real softphone and a real PBX take the lab's places.

use std::net::SocketAddr;
use std::path::Path;

use super::cast::{DOMAIN, OUTSIDE};
use super::certificates;
use super::configuration;
use super::directory::Directory;

/// The hardware ID whose phone has left: its certificate is free.
const FREE: &str = "009033010204";

/// The whole text.
pub(crate) fn text(directory: &Directory, server: SocketAddr) -> String {
    let path = |name: &str| directory.file(name).display().to_string();
    let certificate = |name: &str| path(&certificates::file(name));
    let (own, key, both, ca) = (
        certificate(&format!("{FREE}.pem")),
        certificate(&format!("{FREE}.key")),
        certificate(&format!("{FREE}-both.pem")),
        certificate("device-ca.pem"),
    );
    let file = path(configuration::FILE);
    let softphone = format!(
        "A real softphone, on this machine, as extension 1002 (phone 1001 stays on and answers with an echo):\n\
         \x20 server {server}, TLS; user 1002, domain {DOMAIN}, no password\n\
         \x20 certificate {own}\n\
         \x20 key         {key}\n\
         \x20 server's CA {ca}\n\
         \n\
         \x20 baresip, in ~/.baresip/config:\n\
         \x20   sip_certificate {both}\n\
         \x20   sip_cafile {ca}\n\
         \x20 and in ~/.baresip/accounts, then dial 1001:\n\
         \x20   <sip:1002@{DOMAIN};transport=tls>;outbound=\"sip:{server};transport=tls\";regint=60;audio_codecs=PCMU\n\
         \n\
         \x20 Linphone, in linphonerc:\n\
         \x20   [sip]\n\
         \x20   root_ca={ca}\n\
         \x20   [proxy_0]\n\
         \x20   reg_proxy=<sip:{server};transport=tls>\n\
         \x20   reg_route=<sip:{server};transport=tls>\n\
         \x20   reg_identity=sip:1002@{DOMAIN}\n\
         \x20   reg_sendregister=1\n\
         \x20   [auth_info_0]\n\
         \x20   username=1002\n\
         \x20   domain={DOMAIN}\n\
         \x20   client_cert_chain={own}\n\
         \x20   client_cert_key={key}\n"
    );
    let pbx = format!(
        "A real PBX: stop this, and in {file}\n\
         put the PBX's address and the extensions' passwords at the PBX:\n\
         \x20   [[pbx]]\n\
         \x20   name = \"main\"\n\
         \x20   uri = \"sip:10.0.0.10\"              # sip:HOST[:PORT][;transport=udp|tcp]\n\
         \x20   domain = \"example.com\"             # of its extensions\n\
         \n\
         \x20   [[extension]]\n\
         \x20   name = \"1001\"\n\
         \x20   hardware_ids = [\"009033010203\"]\n\
         \x20   password = \"…\"\n\
         set `address` in [inside] to the one that the PBX shall see, and in [outside] the one for phones instead\n\
         of {OUTSIDE}, with `tls = 5061`; then\n\
         \x20   portcullis check -c {file}\n\
         \x20   portcullis run -c {file}\n"
    );
    format!("\n{softphone}\n{pbx}\n{}", operator(directory.path(), &file))
}

fn operator(directory: &Path, file: &str) -> String {
    format!(
        "Look at it while it runs, from another terminal:\n\
         \x20   portcullis registrations -c {file}\n\
         \x20   portcullis block list -c {file}\n\
         \x20   portcullis events --follow -c {file}\n\
         Its log is {}.\n",
        directory.join(super::LOG_FILE).display()
    )
}

//! A real softphone for the lab: baresip's whole directory, written so that one command starts it.
//!
//! It sends a tone and keeps what it hears in a file, so that it needs no sound card; the lines for one stand
//! beside.

use std::net::SocketAddr;

use super::cast::{DOMAIN, Extension, PHONES};
use super::certificates;
use super::directory::Directory;
use super::fault::Fault;

/// baresip's directory, in the quickstart's.
pub(crate) const FOLDER: &str = "baresip";

/// Writes it, for the extension whose phone has left. Every path in it is relative to the quickstart's
/// directory, whose name may have blanks, which baresip could not read.
pub(crate) fn write(directory: &Directory, server: SocketAddr, free: &Extension) -> Result<(), Fault> {
    directory.subdirectory(FOLDER)?;
    directory.write(&format!("{FOLDER}/config"), &config(&free.hardware_id))?;
    directory.write(&format!("{FOLDER}/accounts"), &account(server, &free.number))
}

fn config(hardware_id: &str) -> String {
    let both = certificates::file(&format!("{hardware_id}-both.pem"));
    let ca = certificates::file("device-ca.pem");
    format!(
        "# Written by `portcullis quickstart` for baresip, started in the directory above this one.\n\
         module_path /usr/lib/baresip/modules   # where Debian and Ubuntu have them\n\
         module g711.so\n\
         module ausine.so\n\
         module aubridge.so\n\
         module sndfile.so\n\
         module uuid.so\n\
         module stdio.so\n\
         module_tmp account.so\n\
         module_app menu.so\n\
         \n\
         net_interface {PHONES}\n\
         sip_certificate {both}\n\
         sip_cafile {ca}\n\
         \n\
         # What is heard is kept in {FOLDER}/dump-…-dec.wav.\n\
         snd_path {FOLDER}\n\
         \n\
         # A tone is sent.\n\
         audio_source ausine,440\n\
         audio_player aubridge,sink\n\
         audio_alert aubridge,alert\n\
         ausrc_srate 48000\n\
         ausrc_channels 2\n\
         \n\
         # With a sound card, these instead of the five above:\n\
         # module alsa.so\n\
         # audio_source alsa,default\n\
         # audio_player alsa,default\n\
         # audio_alert alsa,default\n"
    )
}

fn account(server: SocketAddr, number: &str) -> String {
    format!(
        "<sip:{number}@{DOMAIN};transport=tls>;outbound=\"sip:{server};transport=tls\";regint=60;\
         audio_codecs=PCMU\n"
    )
}

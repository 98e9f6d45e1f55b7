//! The product, with a configuration of its own: it serves on ports that the operating system chose.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::process::Stdio;

use super::{
    Ground, Group, INSIDE, OUTSIDE, Running, Transport, Wanted, extension, hardware_id, log, own_directory,
    program,
};
use crate::load::pki::{DEVICE_CA, SERVER};
use crate::templates::DOMAIN;

const CONFIGURATION: &str = "portcullis.toml";
/// Below those of which the operating system chooses for everybody else.
const MEDIA_PORTS: &str = "10000-32767";

pub(super) fn start(wanted: &Wanted, ground: &Ground<'_>) -> io::Result<Running> {
    let directory = own_directory(ground, "portcullis")?;
    let text = configuration(wanted, ground).map_err(io::Error::other)?;
    fs::write(directory.join(CONFIGURATION), text)?;
    let mut command = program(&ground.programs.portcullis);
    command.args(["run", "-c", CONFIGURATION]).current_dir(&directory);
    command.stdout(Stdio::piped()).stderr(log(&directory)?);
    let mut running = Running::of(Group::spawn(command)?, ground);
    running.wait_until_it_says_ready().map_err(|fault| {
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        io::Error::other(format!("{fault}; {}", log.trim()))
    })?;
    running.control = Some(directory.join(CONFIGURATION));
    Ok(running)
}

fn configuration(wanted: &Wanted, ground: &Ground<'_>) -> Result<String, std::fmt::Error> {
    let [certificate, key] = SERVER;
    let mut text = format!(
        "[node]\ndata_dir = \"data\"\nadmin_socket = \"admin.sock\"\nlog = \"warn\"\n\n\
         [outside]\naddress = \"{OUTSIDE}\"\ntls = 0\nudp = 0\ncertificate = \"../{certificate}\"\n\
         private_key = \"../{key}\"\ndevice_ca = [\"../{DEVICE_CA}\"]\n\n\
         [inside]\naddress = \"{INSIDE}\"\nudp = 0\ntcp = 0\n\n\
         [media]\nstun_server = false\noutside_ports = \"{MEDIA_PORTS}\"\n\
         inside_ports = \"{MEDIA_PORTS}\"\n\n\
         [registration]\nphone_expires = \"1h\"\n\n\
         [[pbx]]\nname = \"main\"\nuri = \"sip:{};transport=udp\"\ndomain = \"{DOMAIN}\"\n\
         registrations = \"100000/1s\"\n\
         health_check = \"1h\"\n\n\
         [[frequency]]\nname = \"default\"\nrules = [\"100000/1s\"]\n",
        ground.pbx.address()
    );
    if wanted.phones_allowed {
        text.push_str("\n[[allowed]]\nname = \"load\"\naddress = \"127.85.0.0/16\"\n");
    }
    for number in 0..wanted.extensions {
        write!(text, "\n[[extension]]\nname = \"{}\"\nmax_calls = 10000\n", extension(number))?;
        match wanted.transport {
            Transport::Udp => text.push_str("authentication = \"digest\"\n"),
            Transport::Tls => {
                let id = hardware_id(number);
                writeln!(text, "hardware_ids = [\"{id}\"]\npassword = \"secret\"")?;
            }
        }
    }
    Ok(text)
}

//! Kamailio (Debian's packages) with a configuration that does the same job.
//!
//! With the allocator `fm`: its default one is for debugging, and not a fair opponent.

use std::fs;
use std::io;
use std::process::Stdio;

use super::{
    Ground, Group, INSIDE, OUTSIDE, Running, System, Transport, Wanted, find_program, free_port, log,
    own_directory, rtpengine,
};
use crate::load::pki::{DEVICE_CA, SERVER};

/// An edge proxy in a DMZ; `@NAME@` is filled in.
const CONFIGURATION: &str = include_str!("kamailio-edge.cfg");
/// Where Debian keeps its modules, by architecture.
const MODULES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/kamailio/modules/", "/usr/lib/aarch64-linux-gnu/kamailio/modules/"];
const WORKERS: u32 = 4;

pub(super) fn start(system: System, wanted: &Wanted, ground: &Ground<'_>) -> io::Result<Running> {
    let directory = own_directory(ground, "kamailio")?;
    let program = find_program("kamailio").ok_or_else(|| io::Error::other("kamailio is not installed"))?;
    let modules = MODULES.iter().find(|path| fs::exists(path).unwrap_or_default());
    let modules = modules.ok_or_else(|| io::Error::other("kamailio has no modules here"))?;
    let (udp, inside, tls) = (free_port(OUTSIDE)?, free_port(INSIDE)?, free_port(OUTSIDE)?);
    let helper = if system == System::KamailioMedia { Some(rtpengine::spawn(ground)?) } else { None };
    let control = directory.join("control.sock");
    let workers = if wanted.single { 1 } else { WORKERS };
    let values = [
        ("@WORKERS@", workers.to_string()),
        ("@UDP@", udp.to_string()),
        ("@TLS@", tls.to_string()),
        ("@INSIDE@", INSIDE.to_string()),
        ("@INSIDE_UDP@", inside.to_string()),
        ("@OUTSIDE_PORT@", udp.port().to_string()),
        ("@DIRECTORY@", directory.display().to_string()),
        ("@MODULES@", (*modules).to_owned()),
        ("@RTPENGINE@", helper.as_ref().map(|(_, ng)| ng.to_string()).unwrap_or_default()),
    ];
    let mut text = String::from("#!KAMAILIO\n");
    for word in definitions(system, wanted) {
        text.push_str(&format!("#!define WITH_{word}\n"));
    }
    text.push_str(CONFIGURATION);
    for (mark, value) in values {
        text = text.replace(mark, &value);
    }
    fs::write(directory.join("kamailio.cfg"), text)?;
    fs::write(directory.join("dispatcher.list"), format!("1 sip:{}\n", ground.pbx.address()))?;
    fs::write(directory.join("tls.cfg"), tls_configuration(ground))?;
    let mut command = super::program(&program);
    command.args(["-x", "fm", "-X", "fm", "-DD", "-E", "-m", "512", "-M", "16", "-f"]);
    command.arg(directory.join("kamailio.cfg")).arg("-w").arg(&directory).arg("-Y").arg(&directory);
    command.arg("-P").arg(directory.join("pid"));
    command.stdout(Stdio::null()).stderr(log(&directory)?);
    let mut running = Running::of(Group::spawn(command)?, ground);
    running.helper = helper.map(|(group, _)| group);
    (running.udp, running.tls, running.control) = (udp, tls, Some(control));
    running.wait_until_it_answers(wanted.transport).map_err(|fault| {
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        let cause = log.lines().find(|line| line.contains("CRITICAL") || line.contains("ERROR"));
        io::Error::other(format!("{fault}; {}", cause.unwrap_or("its log says nothing")))
    })?;
    Ok(running)
}

fn definitions(system: System, wanted: &Wanted) -> Vec<&'static str> {
    let mut words = match system {
        System::KamailioRegistrar => vec!["ABSORB"],
        System::KamailioTopoh => vec!["TOPOH"],
        System::KamailioMedia => vec!["TOPOH", "RTPENGINE"],
        System::KamailioPike => vec!["PIKE", "NIO"],
        _ => Vec::new(),
    };
    if wanted.transport == Transport::Tls {
        words.push("TLS");
    }
    words
}

fn tls_configuration(ground: &Ground<'_>) -> String {
    let path = |name: &str| ground.directory.join(name).display().to_string();
    let [certificate, key] = SERVER.map(path);
    format!(
        "[server:default]\nmethod = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\n\
         private_key = {key}\ncertificate = {certificate}\nca_list = {}\nverify_depth = 2\n\
         [client:default]\nmethod = TLSv1.2+\n",
        path(DEVICE_CA)
    )
}

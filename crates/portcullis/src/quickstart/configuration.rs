//! The quickstart's `portcullis.toml`: an ordinary configuration on loopback, as an operator would write it.
//!
//! Nothing in it is special: `portcullis check` and `portcullis run` take it too.

use std::net::SocketAddr;

use super::cast::{DOMAIN, Extension, INSIDE, OUTSIDE};
use super::certificates;

/// Below the ports that Linux lends out, and apart from the defaults, so that it stands beside anything.
const OUTSIDE_PORTS: &str = "8000-8999";
const INSIDE_PORTS: &str = "9000-9999";

/// Its name in the directory.
pub(crate) const FILE: &str = "portcullis.toml";

/// Its admin socket in the directory.
pub(crate) const ADMIN_SOCKET: &str = "admin.sock";

/// The text of the file.
pub(crate) fn text(pbx: SocketAddr, extensions: &[Extension]) -> String {
    let [certificate, key, ca] = ["server.pem", "server.key", "device-ca.pem"].map(certificates::file);
    let mut text = format!(
        "# Written by `portcullis quickstart`. Everything on loopback; port 0: the system chooses.\n\
         \n\
         [node]\n\
         name = \"quickstart\"\n\
         data_dir = \"data\"\n\
         admin_socket = \"{ADMIN_SOCKET}\"\n\
         \n\
         [outside]                                # the face to the phones\n\
         address = \"{OUTSIDE}\"\n\
         tls = 0\n\
         certificate = \"{certificate}\"\n\
         private_key = \"{key}\"\n\
         device_ca = [\"{ca}\"]\n\
         \n\
         [inside]                                 # the face to the PBX\n\
         address = \"{INSIDE}\"\n\
         udp = 0\n\
         tcp = 0\n\
         \n\
         [[pbx]]\n\
         name = \"lab\"\n\
         uri = \"sip:{pbx};transport=udp\"\n\
         domain = \"{DOMAIN}\"\n\
         \n\
         [media]\n\
         outside_ports = \"{OUTSIDE_PORTS}\"\n\
         inside_ports = \"{INSIDE_PORTS}\"\n\
         stun_server = 0\n\
         \n\
         [[frequency]]\n\
         name = \"default\"\n\
         rules = [\"5/1s\", \"60/1h\"]\n\
         \n\
         [block]\n\
         after = 5\n\
         within = \"1m\"\n\
         time = \"10m\"\n"
    );
    for Extension { number, hardware_id, password } in extensions {
        text.push_str(&format!(
            "\n\
             [[extension]]\n\
             name = \"{number}\"\n\
             hardware_ids = [\"{hardware_id}\"]\n\
             password = \"{password}\"\n\
             max_calls = 10                           # so that the frequency is what limits a burst\n"
        ));
    }
    text
}

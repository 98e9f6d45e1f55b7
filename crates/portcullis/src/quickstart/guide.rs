//! What is printed after the story: how a real softphone and a real PBX take the lab's places.

use std::net::SocketAddr;
use std::path::Path;

use super::cast::{DOMAIN, Extension, OUTSIDE};
use super::certificates::{self, SERVER_NAME};
use super::configuration;
use super::directory::Directory;
use super::softphone;

/// How the lab is left, for those who want to go on.
pub(crate) struct Guide<'a> {
    /// Where everything is.
    pub directory: &'a Directory,
    /// Where phones connect.
    pub server: SocketAddr,
    /// The number whose lab phone answers.
    pub stays: &'a str,
    /// The extension whose lab phone has left.
    pub free: &'a Extension,
}

impl Guide<'_> {
    /// The whole text.
    pub(crate) fn text(&self) -> String {
        format!("\n{}\n{}\n{}", self.softphone(), self.pbx(), self.operator())
    }

    fn softphone(&self) -> String {
        let Self { directory, server, stays, free: Extension { number, hardware_id, .. } } = self;
        let certificate = |name: &str| quoted(&directory.file(&certificates::file(name)));
        let (own, key, ca) = (
            certificate(&format!("{hardware_id}.pem")),
            certificate(&format!("{hardware_id}.key")),
            certificate("device-ca.pem"),
        );
        let (place, folder) = (quoted(directory.path()), softphone::FOLDER);
        format!(
            "A real softphone as extension {number}: baresip (Debian: apt-get install baresip-core), all written;\n\
             it sends a tone, and phone {stays} answers with an echo. Then type /dial {stays}, and q to quit:\n\
             \x20   (cd {place} && baresip -f {folder})\n\
             Another one, on this machine:\n\
             \x20   server {server}, TLS; user {number}, domain {DOMAIN}, no password\n\
             \x20   certificate {own}\n\
             \x20   key         {key}\n\
             \x20   server's CA {ca}\n"
        )
    }

    fn pbx(&self) -> String {
        let (program, file) = (program(), self.file());
        let certs = quoted(&self.directory.file(certificates::FOLDER));
        format!(
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
             of {OUTSIDE}, with `tls = 5061`. The server's certificate bears {SERVER_NAME} and {OUTSIDE} alone:\n\
             have one made with the name and address for phones instead, in Portcullis's source tree; then check:\n\
             \x20   rm {certs}/server.pem {certs}/server.key\n\
             \x20   certs/make-dev-ca.sh {certs} server sbc.example.com 203.0.113.10\n\
             \x20   {program} check -c {file}\n\
             \x20   {program} run -c {file}\n"
        )
    }

    fn operator(&self) -> String {
        let (program, file) = (program(), self.file());
        let log = self.directory.file(super::LOG_FILE);
        format!(
            "Look at it while it runs, from another terminal:\n\
             \x20   {program} registrations -c {file}\n\
             \x20   {program} calls -c {file}\n\
             \x20   {program} block list -c {file}\n\
             \x20   {program} events --follow -c {file}\n\
             Its log is {}.\n",
            log.display()
        )
    }

    fn file(&self) -> String {
        quoted(&self.directory.file(configuration::FILE))
    }
}

/// What is left behind, and how it goes away.
pub(crate) fn farewell(directory: &Directory) -> String {
    let place = quoted(directory.path());
    format!(
        "\nEnded. Certificates, configuration and log are still there; to remove them:\n    rm -r {place}\n"
    )
}

/// This program, as a shell finds it from anywhere.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| env!("CARGO_PKG_NAME").to_owned(), |path| quoted(&path))
}

/// A path as a word for the shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+,:@%".contains(letter);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::super::cast;
    use super::*;

    #[test]
    fn another_address_asks_for_another_certificate_before_a_start() {
        let directory = Directory::make(None).unwrap();
        let server = SocketAddr::from(([127, 0, 0, 2], 5061));
        let [free, _] = cast::extensions().unwrap();
        let guide = Guide { directory: &directory, server, stays: "1002", free: &free };
        let text = guide.text();
        let certs = directory.file("certs");
        let issue = format!("certs/make-dev-ca.sh {} server sbc.example.com 203.0.113.10\n", certs.display());
        std::fs::remove_dir(directory.path()).unwrap();
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
        let order =
            [at("`address` in [inside]"), at("server.pem "), at(&issue), at("check -c"), at("run -c")];
        assert!(order.is_sorted(), "{order:?} in {text}");
        let file = directory.file(configuration::FILE);
        let commands: Vec<&str> = text.lines().filter(|line| line.contains(" -c ")).collect();
        assert!(commands.len() > 4, "{text}");
        for command in commands {
            assert!(command.ends_with(&format!(" -c {}", file.display())), "{command}");
        }
    }

    #[test]
    fn a_path_is_one_word_for_the_shell() {
        let quoted = |text: &str| quoted(Path::new(text));
        assert_eq!(quoted("/tmp/portcullis-quickstart-0a"), "/tmp/portcullis-quickstart-0a");
        assert_eq!(quoted("/home/a b/$(x)"), "'/home/a b/$(x)'");
        assert_eq!(quoted("/it's"), "'/it'\\''s'");
    }
}

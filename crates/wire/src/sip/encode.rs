//! Writes messages. RFC 3261 §7. What is written parses again: no value can end its line, no name or URI
//! can end its place, and Content-Length is counted here and nowhere else.

use std::fmt::{self, Display, Write};

use super::{HeaderName, grammar};

/// One message being written.
#[derive(Clone, Debug)]
pub struct Writer {
    text: String,
}

impl Writer {
    /// Begins a request. Signs that no URI has are written as `%` escapes.
    pub fn request(method: &str, uri: &str) -> Self {
        let mut text = String::with_capacity(1024);
        push_token(&mut text, method);
        text.push(' ');
        for character in uri.chars() {
            if character.is_ascii_graphic() && !matches!(character, '<' | '>' | '"') {
                text.push(character);
            } else {
                push_escaped(&mut text, character);
            }
        }
        text.push_str(" SIP/2.0\r\n");
        Self { text }
    }

    /// Begins a response.
    pub fn response(code: u16, reason: &str) -> Self {
        let mut writer = Self { text: String::with_capacity(1024) };
        writer.push(format_args!("SIP/2.0 {code:03} {reason}"));
        writer.text.push_str("\r\n");
        writer
    }

    /// Adds a header field. CR, LF, NUL and other control characters of the value, but for tabs, become blanks; a
    /// Content-Length is left out, since [`Writer::finish`] writes it.
    pub fn header(&mut self, name: &str, value: impl Display) -> &mut Self {
        if HeaderName::parse(name) == HeaderName::ContentLength {
            return self;
        }
        push_token(&mut self.text, name);
        self.text.push_str(": ");
        self.push(value);
        self.text.push_str("\r\n");
        self
    }

    /// Ends the header section and adds the body.
    pub fn finish(mut self, body: &[u8]) -> Vec<u8> {
        self.push(format_args!("Content-Length: {}", body.len()));
        self.text.push_str("\r\n\r\n");
        let mut bytes = self.text.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    fn push(&mut self, value: impl Display) {
        // Writing to a string fails only where a foreign `Display` says so; then what it wrote stands.
        write!(OneLine(&mut self.text), "{value}").ok();
    }
}

/// Writes on one line.
struct OneLine<'a>(&'a mut String);

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_unsafe = |character: char| character.is_ascii_control() && character != '\t';
        if text.contains(is_unsafe) {
            self.0.extend(text.chars().map(|character| if is_unsafe(character) { ' ' } else { character }));
        } else {
            self.0.push_str(text);
        }
        Ok(())
    }
}

/// A token as it stands; what no token has is left out, and of nothing a dash remains.
fn push_token(text: &mut String, token: &str) {
    if grammar::is_token(token) {
        text.push_str(token);
        return;
    }
    let before = text.len();
    text.extend(token.bytes().filter(|byte| grammar::is(*byte, grammar::TOKEN)).map(char::from));
    if text.len() == before {
        text.push('-');
    }
}

fn push_escaped(text: &mut String, character: char) {
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        write!(text, "%{byte:02X}").ok();
    }
}

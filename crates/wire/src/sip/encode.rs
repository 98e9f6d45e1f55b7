//! Writes messages. RFC 3261 §7. What is written parses again: no value can end its line, no name or URI
//! can end its place, and Content-Length is counted here and nowhere else.

use std::borrow::Cow;
use std::fmt::{self, Write};

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
        format_args!("SIP/2.0 {code:03} {reason}").write(&mut OneLine(&mut writer.text));
        writer.text.push_str("\r\n");
        writer
    }

    /// Adds a header field. CR, LF, NUL and other control characters of the value, but for tabs, become blanks; a
    /// Content-Length is left out, since [`Writer::finish`] writes it.
    pub fn header(&mut self, name: &str, value: impl HeaderValue) -> &mut Self {
        if HeaderName::parse(name) == HeaderName::ContentLength {
            return self;
        }
        push_token(&mut self.text, name);
        self.text.push_str(": ");
        value.write(&mut OneLine(&mut self.text));
        self.text.push_str("\r\n");
        self
    }

    /// Ends the header section and adds the body.
    pub fn finish(mut self, body: &[u8]) -> Vec<u8> {
        self.text.push_str("Content-Length: ");
        body.len().write(&mut OneLine(&mut self.text));
        self.text.push_str("\r\n\r\n");
        let mut bytes = self.text.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// What can stand as a header's value: text, which needs no formatting, and what [`format_args!`] makes.
pub trait HeaderValue {
    /// Writes it on the line that has been begun.
    fn write(&self, line: &mut OneLine<'_>);
}

impl<T: HeaderValue + ?Sized> HeaderValue for &T {
    fn write(&self, line: &mut OneLine<'_>) {
        (**self).write(line);
    }
}

impl HeaderValue for str {
    fn write(&self, line: &mut OneLine<'_>) {
        line.push(self);
    }
}

impl HeaderValue for String {
    fn write(&self, line: &mut OneLine<'_>) {
        line.push(self);
    }
}

impl HeaderValue for Cow<'_, str> {
    fn write(&self, line: &mut OneLine<'_>) {
        line.push(self);
    }
}

impl HeaderValue for fmt::Arguments<'_> {
    fn write(&self, line: &mut OneLine<'_>) {
        // Writing to a string fails only where a foreign `Display` says so; then what it wrote stands.
        line.write_fmt(*self).ok();
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl HeaderValue for $number {
            fn write(&self, line: &mut OneLine<'_>) {
                format_args!("{self}").write(line);
            }
        }
    )*};
}
numbers!(u8 i32 u32 u64 u128 usize);

/// A line that is being written, and that no value can end.
#[derive(Debug)]
pub struct OneLine<'a>(&'a mut String);

impl OneLine<'_> {
    fn push(&mut self, text: &str) {
        let is_unsafe = |byte: u8| ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f);
        // Branchless, for the compiler to do in wide steps; nearly no value has one.
        if text.bytes().fold(false, |found, byte| found | is_unsafe(byte)) {
            let cleaned = |c: char| if u8::try_from(c).is_ok_and(is_unsafe) { ' ' } else { c };
            self.0.extend(text.chars().map(cleaned));
        } else {
            self.0.push_str(text);
        }
    }
}

impl Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
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

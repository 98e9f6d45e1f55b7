//! What the person sees: one line for each step, with a mark and what was seen.

use std::future::Future;
use std::io::{self, Write};

use super::fault::Fault;

/// The width of the names of steps.
const NAME_WIDTH: usize = 22;

/// A step failed, and its line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// The lines of a story.
#[derive(Debug)]
pub(crate) struct Output<W> {
    writer: W,
    seen: usize,
}

impl<W: Write> Output<W> {
    /// Nothing is written yet.
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, seen: 0 }
    }

    /// How many steps were truly seen.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Text that is no step.
    pub(crate) fn say(&mut self, text: &str) -> Result<(), Failed> {
        let written = self.writer.write_all(text.as_bytes()).and_then(|()| self.writer.flush());
        // Where nobody reads any more, nothing is seen either.
        written.map_err(|_| Failed)
    }

    /// Does a step, which ends with what was seen, and writes its line.
    pub(crate) async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<(T, String), Fault>>,
    ) -> Result<T, Failed> {
        match work.await {
            Ok((found, seen)) => {
                self.seen += 1;
                self.line('✓', name, &seen)?;
                Ok(found)
            }
            Err(fault) => {
                self.line('✗', name, &fault.to_string())?;
                Err(Failed)
            }
        }
    }

    fn line(&mut self, mark: char, name: &str, text: &str) -> Result<(), Failed> {
        // Further lines of a text stand under its first.
        let indented = text.trim_end().replace('\n', &format!("\n{:1$}", "", NAME_WIDTH + 5));
        self.say(&format!("  {mark} {name:NAME_WIDTH$} {indented}\n"))
    }
}

/// Standard output.
pub(crate) fn standard() -> Output<io::Stdout> {
    Output::new(io::stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_step_has_its_line_and_mark() {
        let mut output = Output::new(Vec::new());
        let found = output.step("one", async { Ok((7, "seven\nin words".to_owned())) }).await;
        assert_eq!(found, Ok(7));
        let lost = output.step("two", async { Err::<((), String), _>(Fault::unlike("it was not")) }).await;
        assert_eq!(lost, Err(Failed));
        assert_eq!(output.seen(), 1);
        let text = String::from_utf8(output.writer).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "  ✓ one                    seven");
        assert_eq!(lines[1], "                           in words");
        assert_eq!(lines[2], "  ✗ two                    it was not");
    }
}

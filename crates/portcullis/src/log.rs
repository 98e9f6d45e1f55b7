//! The log: lines on their way to standard error, written by a thread of its own.
//!
//! Strangers cause lines, and whoever reads them may be slow, full or gone. So nobody who has a line to say
//! waits for it, and no line that cannot be written ends anything: what has no room, and what the disk or
//! the reader did not take, is left out, counted, and told in one line when lines go out again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use wire::clock::WallTime;

use crate::admin::view::rfc3339;
use crate::clock::Clock;
use crate::config::file::LogFormat;

/// Bytes of lines that may wait.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What the buffer keeps of its room when a crowd of lines is over.
const WAITING_BYTES_KEPT: usize = 16 * 1024;

/// How long an end waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// How soon a reader that takes nothing now is asked again.
const WRITE_RETRY: Duration = Duration::from_millis(50);

/// Where lines are said. A handle: clones say into one log.
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

/// The thread that writes a log. Dropped, it waits a bounded time for the last lines.
#[derive(Debug)]
pub struct LogThread(Log);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    arrived: Condvar,
    /// Everything is written, or is lost.
    idle: Condvar,
    /// Since the start.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// Lines that were lost, and of which the log does not say so yet.
    left_out: u64,
    writing: bool,
}

impl LogThread {
    /// Starts the thread, called `log`, that writes to `out`.
    pub fn start(out: impl Write + Send + 'static, clock: Clock, format: LogFormat) -> io::Result<Self> {
        let log = Log(Arc::default());
        let lines = log.clone();
        let work = move || lines.0.serve(out, |left_out| notice(left_out, clock.wall(), format));
        std::thread::Builder::new().name("log".to_owned()).spawn(work)?;
        Ok(Self(log))
    }

    /// Where to say lines.
    pub fn log(&self) -> Log {
        self.0.clone()
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.0.flush();
    }
}

impl Log {
    /// Says a line, which ends with a line feed, or several. Never waits.
    pub fn say(&self, lines: &[u8]) {
        let mut state = self.0.state();
        if state.waiting.len() + lines.len() > WAITING_BYTES_MAX {
            let count = count_lines(lines);
            state.left_out += count;
            self.0.lost.fetch_add(count, Ordering::Relaxed);
            return;
        }
        let idle = state.waiting.is_empty();
        state.waiting.extend_from_slice(lines);
        if idle {
            self.0.arrived.notify_one();
        }
    }

    /// Waits until all that was said is written, but not for ever.
    pub fn flush(&self) {
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let state = self.0.state();
        let _in_time = self.0.idle.wait_timeout_while(state, FLUSH_MAX, busy);
    }

    /// Lines that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }
}

/// `tracing-subscriber` writes each line at once.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.say(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, for as long as the process lives.
    fn serve(&self, out: impl Write, notice: impl Fn(u64) -> String) {
        let mut pen = Pen { out, torn: false };
        let mut lines = Vec::new();
        loop {
            // Lines are left out only where these had taken all the room: they stand before the gap.
            let left_out = self.take(&mut lines);
            let lost = pen.write(&lines);
            self.lost.fetch_add(lost, Ordering::Relaxed);
            let untold = left_out + lost;
            if untold > 0 && pen.write(notice(untold).as_bytes()) > 0 {
                self.state().left_out += untold;
            }
        }
    }

    /// Waits for lines.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        lines.clear();
        lines.shrink_to(WAITING_BYTES_KEPT);
        let mut state = self.state();
        state.writing = false;
        if state.waiting.is_empty() {
            self.idle.notify_all();
        }
        let arrived = self.arrived.wait_while(state, |state| state.waiting.is_empty());
        let mut state = arrived.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, lines);
        state.writing = true;
        std::mem::take(&mut state.left_out)
    }
}

/// Writes lines, and knows whether the last one is whole.
struct Pen<W> {
    out: W,
    torn: bool,
}

impl<W: Write> Pen<W> {
    /// How many lines of these were lost.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if self.torn && self.write_bytes(b"\n").is_empty() {
            self.torn = false;
        }
        if self.torn {
            return count_lines(lines);
        }
        let lost = self.write_bytes(lines);
        let written = lines.len() - lost.len();
        self.torn = lines.get(..written).and_then(<[u8]>::last).is_some_and(|last| *last != b'\n');
        count_lines(lost)
    }

    /// What could not be written.
    fn write_bytes<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => break,
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(WRITE_RETRY),
                Err(_) => break,
            }
        }
        bytes
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// The line for those that are missing, in the form of the others.
fn notice(left_out: u64, now: WallTime, format: LogFormat) -> String {
    let text = format!("{left_out} lines left out: the log could not be written, or not fast enough");
    let time = rfc3339(now);
    match format {
        LogFormat::Text => format!("{time}  WARN log: {text}\n"),
        LogFormat::Journald => format!("<4>log: {text}\n"),
        LogFormat::Json => {
            let line = serde_json::json!({
                "timestamp": time, "level": "WARN", "target": "log", "left_out": left_out, "message": text,
            });
            format!("{line}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A reader of the log: each write is told, and does what it is then told.
    struct Reader {
        seen: Receiver<String>,
        orders: Sender<io::Result<()>>,
    }

    struct Pipe {
        seen: Sender<String>,
        orders: Receiver<io::Result<()>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.seen.send(String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
            self.orders.recv().map_err(gone)??;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log(format: LogFormat) -> (Log, Reader) {
        let ((seen, seen_by), (orders, orders_by)) = (channel(), channel());
        let pipe = Pipe { seen, orders: orders_by };
        let thread = LogThread::start(pipe, Clock::start(), format).unwrap();
        (thread.log(), Reader { seen: seen_by, orders })
    }

    impl Reader {
        /// What the log tries to write next; it waits there.
        fn seen(&self) -> String {
            self.seen.recv_timeout(SOON).unwrap()
        }

        fn take(&self) {
            self.orders.send(Ok(())).unwrap();
        }

        fn refuse(&self) {
            self.orders.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_hears_what_it_missed() {
        let (log, reader) = log(LogFormat::Journald);
        log.say(b"the first\n");
        assert_eq!(reader.seen(), "the first\n");
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let room = WAITING_BYTES_MAX / line.len();
        for _ in 0..room + 7 {
            log.say(&line);
        }
        assert_eq!(log.lost(), 7);
        reader.take();
        assert_eq!(reader.seen().len(), WAITING_BYTES_MAX);
        reader.take();
        let notice = "<4>log: 7 lines left out: the log could not be written, or not fast enough\n";
        assert_eq!(reader.seen(), notice);
        reader.take();
        log.say(b"and on\n");
        assert_eq!(reader.seen(), "and on\n");
        reader.take();
        log.flush();
        assert_eq!(log.lost(), 7);
    }

    #[test]
    fn lines_that_could_not_be_written_are_told_when_there_is_room_again() {
        let (log, reader) = log(LogFormat::Json);
        log.say(b"one\ntwo\n");
        reader.seen();
        reader.refuse();
        assert!(reader.seen().contains("2 lines left out"));
        reader.refuse();
        log.say(b"three\n");
        assert_eq!(reader.seen(), "three\n");
        reader.take();
        let notice: serde_json::Value = serde_json::from_str(&reader.seen()).unwrap();
        assert_eq!(
            (&notice["left_out"], &notice["level"], &notice["target"]),
            (&2.into(), &"WARN".into(), &"log".into())
        );
        reader.take();
        log.flush();
        assert_eq!(log.lost(), 2);
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_run_into_the_next() {
        struct Disk {
            room: usize,
            written: Vec<u8>,
        }
        impl Write for &mut Disk {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let some = bytes.len().min(self.room);
                self.room -= some;
                self.written.extend_from_slice(&bytes[..some]);
                if some == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(some) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut disk = Disk { room: 8, written: Vec::new() };
        let mut pen = Pen { out: &mut disk, torn: false };
        assert_eq!((pen.write(b"whole\nhalf\n"), pen.torn), (1, true));
        assert_eq!((pen.write(b"none\n"), pen.torn), (1, true));
        pen.out.room = 100;
        assert_eq!((pen.write(b"again\n"), pen.torn), (0, false));
        assert_eq!(disk.written, b"whole\nha\nagain\n");
    }

    #[test]
    fn the_end_waits_for_the_last_lines_but_not_for_ever() {
        let (log, reader) = log(LogFormat::Text);
        log.say(b"stuck\n");
        assert_eq!(reader.seen(), "stuck\n");
        drop(LogThread(log.clone()));
        reader.take();
        log.flush();
        assert!(!log.0.state().writing);
    }
}

//! The mbox format, of the kind "mboxrd": each message begins with a line `From …`, and lines that look like one, quoted
//! or not, get one `>` more. Pure but for the reader and writer that are given.

use std::io::{self, BufRead, Write};

/// Takes lines that end with CRLF or LF and writes them with LF, quoted.
pub struct Quoting<W: Write> {
    to: W,
    line: Vec<u8>,
}

impl<W: Write> Quoting<W> {
    /// Begins a message.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn begin(mut to: W, sender: &str, date: &str) -> io::Result<Self> {
        writeln!(to, "From {sender} {date}")?;
        Ok(Self { to, line: Vec::new() })
    }

    /// Ends it, with the blank line that separates messages.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn end(mut self) -> io::Result<W> {
        if !self.line.is_empty() {
            self.line.push(b'\n');
            self.write_line()?;
        }
        self.to.write_all(b"\n")?;
        Ok(self.to)
    }

    fn write_line(&mut self) -> io::Result<()> {
        if is_quoted_from(&self.line) {
            self.to.write_all(b">")?;
        }
        let line = match self.line.strip_suffix(b"\r\n") {
            Some(line) => line,
            None => self.line.strip_suffix(b"\n").unwrap_or(&self.line),
        };
        self.to.write_all(line)?;
        self.to.write_all(b"\n")?;
        self.line.clear();
        Ok(())
    }
}

impl<W: Write> Write for Quoting<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        for piece in octets.split_inclusive(|octet| *octet == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.write_line()?;
            }
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// `From `, with any number of `>` before it.
fn is_quoted_from(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|octet| **octet == b'>').count();
    line[quotes..].starts_with(b"From ")
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A message begins.
    Begin,
    /// A piece of it, with CRLF at the end of lines.
    Piece(Vec<u8>),
}

/// The longest piece: lines of any length need no more memory.
const PIECE: u64 = 64 * 1024;

/// Reads an mbox piece by piece.
pub struct Reader<R: BufRead> {
    from: R,
    /// Blank lines that were seen and not given yet: the last before a message belongs to the format.
    blank: bool,
    /// Whether the next octet begins a line, and a message has begun.
    at_line_start: bool,
    begun: bool,
    ready: std::collections::VecDeque<Event>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from the beginning.
    pub fn new(from: R) -> Self {
        Self { from, blank: true, at_line_start: true, begun: false, ready: std::collections::VecDeque::new() }
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// Those of the reader, and a beginning that is no mbox.
    pub fn next_event(&mut self) -> io::Result<Option<Event>> {
        while self.ready.is_empty() {
            let mut line = Vec::new();
            if io::Read::take(&mut self.from, PIECE).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            self.take_line(line)?;
        }
        Ok(self.ready.pop_front())
    }

    fn take_line(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        let (starts, ends) = (self.at_line_start, line.ends_with(b"\n"));
        self.at_line_start = ends;
        if starts && self.blank && line.starts_with(b"From ") {
            (self.blank, self.begun) = (false, true);
            self.ready.push_back(Event::Begin);
            return Ok(());
        }
        if !self.begun {
            let reason = "it does not begin with a line \"From …\", as an mbox does";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if std::mem::take(&mut self.blank) {
            self.ready.push_back(Event::Piece(b"\r\n".to_vec()));
        }
        if starts && matches!(line.as_slice(), b"\n" | b"\r\n") {
            self.blank = true;
            return Ok(());
        }
        if starts && line.starts_with(b">") && is_quoted_from(&line) {
            line.remove(0);
        }
        if ends && !line.ends_with(b"\r\n") {
            line.pop();
            line.extend_from_slice(b"\r\n");
        }
        self.ready.push_back(Event::Piece(line));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Vec::new();
        for message in messages {
            let mut quoting = Quoting::begin(file, "a@b.example", "Mon Nov 23 12:00:00 2026").unwrap();
            quoting.write_all(message).unwrap();
            file = quoting.end().unwrap();
        }
        file
    }

    fn read(file: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let (mut reader, mut messages) = (Reader::new(file), Vec::<Vec<u8>>::new());
        while let Some(event) = reader.next_event()? {
            match event {
                Event::Begin => messages.push(Vec::new()),
                Event::Piece(piece) => messages.last_mut().unwrap().extend(piece),
            }
        }
        Ok(messages)
    }

    #[test]
    fn a_file_that_is_no_mbox_is_refused() {
        assert!(read(b"Subject: x\n\nFrom me\n").is_err());
        assert!(read(b"").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            messages in prop::collection::vec(prop::collection::vec("(>{0,2}From )?[ -~]{0,12}", 1..8), 0..5)
        ) {
            let messages: Vec<Vec<u8>> =
                messages.iter().map(|lines| (lines.join("\r\n") + "\r\n").into_bytes()).collect();
            prop_assert_eq!(read(&write(&messages)).unwrap(), messages);
        }

        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&octets);
        }
    }
}

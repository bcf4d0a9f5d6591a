//! Seen to fail when: lines that do not fit are kept; dropped lines are counted twice; a closed pipe ends the writer.

use std::io::{BufRead as _, BufReader, Read as _};

use super::*;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A log into a pipe, and the pipe's other end.
fn piped() -> (Log, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let log = Log::new();
    let of_lost = log.clone();
    log.write_to(writer, move |lines| of_lost.line(format!("lost {lines}\n").as_bytes())).unwrap();
    (log, reader)
}

fn fill(log: &Log, lines: u64) {
    let tail = "x".repeat(100);
    for number in 0..lines {
        log.line(format!("line {number} {tail}\n").as_bytes());
    }
}

#[test]
fn lines_come_out_complete_and_in_order() {
    let (log, reader) = piped();
    fill(&log, 500);
    // More than a pipe holds, so a reader is needed before all is written.
    let lines = BufReader::new(reader).lines().take(500).map(Result::unwrap);
    for (number, line) in lines.enumerate() {
        assert!(line.starts_with(&format!("line {number} x")) && line.ends_with('x'), "{line}");
    }
    assert!(log.flush(LIMIT));
    assert_eq!(log.dropped().get(), 0);
}

#[test]
fn a_stalled_reader_costs_only_lines() {
    const LINES: u64 = 100_000;
    let (log, mut reader) = piped();
    // If it waited for the reader, it would never end: there is none yet.
    fill(&log, LINES);
    let dropped = log.dropped().get();
    {
        let queue = log.queue();
        assert!(queue.bytes <= QUEUE_BYTES && queue.lines.len() <= QUEUE_LINES);
        assert!(queue.bytes > QUEUE_BYTES / 2 || queue.lines.len() > QUEUE_LINES / 2, "{} bytes", queue.bytes);
    }
    assert!(dropped > LINES / 2, "{dropped}");

    // With room again, a line gives the number of dropped lines; with the lines that arrived, they are all lines.
    let reading = thread::spawn(move || {
        let (mut seen, mut lost) = (0, 0);
        for line in BufReader::new(&mut reader).lines().map(Result::unwrap) {
            match line.strip_prefix("lost ") {
                Some(lines) => lost += lines.parse::<u64>().unwrap(),
                None if line.starts_with("end") => break,
                None => seen += 1,
            }
        }
        (seen, lost)
    });
    assert!(log.flush(LIMIT));
    log.line(b"end\n");
    let (seen, lost) = reading.join().unwrap();
    assert_eq!((seen + lost, lost), (LINES, dropped));
}

#[test]
fn a_line_longer_than_the_queue_is_dropped() {
    let (log, mut reader) = piped();
    log.line(&vec![b'x'; QUEUE_BYTES + 1]);
    log.line(b"short\n");
    let mut read = [0; 13];
    reader.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"short\nlost 1\n");
}

#[test]
fn a_closed_pipe_does_not_stop_the_writer() {
    let (log, reader) = piped();
    drop(reader);
    for round in 1..=20 {
        log.line(b"nobody reads this\n");
        assert!(log.flush(LIMIT), "the writer has ended");
        // Nor does it report dropped lines forever.
        assert_eq!(log.dropped().get(), round);
    }
}

#[test]
fn the_exit_waits_for_the_writer_only_briefly() {
    let (log, reader) = piped();
    fill(&log, 2_000);
    let start = Instant::now();
    assert!(!log.flush(Duration::from_millis(50)));
    assert!(start.elapsed() < LIMIT);
    drop(reader);
    assert!(log.flush(LIMIT));
}

#[test]
fn a_partial_line_does_not_damage_the_next() {
    /// Accepts half of the first line, refuses the rest, and accepts everything after that.
    #[derive(Default)]
    struct Full {
        taken: Vec<u8>,
        writes: usize,
    }
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            let take = match self.writes {
                1 => bytes.len() / 2,
                2 => return Err(io::ErrorKind::StorageFull.into()),
                _ => bytes.len(),
            };
            self.taken.extend_from_slice(&bytes[..take]);
            Ok(take)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (mut to, mut torn) = (Full::default(), false);
    assert!(!write_line(&mut to, b"abcd", &mut torn));
    assert!(torn);
    assert!(write_line(&mut to, b"next\n", &mut torn));
    assert_eq!(to.taken, b"ab\nnext\n");
}

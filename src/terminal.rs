//! The process's two output streams, and what happens when nobody reads them any more.
//!
//! `println!`, `print!` and `eprintln!` inside this crate are the macros below, since std's panic when a pipe is
//! closed: a command that is piped into `head` ends quietly, and a training run whose terminal is gone goes on.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::process::exit;

/// A line on standard output, which carries results. See [`print_line`].
macro_rules! println {
    ($($words:tt)*) => { $crate::terminal::print_line(format_args!($($words)*)) };
}

/// Text on standard output. See [`print_line`].
macro_rules! print {
    ($($words:tt)*) => { $crate::terminal::print_text(format_args!($($words)*)) };
}

/// A line on standard error, which carries what a person is told meanwhile. See [`say_line`].
macro_rules! eprintln {
    ($($words:tt)*) => { $crate::terminal::say_line(format_args!($($words)*)) };
}

/// Writes a line to standard output. Where its reader has gone, the process ends quietly with exit code 0; where it
/// can't be written for another reason, such as a full disk, it ends with 2 and says so.
pub(crate) fn print_line(words: Arguments) {
    print_text(format_args!("{words}\n"));
}

/// [`print_line`] without the end of the line.
pub(crate) fn print_text(words: Arguments) {
    let mut out = stdout().lock();
    write_out(out.write_fmt(words).and_then(|()| out.flush()));
}

/// What [`print_line`] makes of the outcome of writing to standard output.
pub(crate) fn write_out(written: std::io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
        Err(error) => {
            say_line(format_args!("error: could not write to standard output: {error}"));
            exit(2)
        }
    }
}

/// Writes a line to standard error. Where that can't be written there is nobody to tell, and what the process does
/// matters more.
pub(crate) fn say_line(words: Arguments) {
    let mut out = stderr().lock();
    let _ = out.write_fmt(words).and_then(|()| out.write_all(b"\n"));
}

//! What happens to a file's bytes.

use super::random::Random;

/// Bytes changed, cut, taken out, repeated, put in; numbers made others.
pub fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(64)).min(bytes.len());
    match random.below(7) {
        0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
        1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at.min(end)..end].repeat(1 + random.below(200));
            bytes.splice(at..at, piece);
        }
        5 => {
            let piece =
                *random.of(&[&b"99999999999999999999"[..], b"-1", b"\xff\xfe", b"\0", b"1e308", b"[[[[[[", b"\"", b"NaN"]);
            bytes.splice(at..at, piece.iter().copied());
        }
        _ => {
            // A number becomes another.
            if let Some(digit) = bytes.iter().skip(at).position(u8::is_ascii_digit) {
                let piece = *random.of(&[&b"999999999"[..], b"-", b"0.", b"1e"]);
                bytes.splice(at + digit..at + digit, piece.iter().copied());
            }
        }
    }
}

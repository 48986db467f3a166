//! Folded lines in the head of an answer, which a client takes for one (RFC 9112 section 5.2).

use std::io;

use memchr::memchr;

use super::call;

/// What came of a head before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Nothing,
    /// The first line, or a part of it.
    Status,
    Fields,
}

impl Came {
    pub(crate) fn of(input: &[u8]) -> Self {
        match input {
            [] => Self::Nothing,
            _ if input.contains(&b'\n') => Self::Fields,
            _ => Self::Status,
        }
    }
}

/// Reads some bytes into `room` by `read`; 0 is the end. While the head of an answer is awaited, its folded lines are
/// made one, and so nothing is given out before it is known whether its last line goes on.
pub(crate) fn read_lines(
    room: &mut [u8],
    came: Came,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = read(room)?;
    // What is no HTTP may have no further line.
    let is_head = came != Came::Nothing || room.starts_with(b"HTTP/");
    if !is_head || !call::is_answer_next() {
        return Ok(filled);
    }
    let mut place = Place {
        at: 0,
        in_fields: came == Came::Fields,
    };
    while unfold(room.get_mut(..filled).unwrap_or_default(), &mut place) {
        match room.get_mut(filled..) {
            None | Some([]) => break,
            Some(rest) => match read(rest)? {
                0 => break,
                more => filled += more,
            },
        }
    }
    Ok(filled)
}

/// How far a head was looked through.
struct Place {
    at: usize,
    /// Behind the first line, which does not go on: a blank at the beginning of the next one spoils the answer.
    in_fields: bool,
}

/// Puts blanks in the place of the line breaks within folded lines from `place` on, up to the end of the head. Whether
/// the last line may go on, so that what comes next decides.
fn unfold(head: &mut [u8], place: &mut Place) -> bool {
    let next = |head: &[u8], at| memchr(b'\r', head.get(at..)?);
    while let Some(found) = next(head, place.at) {
        place.at += found;
        match head.get_mut(place.at..).unwrap_or_default() {
            [_, b'\n', b'\r', b'\n', ..] => return false,
            [_] | [_, b'\n'] | [_, b'\n', b'\r'] => return true,
            [first, second @ b'\n', b' ' | b'\t', rest @ ..] if place.in_fields => {
                let Some(end) = memchr(b'\n', rest) else {
                    return true;
                };
                if !is_framing(rest.get(..end).unwrap_or_default()) {
                    (*first, *second) = (b' ', b' ');
                }
            }
            [_, b'\n', ..] => place.in_fields = true,
            _ => {}
        }
        place.at += 1;
    }
    false
}

/// Whether a line might pass for a field that tells where the answer ends. Then its end is in doubt, and the line stays
/// what it is, which is no field (RFC 9112 section 11.1).
fn is_framing(line: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    [&b"content-length"[..], b"transfer-encoding"]
        .iter()
        .any(|name| {
            let begin = line.get(..name.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(name))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_unfolded() {
        for (text, want, open) in [
            (
                "S\r\nA: b\r\nC: d\r\n\r\n",
                "S\r\nA: b\r\nC: d\r\n\r\n",
                None,
            ),
            (
                "S\r\nA: b\r\n c\r\n\td\r\n\r\n",
                "S\r\nA: b   c  \td\r\n\r\n",
                None,
            ),
            ("S\r\nA:\r\n \r\n\r\n", "S\r\nA:   \r\n\r\n", None),
            ("S\r\nA: b\r\n\r\n\r\n c", "S\r\nA: b\r\n\r\n\r\n c", None),
            ("S\r\nA: b\r\n c", "S\r\nA: b\r\n c", Some(7)),
            (
                "S\r\nA: b\r\n Content-length: 4\r\n\r\n",
                "S\r\nA: b\r\n Content-length: 4\r\n\r\n",
                None,
            ),
            ("S\r\n A: b\r\n\r\n", "S\r\n A: b\r\n\r\n", None),
            ("S\rc\r\nd", "S\rc\r\nd", None),
            ("S\nA: b\n c\r", "S\nA: b\n c\r", Some(9)),
            ("S\r\n", "S\r\n", Some(1)),
            ("S\r\nA: b\r\n\r", "S\r\nA: b\r\n\r", Some(7)),
            ("", "", None),
        ] {
            let mut head = text.as_bytes().to_vec();
            let mut place = Place {
                at: 0,
                in_fields: false,
            };
            let is_open = unfold(&mut head, &mut place);
            assert_eq!(is_open.then_some(place.at), open, "{text:?}");
            assert_eq!(String::from_utf8_lossy(&head), want, "{text:?}");
        }
    }
}

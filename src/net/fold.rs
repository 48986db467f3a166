//! Folded lines in the head of an answer, which a client takes for one (RFC 9112 section 5.2).

use std::io;

use super::call;

/// Reads some bytes into `room` by `read`; 0 is the end. While the head of an answer is awaited, its folded lines are
/// made one, and so nothing is given out before it is known whether its last line goes on. `has_begun`: a part of the
/// head came before.
pub(crate) fn read_lines(
    room: &mut [u8],
    has_begun: bool,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = read(room)?;
    // What is no HTTP may have no further line.
    let is_head = call::is_answer_next() && (has_begun || room.starts_with(b"HTTP/"));
    if !is_head {
        return Ok(filled);
    }
    let mut begin = 0;
    while let Some(open) = unfold(room.get_mut(..filled).unwrap_or_default(), begin) {
        begin = open;
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

/// Puts blanks in the place of the line breaks within folded lines from `begin` on, up to the end of the head. Where a
/// line break is the last thing there, what comes next decides: gives back its place.
fn unfold(head: &mut [u8], begin: usize) -> Option<usize> {
    let mut at = begin;
    while let Some(found) = head.get(at..)?.iter().position(|byte| *byte == b'\r') {
        at += found;
        match head.get_mut(at..)? {
            [_, b'\n', b'\r', b'\n', ..] => return None,
            [first, second @ b'\n', b' ' | b'\t', ..] => (*first, *second) = (b' ', b' '),
            [_] | [_, b'\n'] | [_, b'\n', b'\r'] => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_unfolded() {
        for (text, want, open) in [
            ("A: b\r\nC: d\r\n\r\n", "A: b\r\nC: d\r\n\r\n", None),
            ("A: b\r\n c\r\n\td\r\n\r\n", "A: b   c  \td\r\n\r\n", None),
            ("A:\r\n \r\n\r\n", "A:   \r\n\r\n", None),
            ("A: b\r\n\r\n\r\n c", "A: b\r\n\r\n\r\n c", None),
            ("A: b\rc\r\nd", "A: b\rc\r\nd", None),
            ("A: b\n c\r", "A: b\n c\r", Some(7)),
            ("A: b\r\n", "A: b\r\n", Some(4)),
            ("A: b\r\n\r", "A: b\r\n\r", Some(4)),
            ("", "", None),
        ] {
            let mut head = text.as_bytes().to_vec();
            assert_eq!(unfold(&mut head, 0), open, "{text:?}");
            assert_eq!(String::from_utf8_lossy(&head), want, "{text:?}");
        }
    }
}

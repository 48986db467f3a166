//! Text that must not be shown: it cannot be formatted, and it is wiped when dropped.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::json;
use crate::url::Url;

/// A password, token or other secret text.
///
/// It has no `Display`, its `Debug` shows nothing of it, and its memory is overwritten when the last
/// owner lets go of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over `text`. Copies made of it before are the caller's to wipe.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. What is made of it must be wiped or be a `Secret` again.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a call has sent as credentials, or was given as such in a URL. A peer may send it back, but it must not be
/// shown.
#[derive(Default)]
pub(crate) struct Secrets(Mutex<Known>);

#[derive(Default)]
struct Known {
    secrets: Vec<Secret>,
    /// Those that were sent in fields and forms, such as tokens, the latest ones.
    sent: VecDeque<Secret>,
    /// Those in URLs of storages, the latest ones.
    signatures: VecDeque<Secret>,
    /// Made when they are first looked for.
    needles: Option<Needles>,
    /// What looking for them in texts has taken that were made to take long.
    spent: usize,
}

impl Known {
    fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.sent.is_empty() && self.signatures.is_empty()
    }

    fn needles(&mut self) -> &Needles {
        let all = self
            .secrets
            .iter()
            .chain(&self.sent)
            .chain(&self.signatures);
        self.needles.get_or_insert_with(|| Needles::of(all))
    }
}

/// Puts a secret before the others of a list that has only the latest ones. Whether it is new there.
fn keep_latest(list: &mut VecDeque<Secret>, text: &str, most: usize) -> bool {
    let at = list.iter().position(|secret| secret.expose() == text);
    let known = at.and_then(|at| list.remove(at));
    let is_new = known.is_none();
    list.truncate(most - 1);
    list.push_front(known.unwrap_or_else(|| Secret::new(text)));
    is_new
}

/// Shorter texts are found in too many words.
const SHORTEST: usize = 6;
/// Each answer may bring some of its own, which come back in the next ones or not at all: of tokens, with what was sent
/// for them, a few, for they are long.
const MAX_SENT: usize = 8;
const MAX_SIGNATURES: usize = 32;

impl Secrets {
    /// Keeps a secret.
    pub(crate) fn remember(&self, text: &str) {
        if text.len() < SHORTEST {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.secrets.iter().any(|secret| secret.expose() == text) {
            known.secrets.push(Secret::new(text));
            known.needles = None;
        }
    }

    /// Keeps a secret that is sent, of which each request may have another.
    pub(crate) fn remember_sent(&self, text: &str) {
        if text.len() < SHORTEST {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = known.secrets.iter().any(|secret| secret.expose() == text);
        if !is_known && keep_latest(&mut known.sent, text, MAX_SENT) {
            known.needles = None;
        }
    }

    /// Keeps what a URL is signed with that refuses or leads on, which what comes may tell.
    pub(crate) fn remember_signatures(&self, url: &Url) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for text in url.signatures().filter(|text| text.len() >= SHORTEST) {
            if keep_latest(&mut known.signatures, text, MAX_SIGNATURES) {
                known.needles = None;
            }
        }
    }

    /// Keeps what the value of a Cookie field holds (RFC 6265 section 4.2).
    pub(crate) fn remember_cookies(&self, value: &[u8]) {
        let Ok(value) = std::str::from_utf8(value) else {
            return;
        };
        self.remember(value);
        for pair in value.split(';') {
            self.remember(pair.split_once('=').map_or(pair, |(_, value)| value).trim());
        }
    }

    /// Keeps what the value of a field of the program's holds, which may be an Authorization.
    pub(crate) fn remember_field(&self, value: &[u8]) {
        in_field(value, |text| self.remember(text));
    }

    /// Keeps what the value of an Authorization field holds, of which each request may have another.
    pub(crate) fn remember_authorization(&self, value: &[u8]) {
        in_field(value, |text| self.remember_sent(text));
    }

    /// `text` without them, and without the longer parts of them: in whatever case and however often it is escaped
    /// (JSON, percent-encoding, HTML), and in Base64.
    pub(crate) fn redact(&self, text: String) -> String {
        self.redact_up_to(text, false)
    }

    /// The same of a text that may end too early, and so within a secret.
    pub(crate) fn redact_up_to(&self, text: String, is_cut: bool) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() || text.len() < PART_AT_END {
            return text;
        }
        let most = MAX_WORK.min(MAX_WORK_OF_CALL.saturating_sub(known.spent));
        let needles = known.needles();
        let mut marks = vec![false; text.len()];
        let mut view = View::of(text.as_bytes());
        let mut work = most;
        for _ in 0..=MAX_ESCAPED {
            needles.mark(&view, is_cut, &mut marks, &mut work);
            match view.unescaped() {
                Some(next) => view = next,
                None => break,
            }
        }
        let took = most - work;
        if took > LONG_WORK || work == 0 {
            known.spent = known.spent.saturating_add(took);
        }
        if !marks.contains(&true) {
            return text;
        }
        let mut out = String::with_capacity(text.len());
        let mut hides = false;
        for (at, c) in text.char_indices() {
            let hid = hides;
            let bytes = marks.get(at..at + c.len_utf8()).unwrap_or_default();
            hides = bytes.contains(&true);
            match (hid, hides) {
                (_, false) => out.push(c),
                (false, true) => out.push_str("[secret]"),
                (true, true) => {}
            }
        }
        out
    }

    /// What a peer sent, for a message: without secrets, and at most so many characters of it.
    pub(crate) fn quote(&self, text: &[u8], most: usize) -> String {
        let text = self.redact(String::from_utf8_lossy(text).into_owned());
        format!("{text:.most$}")
    }
}

/// The credentials in the value of a field, and the password in those.
fn in_field(value: &[u8], keep: impl Fn(&str)) {
    let Ok(value) = std::str::from_utf8(value) else {
        return;
    };
    let (scheme, credentials) = value.split_once(' ').unwrap_or(("", value));
    keep(credentials);
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = Zeroizing::new(BASE64_STANDARD.decode(credentials).unwrap_or_default());
        let pair = std::str::from_utf8(&pair).unwrap_or_default();
        if let Some((_, password)) = pair.split_once(':') {
            keep(password);
        }
    }
}

/// So much of a secret says too much of it.
const PART: usize = 12;
/// Of the key of a service account, this much: it also holds names of projects and hosts.
const PART_OF_KEY: usize = 32;
/// What such a key has.
const KEY: &[u8] = b"\"private_key\"";
/// Where a text is cut, this is enough.
const PART_AT_END: usize = 2;
/// How often a text may have been escaped.
const MAX_ESCAPED: usize = 4;
/// So many bytes are compared to find the secrets of a text; one that takes more was made to, and is hidden whole.
const MAX_WORK: usize = 1 << 26;
/// Those of a call that take longer than others take so much together, before all are hidden.
const MAX_WORK_OF_CALL: usize = 1 << 28;
const LONG_WORK: usize = 1 << 24;
/// Texts are looked at in steps of so many bytes: no match is so short that it lies between two of them.
const STEP: usize = SHORTEST / 2;

/// What secrets look like in a [`View`].
struct Needles {
    all: Vec<Needle>,
    /// The hashes of all pieces in them: of `STEP` bytes in short ones, of one more in the others. Long ones have so
    /// many pieces that shorter pieces would be found anywhere.
    pieces: Vec<u64>,
}

struct Needle {
    bytes: Zeroizing<Vec<u8>>,
    /// So much of it must not be shown.
    part: usize,
}

impl Needles {
    fn of<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut out = Self {
            all: Vec::new(),
            pieces: vec![0; 1 << 14],
        };
        for secret in secrets {
            let secret = secret.expose().as_bytes();
            let is_key = secret.windows(KEY.len()).any(|name| name == KEY);
            let part = if is_key { PART_OF_KEY } else { PART };
            let mut view = View::of(secret);
            out.add(&view.bytes, part);
            for _ in 0..MAX_ESCAPED {
                let Some(next) = view.unescaped() else { break };
                view = next;
            }
            out.add(&view.bytes, part);
            // What is encoded with it decides where in a group of three bytes it begins.
            for before in 0..3 {
                let padded = Zeroizing::new([vec![0; before], secret.to_vec()].concat());
                let coded = Zeroizing::new(BASE64_STANDARD.encode(&*padded));
                let own = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
                out.add(
                    &View::of(coded.get(own).unwrap_or_default().as_bytes()).bytes,
                    part,
                );
            }
        }
        out
    }

    fn add(&mut self, needle: &[u8], part: usize) {
        if needle.len() < SHORTEST || self.all.iter().any(|known| *known.bytes == needle) {
            return;
        }
        let is_short = needle.len() < SHORTEST + 2;
        for piece in needle.windows(if is_short { STEP } else { STEP + 1 }) {
            let (word, bit) = place(piece);
            if let Some(word) = self.pieces.get_mut(word) {
                *word |= bit;
            }
        }
        self.all.push(Needle {
            bytes: Zeroizing::new(needle.to_vec()),
            part: part.min(needle.len()),
        });
    }

    fn mark(&self, view: &View, is_cut: bool, marks: &mut [bool], work: &mut usize) {
        let mut at = 0;
        while at + STEP <= view.bytes.len() {
            let may_be = [STEP, STEP + 1].into_iter().any(|length| {
                let place = view.bytes.get(at..at + length).map(place);
                place.is_some_and(|(word, bit)| self.pieces.get(word).is_some_and(|w| w & bit != 0))
            });
            let found = if may_be {
                self.longest(&view.bytes, at, work)
            } else {
                None
            };
            at = match found {
                Some((from, to)) => {
                    view.mark(from, to, marks);
                    to
                }
                None => at + STEP,
            };
        }
        if *work == 0 {
            marks.fill(true);
        } else if is_cut {
            self.mark_end(view, marks);
        }
    }

    /// The longest run of a text around one of its pieces that is a needle, or enough of one. Looks no further when
    /// there is no `work` left.
    fn longest(&self, text: &[u8], at: usize, work: &mut usize) -> Option<(usize, usize)> {
        let (before, rest) = text.split_at_checked(at)?;
        let mut best = (0, 0);
        for Needle {
            bytes: needle,
            part,
        } in &self.all
        {
            *work = work.saturating_sub(needle.len());
            for place in 0..needle.len() {
                if *work == 0 {
                    return None;
                }
                if needle.get(place) != rest.first() {
                    continue;
                }
                let (head, tail) = needle.split_at_checked(place)?;
                let ahead = same(rest.iter(), tail.iter());
                if ahead < STEP {
                    continue;
                }
                let behind = same(before.iter().rev(), head.iter().rev());
                let length = behind + ahead;
                *work = work.saturating_sub(length);
                if length >= *part && length > best.1 - best.0 {
                    best = (at - behind, at + ahead);
                }
            }
        }
        (best.1 > 0).then_some(best)
    }

    /// Marks what begins a needle at the end of a text, which may be within an escape or a character.
    fn mark_end(&self, view: &View, marks: &mut [bool]) {
        let all = view.bytes.len();
        for end in all.saturating_sub(6)..=all {
            let is_end = match view.bytes.get(end) {
                None => true,
                Some(next) => matches!(next, b'\\' | b'%' | b'&' | 0xef),
            };
            if !is_end {
                continue;
            }
            let text = view.bytes.get(..end).unwrap_or_default();
            for Needle {
                bytes: needle,
                part,
            } in &self.all
            {
                // What is longer was found by its pieces.
                let most = *part;
                let is_part = |n: &usize| needle.get(..*n).is_some_and(|part| text.ends_with(part));
                if let Some(n) = (PART_AT_END..=most).rev().find(is_part) {
                    view.mark(end - n, all, marks);
                }
            }
        }
    }
}

/// How long two texts are the same.
fn same<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

/// The bit that stands for a piece.
fn place(piece: &[u8]) -> (usize, u64) {
    let hash = piece.iter().fold(0u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    });
    ((hash >> 18) as usize, 1 << (hash >> 12 & 63))
}

/// A text as it is searched: all letters small, and what the two alphabets of Base64 and form-encoding write in
/// two ways in one.
struct View {
    bytes: Zeroizing<Vec<u8>>,
    /// Where each byte, and the end, is in the text it was made of.
    places: Vec<usize>,
}

impl View {
    fn with_room(bytes: usize) -> Self {
        Self {
            bytes: Zeroizing::new(Vec::with_capacity(bytes)),
            places: Vec::with_capacity(bytes + 1),
        }
    }

    fn of(text: &[u8]) -> Self {
        let mut view = Self::with_room(text.len());
        for (place, byte) in text.iter().enumerate() {
            view.push(*byte, place);
        }
        view.places.push(text.len());
        view
    }

    fn push(&mut self, byte: u8, place: usize) {
        self.bytes.push(match byte {
            // Long lines are broken anywhere.
            b'\r' | b'\n' => return,
            b' ' | b'-' => b'+',
            b'_' => b'/',
            byte => byte.to_ascii_lowercase(),
        });
        self.places.push(place);
    }

    /// The same with one level of escapes undone; `None` when there are none.
    fn unescaped(&self) -> Option<Self> {
        let is_mark = |b: &u8| matches!(b, b'\\' | b'%' | b'&');
        if !self.bytes.iter().any(is_mark) {
            return None;
        }
        let mut out = Self::with_room(self.bytes.len());
        let mut at = 0;
        while let (Some(rest @ [first, ..]), Some(place)) =
            (self.bytes.get(at..), self.places.get(at))
        {
            let escape = if is_mark(first) { unescape(rest) } else { None };
            match escape {
                // None is shorter than what it stands for.
                Some((Meant::Char(c), length)) => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        out.push(byte, *place);
                    }
                    at += length;
                }
                Some((Meant::Byte(byte), length)) => {
                    out.push(byte, *place);
                    at += length;
                }
                None => {
                    out.push(*first, *place);
                    at += 1;
                }
            }
        }
        out.places.extend(self.places.last());
        (out.bytes.len() < self.bytes.len()).then_some(out)
    }

    /// Marks what these bytes were made of.
    fn mark(&self, from: usize, to: usize, marks: &mut [bool]) {
        if let (Some(from), Some(to)) = (self.places.get(from), self.places.get(to)) {
            marks.get_mut(*from..*to).unwrap_or_default().fill(true);
        }
    }
}

/// What an escape stands for.
enum Meant {
    Char(char),
    Byte(u8),
}

/// What the escape at the beginning of a text stands for, and its length.
fn unescape(text: &[u8]) -> Option<(Meant, usize)> {
    const NAMED: [(&[u8], char); 5] = [
        (b"&amp;", '&'),
        (b"&lt;", '<'),
        (b"&gt;", '>'),
        (b"&quot;", '"'),
        (b"&apos;", '\''),
    ];
    let byte = |digits: &[u8]| u8::try_from(digits_of(digits.get(..2)?, 16)?).ok();
    match text {
        [b'%', rest @ ..] => Some((Meant::Byte(byte(rest)?), 3)),
        // It may go on where the text was cut.
        [b'\\', b'u', rest @ ..] if rest.len() < 4 => None,
        [b'\\', b'x', rest @ ..] if rest.len() < 2 => None,
        [b'\\', b'x', rest @ ..] if byte(rest).is_some() => Some((Meant::Byte(byte(rest)?), 4)),
        [b'\\', b'n' | b'r', ..] => Some((Meant::Byte(b'\n'), 2)),
        [b'\\', c, ..] => {
            let low = || json::unit(text.get(6..)?);
            let units = json::unit(text).map(|unit| [Some(unit), low()]);
            let c = match units.map(|units| char::decode_utf16(units.into_iter().flatten()).next())
            {
                Some(Some(Ok(c))) => (Meant::Char(c), 6 * c.len_utf16()),
                Some(_) => (Meant::Char(char::REPLACEMENT_CHARACTER), 6),
                None => (Meant::Byte(*c), 2),
            };
            Some(c)
        }
        [b'&', b'#', rest @ ..] => {
            let end = rest.iter().take(8).position(|b| *b == b';')?;
            let c = match rest.get(..end)? {
                [b'x', digits @ ..] => digits_of(digits, 16),
                digits => digits_of(digits, 10),
            };
            Some((Meant::Char(char::from_u32(c?)?), end + 3))
        }
        _ => {
            let (name, c) = NAMED.iter().find(|(name, _)| text.starts_with(name))?;
            Some((Meant::Char(*c), name.len()))
        }
    }
}

fn digits_of(digits: &[u8], radix: u32) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, digit| {
        let digit = char::from(*digit).to_digit(radix)?;
        number.checked_mul(radix)?.checked_add(digit)
    })
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many tokens a call has had, it knows its own secrets and the latest of those.
    #[test]
    fn the_latest_of_many() {
        let secrets = Secrets::default();
        secrets.remember("the password");
        for i in 0..1000 {
            secrets.remember_authorization(format!("Bearer token-number-{i:06}").as_bytes());
        }
        assert_eq!(secrets.0.lock().unwrap().sent.len(), MAX_SENT);
        let text = "the password, token-number-000999 and token-number-000992";
        assert_eq!(
            secrets.redact(text.to_owned()),
            "[secret], [secret] and [secret]"
        );
    }

    /// Texts that were made to take long are hidden after a while; others are not.
    #[test]
    fn texts_that_take_long() {
        let secrets = Secrets::default();
        secrets.remember(&"a".repeat(100_000));
        assert_eq!(secrets.redact("plain words".to_owned()), "plain words");
        let slow = "aaaaaaaaaaa!".repeat(20);
        secrets.0.lock().unwrap().spent = MAX_WORK_OF_CALL - 1_000_000;
        assert_eq!(secrets.redact(slow), "[secret]");
        assert_eq!(secrets.0.lock().unwrap().spent, MAX_WORK_OF_CALL);
    }

    #[test]
    fn what_was_sent_is_not_shown() {
        let secrets = Secrets::default();
        secrets.remember_field(b"Bearer token-1234567");
        let basic = format!("basic {}", BASE64_STANDARD.encode("user:p\"ss-word"));
        secrets.remember_field(basic.as_bytes());
        secrets.remember("short");
        secrets.remember("sixsix");
        for (text, want) in [
            ("no token-1234567, token-1234567!", "no [secret], [secret]!"),
            ("{\"p\":\"p\\\"ss-word\"}", "{\"p\":\"[secret]\"}"),
            ("p\"ss-word", "[secret]"),
            ("a short text", "a short text"),
            ("with sixsix", "with [secret]"),
        ] {
            assert_eq!(secrets.redact(text.to_owned()), want);
        }
        assert_eq!(secrets.redact(basic), "basic [secret]");
        // Made to take as long as possible.
        let long = "ab".repeat(100_000);
        secrets.remember(&long);
        let text = format!("{}!", long.get(..65_536).unwrap_or_default());
        assert!(matches!(
            secrets.redact(text).as_str(),
            "[secret]" | "[secret]!"
        ));
        assert!(!format!("{secrets:?}").contains("token-1"));
    }

    /// Of the key of a service account, what is in a name is no secret.
    #[test]
    fn keys_of_lines() {
        let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
        let secrets = Secrets::default();
        secrets.remember(&format!(
            "{{\n\"project_id\": \"project-1234567\",\n\"private_key\": \"{line}\"}}"
        ));
        let text = |key: &str| format!("GET /v2/project-1234567/a: {key}");
        assert_eq!(secrets.redact(text(line)), text("[secret]"));
        // Others are not shown in parts, whatever they look like.
        secrets.remember(r#"{"token":"Zk3mQ9vT7xLp2RwY8sBd"}"#);
        let text = "Zk3mQ9vT7xLp2RwY8sBd is unknown".to_owned();
        assert_eq!(secrets.redact(text), "[secret] is unknown");
        secrets.remember("token-with-a-line-end\n");
        assert_eq!(
            secrets.redact("it was token-with-a".to_owned()),
            "it was [secret]"
        );
    }

    #[test]
    fn signatures_are_forgotten() {
        let secrets = Secrets::default();
        let signed = |n: usize| Url::parse(&format!("https://h/?sig=number-{n:04}")).unwrap();
        for n in 0..100 {
            secrets.remember_signatures(&signed(n));
            secrets.remember_signatures(&signed(n));
        }
        let text = "number-0067 number-0068 number-0099";
        assert_eq!(
            secrets.redact(text.to_owned()),
            "number-0067 [secret] [secret]"
        );
    }
}

//! What goes wrong with one answer, and where.

use registry_transport::error::ErrorKind;

use super::support::server::{Answer, Gate, Request};

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The connection is closed after so many bytes of the answer.
    Cut,
    /// The same with a reset.
    Reset,
    /// The server sends no more after so many bytes, and keeps the connection.
    Stall,
    /// One bit of this byte is another.
    Flip,
    /// A byte comes before this one that does not belong there.
    Insert,
    /// This byte is missing.
    Lose,
    /// The head ends, with its empty line, in the middle of this line, and the body follows.
    HalfHead,
    /// This line of the head is missing.
    NoLine,
    /// The length told is another; the number chooses how.
    Length,
    /// The answer is sent twice.
    Twice,
    /// 500 instead of the answer.
    Status500,
    /// 429 instead of the answer, which asks for no wait.
    Status429,
    /// 429 instead of the answer, which asks for a wait beyond every budget.
    Later,
    /// TLS: the connection is closed without `close_notify` after so many bytes.
    Truncate,
    /// TLS: a fatal alert after so many bytes.
    Alert,
    /// The server closes after it has read so many bytes of the body of the request.
    Deaf,
}

/// The faults of a plain connection, and those that only make sense on a TLS connection.
pub const PLAIN: [Kind; 14] = [
    Kind::Cut,
    Kind::Reset,
    Kind::Stall,
    Kind::Flip,
    Kind::Insert,
    Kind::Lose,
    Kind::HalfHead,
    Kind::NoLine,
    Kind::Length,
    Kind::Twice,
    Kind::Status500,
    Kind::Status429,
    Kind::Later,
    Kind::Deaf,
];
pub const SECURE: [Kind; 4] = [Kind::Cut, Kind::Truncate, Kind::Reset, Kind::Alert];

/// How many ways there are to tell a wrong length.
const LENGTHS: usize = 9;
/// All offsets below this one are tried.
const EACH_BELOW: usize = 2048;

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Reset => "reset",
            Self::Stall => "stall",
            Self::Flip => "flip",
            Self::Insert => "insert",
            Self::Lose => "lose",
            Self::HalfHead => "half-head",
            Self::NoLine => "no-line",
            Self::Length => "length",
            Self::Twice => "twice",
            Self::Status500 => "500",
            Self::Status429 => "429",
            Self::Later => "429-later",
            Self::Truncate => "truncate",
            Self::Alert => "alert",
            Self::Deaf => "deaf",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        PLAIN
            .into_iter()
            .chain(SECURE)
            .find(|kind| kind.name() == name)
    }

    /// Whether the client may be left waiting for something that never comes.
    pub fn may_hang(self) -> bool {
        matches!(
            self,
            Self::Stall
                | Self::Flip
                | Self::Insert
                | Self::Lose
                | Self::HalfHead
                | Self::NoLine
                | Self::Length
                | Self::Twice
        )
    }

    /// Whether the answer may say something else than the registry did, in a way that looks right.
    pub fn may_lie(self) -> bool {
        matches!(
            self,
            Self::Flip
                | Self::Insert
                | Self::Lose
                | Self::HalfHead
                | Self::NoLine
                | Self::Length
                | Self::Twice
        )
    }

    /// Whether a call of this kind of failure is right after this fault. What passes by itself is repeated, so
    /// nothing may be seen of it.
    pub fn allows(self, kind: ErrorKind) -> bool {
        match self {
            Self::Cut
            | Self::Reset
            | Self::Truncate
            | Self::Status500
            | Self::Status429
            | Self::Deaf => false,
            Self::Stall => kind == ErrorKind::Timeout,
            Self::Later => matches!(kind, ErrorKind::Status | ErrorKind::Auth),
            Self::Alert => matches!(kind, ErrorKind::Tls | ErrorKind::Network),
            _ => matches!(
                kind,
                ErrorKind::Network
                    | ErrorKind::Timeout
                    | ErrorKind::Protocol
                    | ErrorKind::Digest
                    | ErrorKind::Status
                    | ErrorKind::Auth
                    | ErrorKind::MediaType
                    | ErrorKind::Limit
                    | ErrorKind::Unsupported
            ),
        }
    }

    /// The places of this fault in an answer: all of them, or every `stride`-th from one that `phase` chooses.
    pub fn places(self, answer: &Recorded, stride: usize, phase: usize) -> Vec<usize> {
        let count = match self {
            Self::HalfHead | Self::NoLine => answer.lines,
            Self::Length => LENGTHS,
            Self::Twice | Self::Status500 | Self::Status429 | Self::Later => 1,
            Self::Deaf => answer.request_body,
            // A stall behind the last byte would be the next request's.
            Self::Flip | Self::Lose | Self::Stall => answer.length,
            Self::Cut | Self::Reset | Self::Insert | Self::Truncate | Self::Alert => {
                answer.length + 1
            }
        };
        let every = match self {
            Self::HalfHead | Self::NoLine | Self::Length => 1,
            _ => stride,
        };
        let near = (0..count.min(EACH_BELOW))
            .skip(phase % every)
            .step_by(every);
        // Beyond: sixteen places by chance, and the last ones.
        let far = (0..16)
            .map(|n| EACH_BELOW + scatter(phase as u64, n) as usize % count.max(1))
            .chain([count.saturating_sub(2), count.saturating_sub(1)])
            .filter(|&at| at < count && at >= EACH_BELOW);
        let mut places: Vec<usize> = near.chain(far).collect();
        places.sort_unstable();
        places.dedup();
        places
    }
}

/// Numbers without a pattern; the same arguments make the same number (SplitMix64).
pub fn scatter(seed: u64, n: u64) -> u64 {
    let mut word = seed
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(n.wrapping_mul(0xd1b5_4a32_d192_ed03));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// An answer as it was when nothing went wrong.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub request: String,
    /// Bytes of the answer, head and body.
    pub length: usize,
    /// Lines of its head.
    pub lines: usize,
    /// Bytes of the body of the request.
    pub request_body: usize,
}

/// One fault at one place.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: Kind,
    /// Which answer, by the order of the requests from 0.
    pub answer: usize,
    pub at: usize,
    pub seed: u64,
}

impl Fault {
    /// The answer with the fault in it.
    pub fn apply(&self, request: &Request, answer: &Answer, never: &Gate) -> Answer {
        let (mut bytes, head) = answer.wire(request);
        let at = self.at.min(bytes.len());
        let chance = scatter(self.seed, (self.answer * 100_000 + self.at) as u64);
        match self.kind {
            Kind::Cut => return Answer::raw(bytes).cut_after(at),
            Kind::Truncate => return Answer::raw(bytes).cut_after(at).no_close_notify(),
            Kind::Reset => return Answer::raw(bytes).reset_after(at),
            Kind::Alert => return Answer::raw(bytes).alert_after(at),
            Kind::Stall => {
                // Of requests made side by side another may be the one, with a shorter answer.
                let at = at.min(bytes.len().saturating_sub(1));
                return Answer::raw(bytes).keep_alive().stall_after(at, never);
            }
            Kind::Deaf => return Answer::hang_up(),
            Kind::Status500 => return Answer::error(500, "UNKNOWN", "something broke"),
            Kind::Status429 => {
                return Answer::error(429, "TOOMANYREQUESTS", "slow down")
                    .header("Retry-After", "0");
            }
            Kind::Later => {
                return Answer::error(429, "TOOMANYREQUESTS", "not today")
                    .header("Retry-After", "7200");
            }
            Kind::Flip => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (chance % 8);
                }
            }
            Kind::Insert => {
                let odd = [0, b'\r', b'\n', b' ', b':', b'0', b'a', 0xff];
                bytes.insert(at, odd[chance as usize % odd.len()]);
            }
            Kind::Lose => {
                if at < bytes.len() {
                    bytes.remove(at);
                }
            }
            Kind::HalfHead | Kind::NoLine => {
                let body = bytes.split_off(head);
                let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&b| b == b'\n').collect();
                lines.pop();
                let half;
                if self.kind == Kind::NoLine {
                    if self.at < lines.len() {
                        lines.remove(self.at);
                    }
                } else if let Some(line) = lines.get(self.at) {
                    half = [&line[..line.len() / 2], b"\r\n"].concat();
                    lines.truncate(self.at);
                    lines.push(&half);
                }
                bytes = [lines.concat().as_slice(), b"\r\n", &body].concat();
            }
            Kind::Length => {
                let body = bytes.len() - head;
                let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
                let told = match self.at {
                    0 => format!("Content-Length: {}", body + 1),
                    1 => format!("Content-Length: {}", body.saturating_sub(1)),
                    2 => "Content-Length: 0".to_owned(),
                    3 => format!("Content-Length: {}", body * 2 + 1000),
                    4 => "Content-Length: 9223372036854775807".to_owned(),
                    5 => "Content-Length: -1".to_owned(),
                    6 => "Content-Length: 0x10".to_owned(),
                    7 => format!("Content-Length: {body}\r\nContent-Length: {}", body + 7),
                    _ => format!("Content-Length: {body}\r\nTransfer-Encoding: chunked"),
                };
                let lines: Vec<&str> = text
                    .trim_end()
                    .split("\r\n")
                    .filter(|line| {
                        let line = line.to_ascii_lowercase();
                        !line.starts_with("content-length:")
                            && !line.starts_with("transfer-encoding:")
                    })
                    .chain([told.as_str()])
                    .collect();
                let new_head = format!("{}\r\n\r\n", lines.join("\r\n"));
                bytes = [new_head.as_bytes(), &bytes[head..]].concat();
            }
            Kind::Twice => bytes.extend_from_within(..),
        }
        Answer::raw(bytes).keep_alive()
    }
}

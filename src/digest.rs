//! Digests of content (distribution-spec, OCI image-spec "Digests").

use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256, SHA512};

use crate::error::{Error, Result};

/// The algorithm of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `sha256`, 64 hexadecimal digits.
    Sha256,
    /// `sha512`, 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits follow the colon.
    pub fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A valid digest: a known algorithm and as many lower-case hexadecimal digits as it has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

impl Digest {
    /// The digest of `data`.
    pub fn of(algorithm: Algorithm, data: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(data);
        hasher.finish()
    }

    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal digits.
    pub fn hex(&self) -> &str {
        self.text.split_once(':').map_or("", |(_, hex)| hex)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            let shown: String = text
                .chars()
                .take(80)
                .flat_map(char::escape_debug)
                .take(80)
                .collect();
            Error::syntax(format!("\"{shown}\" is no digest: {why}"))
        };
        let (name, hex) = text
            .split_once(':')
            .ok_or_else(|| bad("it has no algorithm before a colon"))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => {
                return Err(bad(
                    "the algorithm is neither sha256 nor sha512, in lower case",
                ));
            }
        };
        if hex.len() != algorithm.hex_length() {
            return Err(bad(&format!(
                "{name} has {} hexadecimal digits",
                algorithm.hex_length()
            )));
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad("it has characters other than 0-9 and a-f"));
        }
        Ok(Self {
            algorithm,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether this may be a digest by an algorithm that is not known here (image-spec, "Digests").
pub(crate) fn is_foreign(text: &str) -> bool {
    let Some((name, encoded)) = text.split_once(':') else {
        return false;
    };
    let is_known = [Algorithm::Sha256, Algorithm::Sha512]
        .iter()
        .any(|known| known.name().eq_ignore_ascii_case(name));
    let is_word = |word: &str| {
        let mut bytes = word.bytes();
        !word.is_empty() && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    let is_encoded = |b: u8| b.is_ascii_alphanumeric() || b"=_-".contains(&b);
    !is_known
        && name.split(['+', '.', '_', '-']).all(is_word)
        && !encoded.is_empty()
        && encoded.bytes().all(is_encoded)
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        let context = Context::new(match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        });
        Self { algorithm, context }
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        let (name, sum) = (self.algorithm.name(), self.context.finish());
        let mut text = String::with_capacity(name.len() + 1 + 2 * sum.as_ref().len());
        text.push_str(name);
        text.push(':');
        for byte in sum.as_ref() {
            for nibble in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(nibble), 16));
            }
        }
        Digest {
            algorithm: self.algorithm,
            text,
        }
    }
}

/// The tag under which referrers are listed when the registry has no referrers API (distribution-spec,
/// "Referrers Tag Schema").
pub(crate) fn referrers_tag(digest: &Digest) -> String {
    let cut = |text: &str, most: usize| text.chars().take(most).collect::<String>();
    format!(
        "{}-{}",
        cut(digest.algorithm.name(), 32),
        cut(digest.hex(), 64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let (short, long) = ("a1".repeat(32), "b2".repeat(64));
        for (text, want) in [
            (format!("sha256:{short}"), true),
            (format!("sha512:{long}"), true),
            (format!("SHA256:{short}"), false),
            (format!("sha256:{}", short.to_uppercase()), false),
            (format!("sha256:{long}"), false),
            (format!("sha512:{short}"), false),
            (format!("md5:{short}"), false),
            (format!("sha256:{}", "s".repeat(64)), false),
            (format!("sha256:{short}\n"), false),
            (format!("sha256-{short}"), false),
            ("sha256:".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(text.parse::<Digest>().is_ok(), want, "{text:?}");
        }
        for text in ["x".repeat(100_000), "\u{10ffff}".repeat(100)] {
            let error = text.parse::<Digest>().unwrap_err();
            assert!(error.message().len() < 250);
        }
    }

    #[test]
    fn sums() {
        let empty = Digest::of(Algorithm::Sha256, b"");
        assert_eq!(
            empty.hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let mut pieces = Hasher::new(Algorithm::Sha512);
        pieces.update(b"ab");
        pieces.update(b"c");
        let digest = pieces.finish();
        assert!(
            digest
                .as_str()
                .starts_with("sha512:ddaf35a193617abacc417349ae204131")
        );
        assert_eq!(digest, Digest::of(Algorithm::Sha512, b"abc"));
    }

    #[test]
    fn tags_of_referrers() {
        let digest = Digest::of(Algorithm::Sha512, b"");
        let tag = referrers_tag(&digest);
        assert_eq!(tag.len(), 7 + 64);
        assert!(tag.starts_with("sha512-cf83e1357eefb8bd"));
    }
}

//! What the words of a comment stand for.

use registry_transport::options::KEYS;

use super::{Function, Manual};

/// A piece of a sentence; the signs before and after it stick to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub before: String,
    pub word: String,
    pub after: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Word,
    /// A function of the library.
    Function,
    /// A constant of the library, or NULL.
    Constant,
    /// A parameter of the function at hand.
    Parameter,
    /// A key of an option, which stands in quotes.
    Option,
}

/// Names of parameters that are words of English as well: they mean the parameter only at certain places.
const AMBIGUOUS: [&str; 24] = [
    "name",
    "path",
    "text",
    "value",
    "key",
    "data",
    "size",
    "digest",
    "reference",
    "body",
    "method",
    "state",
    "token",
    "user",
    "password",
    "level",
    "read",
    "rewind",
    "page",
    "offset",
    "limit",
    "remaining",
    "actions",
    "status",
];
const ARTICLES: [&str; 14] = [
    "a", "an", "the", "its", "their", "this", "that", "of", "own", "whose", "no", "each", "user",
    "media",
];

/// Takes text apart. `function` is the one whose page it is on.
pub fn prose(manual: &Manual, text: &str, function: Option<&Function>) -> Vec<Piece> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut pieces = Vec::new();
    for (i, word) in words.iter().enumerate() {
        let is_sign = |c: char| !c.is_ascii_alphanumeric() && !"_*/$~-<>{}[]@".contains(c);
        let start = word.find(|c| !is_sign(c)).unwrap_or(word.len());
        let end = word.rfind(|c| !is_sign(c)).map_or(start, |at| {
            at + word[at..].chars().next().map_or(1, char::len_utf8)
        });
        let (before, inner, after) = (
            &word[..start],
            &word[start..end.max(start)],
            &word[end.max(start)..],
        );
        let name = inner.trim_start_matches('*');
        let previous = i.checked_sub(1).map_or("", |i| words[i]);
        let next = words.get(i + 1).copied().unwrap_or_default();
        let kind = if manual.function(name).is_some() {
            Kind::Function
        } else if name == "NULL" || manual.constant(name).is_some() {
            Kind::Constant
        } else if before.ends_with('"')
            && after.starts_with('"')
            && KEYS.iter().any(|k| k.name == name)
        {
            Kind::Option
        } else if function.is_some_and(|f| f.parameters.iter().any(|p| p.name == name))
            && before.is_empty()
            && is_parameter(inner, previous, next, after)
        {
            Kind::Parameter
        } else {
            Kind::Word
        };
        let (before, inner, after) = match kind {
            Kind::Word => ("", *word, ""),
            Kind::Option => (
                before.trim_end_matches('"'),
                inner,
                after.trim_start_matches('"'),
            ),
            _ => (before, inner, after),
        };
        // "rt_request's": what follows belongs to the word.
        pieces.push(Piece {
            before: before.to_owned(),
            word: inner.to_owned(),
            after: after.to_owned(),
            kind,
        });
    }
    pieces
}

fn is_parameter(word: &str, previous: &str, next: &str, after: &str) -> bool {
    if word.starts_with('*') || !AMBIGUOUS.contains(&word) {
        // "a", "i", "f", "t" and so on; "A" is none.
        return true;
    }
    if ARTICLES.contains(&previous.to_ascii_lowercase().as_str()) {
        return false;
    }
    previous == "NULL"
        || (after.is_empty()
            && ["NULL", "names", "is", "may", "are"]
                .contains(&next.trim_end_matches([',', ';', '.'])))
}

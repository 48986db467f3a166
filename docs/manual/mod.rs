//! The manual, made of the header, the table of options, the examples and the list of pages: manual pages (mdoc) and
//! the same as HTML.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use registry_transport::options::{KEYS, Key, KeyKind};

mod html;
mod mdoc;
mod prose;

pub use prose::{Piece, prose};

/// The day the pages were last read as a whole.
const DATE: &str = "November 25, 2026";

/// What one comment of the header is about.
#[derive(Debug, Default)]
pub struct Manual {
    pub version: String,
    pub abi: String,
    /// Title and text of the rules that hold for every function.
    pub rules: Vec<(String, String)>,
    pub constants: Vec<Constant>,
    pub handles: Vec<(String, String)>,
    pub callbacks: Vec<Callback>,
    pub functions: Vec<Function>,
}

#[derive(Debug)]
pub struct Constant {
    pub name: String,
    pub value: String,
    pub comment: String,
}

#[derive(Debug)]
pub struct Callback {
    pub name: String,
    /// The typedef in one line.
    pub text: String,
    pub comment: String,
}

#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub result: String,
    pub parameters: Vec<Parameter>,
    pub comment: String,
    pub summary: String,
    /// The name of its example, and the group of functions it is in.
    pub example: String,
    pub code: String,
    pub since: String,
}

#[derive(Debug)]
pub struct Parameter {
    /// `const rt_op *`
    pub kind: String,
    pub name: String,
}

impl Parameter {
    pub fn text(&self) -> String {
        if self.kind.ends_with('*') {
            format!("{}{}", self.kind, self.name)
        } else {
            format!("{} {}", self.kind, self.name)
        }
    }

    /// A handle that is used, not one that is given out.
    fn handle(&self) -> Option<Handle> {
        let kind = self.kind.strip_suffix('*')?.trim_end();
        let (is_const, kind) = match kind.strip_prefix("const ") {
            Some(kind) => (true, kind),
            None => (false, kind),
        };
        (kind.starts_with("rt_") && !kind.contains('*')).then_some(Handle { is_const })
    }
}

struct Handle {
    is_const: bool,
}

/// A comment and the declaration below it.
fn declarations(header: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = header;
    while let Some(begin) = rest.find("/**") {
        let end = begin + rest[begin..].find("*/").expect("the end of a comment");
        let comment = plain(&rest[begin + 3..end]);
        rest = rest[end + 2..].trim_start();
        let stop = if rest.starts_with("#define") {
            rest.find('\n')
        } else {
            rest.find(';')
        };
        let declaration = &rest[..stop.expect("the end of a declaration")];
        let words: Vec<&str> = declaration.split_whitespace().collect();
        out.push((comment, words.join(" ")));
    }
    out
}

/// The text of a comment without its stars, in one line.
fn plain(comment: &str) -> String {
    let lines = comment
        .lines()
        .map(|l| l.trim().trim_start_matches('*').trim());
    lines.collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// The list in the comment at the top.
fn rules(header: &str) -> Vec<(String, String)> {
    let top = header.split("#ifndef").next().unwrap_or_default();
    let list = top.split("Rules that hold for every function:").nth(1);
    let list = plain(list.unwrap_or_default().trim_end().trim_end_matches("*/"));
    let list = list.trim_start_matches("- ");
    list.split("  - ")
        .flat_map(|part| part.split(" - "))
        .map(str::trim)
        .filter(|rule| !rule.is_empty())
        .map(|rule| match rule.split_once(". ") {
            Some((title, text)) if !title.contains(' ') || title.len() < 12 => {
                (title.to_owned(), text.to_owned())
            }
            _ if rule.starts_with("The library") => ("Process".to_owned(), rule.to_owned()),
            _ => (
                rule.split(' ').next().unwrap_or_default().to_owned(),
                rule.to_owned(),
            ),
        })
        .collect()
}

impl Manual {
    /// Reads what the pages are made of.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
        let header = text("include/registry_transport.h");
        let symbols = text("tests/abi/symbols.txt");
        let since: BTreeMap<&str, &str> =
            symbols.lines().filter_map(|l| l.split_once(' ')).collect();
        let list = text("docs/pages.txt");
        let pages: BTreeMap<&str, (&str, &str)> = list
            .lines()
            .filter(|l| !l.starts_with('#'))
            .map(|line| {
                let mut parts = line.splitn(3, ": ");
                let mut part = || parts.next().unwrap_or_else(|| panic!("pages.txt: {line}"));
                (part(), (part(), part()))
            })
            .collect();
        let mut manual = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rules: rules(&header),
            ..Self::default()
        };
        for (comment, declaration) in declarations(&header) {
            if let Some(define) = declaration.strip_prefix("#define ") {
                let (name, value) = define.split_once(' ').expect("a value");
                if name == "RT_ABI" {
                    value.clone_into(&mut manual.abi);
                }
                manual.constants.push(Constant {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    comment,
                });
            } else if let Some(handle) = declaration.strip_prefix("typedef struct ") {
                let name = handle.split(' ').next().expect("a name");
                manual.handles.push((name.to_owned(), comment));
            } else if declaration.starts_with("typedef ") && declaration.contains("(*") {
                let name = declaration
                    .split("(*")
                    .nth(1)
                    .and_then(|r| r.split(')').next());
                manual.callbacks.push(Callback {
                    name: name.expect("a name").to_owned(),
                    text: format!("{declaration};"),
                    comment,
                });
            } else if let Some(prototype) = declaration.strip_prefix("RT_API ") {
                let (head, parameters) = prototype.split_once('(').expect("parameters");
                let at = head.rfind([' ', '*']).expect("a result") + 1;
                let name = head[at..].to_owned();
                let (example, summary) = *pages
                    .get(name.as_str())
                    .unwrap_or_else(|| panic!("docs/pages.txt does not have {name}"));
                manual.functions.push(Function {
                    result: head[..at].trim().to_owned(),
                    parameters: parse_parameters(parameters),
                    comment,
                    summary: summary.to_owned(),
                    example: example.to_owned(),
                    code: text(&format!("docs/examples/{example}.c")),
                    since: since.get(name.as_str()).expect("a version").to_string(),
                    name,
                });
            }
        }
        for name in pages.keys() {
            assert!(
                manual.function(name).is_some(),
                "docs/pages.txt has {name}, the header not"
            );
        }
        manual
    }

    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name)
    }

    pub fn constant(&self, name: &str) -> Option<&Constant> {
        self.constants.iter().find(|c| c.name == name)
    }

    fn callbacks_of<'a>(&'a self, function: &Function) -> Vec<&'a Callback> {
        self.callbacks
            .iter()
            .filter(|c| function.parameters.iter().any(|p| p.kind == c.name))
            .collect()
    }

    /// The statuses a function can fail with: those its comment names, and those of the functions it fails as.
    fn errors(&self, function: &Function) -> Vec<&Constant> {
        let mut names = BTreeSet::new();
        if function.result == "rt_status" {
            names.insert("RT_E_ARG".to_owned());
            self.collect(function, &mut names, 0);
        }
        self.constants
            .iter()
            .filter(|c| names.contains(&c.name))
            .collect()
    }

    fn collect(&self, function: &Function, names: &mut BTreeSet<String>, depth: usize) {
        let words: Vec<&str> = function.comment.split_whitespace().map(core).collect();
        for word in &words {
            if word.starts_with("RT_E_") && self.constant(word).is_some() {
                names.insert((*word).to_owned());
            }
        }
        // "fails as rt_request", "Fails as rt_manifest_get, rt_blob_get and rt_copy."
        let marks = function
            .comment
            .match_indices("ails as ")
            .map(|(at, mark)| at + mark.len());
        for at in marks {
            let sentence = function.comment[at..]
                .split(['.', ';'])
                .next()
                .unwrap_or_default();
            for word in sentence.split_whitespace().map(core) {
                match self.function(word) {
                    Some(other) if depth < 5 => self.collect(other, names, depth + 1),
                    _ => {}
                }
            }
        }
    }

    /// What else to read: the functions of the same example, and those that the comment names.
    fn see_also(&self, function: &Function) -> BTreeSet<&str> {
        let named: BTreeSet<&str> = function.comment.split_whitespace().map(core).collect();
        self.functions
            .iter()
            .filter(|f| f.name != function.name)
            .filter(|f| f.example == function.example || named.contains(f.name.as_str()))
            .map(|f| f.name.as_str())
            .collect()
    }

    /// Groups of functions in the order of the header.
    fn groups(&self) -> Vec<(&str, Vec<&Function>)> {
        let mut groups: Vec<(&str, Vec<&Function>)> = Vec::new();
        for function in &self.functions {
            let group = group_of(&function.name);
            match groups.iter_mut().find(|(name, _)| *name == group) {
                Some((_, all)) => all.push(function),
                None => groups.push((group, vec![function])),
            }
        }
        groups
    }

    /// Every manual page: file name and text.
    pub fn man_pages(&self) -> Vec<(String, String)> {
        let mut pages = vec![
            ("registry_transport.7".to_owned(), self.mdoc_overview()),
            (
                "registry_transport_options.7".to_owned(),
                self.mdoc_options(),
            ),
        ];
        for function in &self.functions {
            pages.push((format!("{}.3", function.name), self.mdoc_function(function)));
        }
        pages
    }
}

/// A heading for the functions of one kind of handle.
fn group_of(name: &str) -> &'static str {
    for (prefix, title) in [
        ("rt_error_", "Errors"),
        ("rt_status_name", "Errors"),
        ("rt_options_", "Options"),
        ("rt_ref_", "References"),
        ("rt_creds_", "Credentials"),
        ("rt_op_", "Control of calls"),
        ("rt_transport_", "Transports"),
        ("rt_ping", "Transports"),
        ("rt_expla", "Transports"),
        ("rt_req_", "Requests"),
        ("rt_source_", "Requests"),
        ("rt_request", "Requests"),
        ("rt_response_", "Answers"),
        ("rt_pages_", "Lists"),
        ("rt_list_", "Lists"),
        ("rt_manifest_", "Manifests"),
        ("rt_blob_", "Blobs"),
        ("rt_upload_", "Uploads"),
        ("rt_copy", "Copies"),
    ] {
        if name.starts_with(prefix) {
            return title;
        }
    }
    "The library"
}

fn parse_parameters(text: &str) -> Vec<Parameter> {
    text.trim_end_matches(')')
        .split(", ")
        .filter(|p| *p != "void")
        .map(|p| {
            let at = p.rfind([' ', '*']).expect("a type and a name") + 1;
            Parameter {
                kind: p[..at].trim_end().to_owned(),
                name: p[at..].to_owned(),
            }
        })
        .collect()
}

/// A word without the signs around it.
fn core(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// Type, range and default of an option, in words.
fn values(key: &Key) -> (String, String) {
    match key.kind {
        KeyKind::Text { default } => ("text".to_owned(), default.to_owned()),
        KeyKind::Number {
            unit,
            default,
            min,
            max,
        } => (
            format!("number, {unit}, {min} to {max}"),
            default.to_string(),
        ),
        KeyKind::Switch { default } => {
            ("switch, 0 or 1".to_owned(), i32::from(default).to_string())
        }
        _ => panic!("a kind of option that the manual does not know"),
    }
}

/// What a function returns, in a sentence.
fn returns(function: &Function) -> Option<String> {
    let gives = |text: &str| Some(text.to_owned());
    let has_err = function.parameters.iter().any(|p| p.name == "err");
    match function.result.as_str() {
        "void" => None,
        "rt_status" if has_err => gives(
            "RT_OK, or one of the errors below, of which *err then tells more; it is given back with rt_free.",
        ),
        "rt_status" => gives("RT_OK, or one of the errors below."),
        "const char *" => gives(
            "Text that must not be freed, or NULL as described, also for a handle of the wrong type.",
        ),
        handle if handle.ends_with('*') && function.comment.contains("Never NULL") => {
            gives("A new handle, never NULL, to be given back with rt_free.")
        }
        handle if handle.ends_with('*') => {
            gives("A new handle, to be given back with rt_free, or NULL as described.")
        }
        _ => gives(
            "The number described. For a handle of the wrong type it is 0 or -1, or RT_E_ARG for a status.",
        ),
    }
}

/// Which threads may call it, by the rule that const tells.
fn threads(function: &Function) -> String {
    let mut shared = Vec::new();
    let mut own = Vec::new();
    let mut has_op = false;
    for parameter in &function.parameters {
        if parameter.kind == "const rt_op *" && !function.name.starts_with("rt_op_") {
            has_op = true;
            continue;
        }
        match parameter.handle() {
            Some(handle) if handle.is_const => shared.push(parameter.name.as_str()),
            Some(_) => own.push(parameter.name.as_str()),
            None => {}
        }
    }
    let and = |names: &[&str]| match names {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        _ => names.join(""),
    };
    let mut text = String::new();
    if !shared.is_empty() {
        let _ = write!(text, "Many threads may use {} at once. ", and(&shared));
    }
    if !own.is_empty() {
        let _ = write!(text, "Only one thread at a time may use {}. ", and(&own));
    }
    if has_op {
        text.push_str("An op is for one call at a time; any thread may cancel it. ");
    }
    if text.is_empty() {
        text.push_str("Any thread may call it. ");
    }
    if function.parameters.iter().any(|p| p.kind.ends_with("_fn")) {
        text.push_str("Callbacks run on the thread of the call that needs them. ");
    }
    text.trim_end().to_owned()
}

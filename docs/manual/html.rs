//! The manual as HTML: one page a function, an overview, the options.

use std::fmt::Write as _;

use super::prose::Kind;
use super::{Constant, Function, KEYS, Manual, prose, returns, threads, values};

pub(super) const INTRODUCTION: &str = "A program that speaks to a registry of container images makes a transport \
     with rt_transport_new and calls functions on it: rt_manifest_get, rt_blob_save, rt_blob_put, rt_list_tags, \
     rt_copy, or rt_request for anything else. Credentials are asked for, tokens are got and renewed, connections are \
     kept, broken downloads are taken up again, and digests are checked on the way. All calls block; any of them can \
     be limited in time, watched and cancelled with an rt_op.";

pub(super) const OPTIONS: &str = "Options are set with rt_options_set_str and rt_options_set_int before they are \
     passed to rt_transport_new, which copies them. A key that the library does not know is RT_E_UNSUPPORTED, so keys \
     can be tried; a value that a key does not take is RT_E_ARG.";

/// Headings for constants, and what their names begin with.
pub(super) const CONSTANTS: [(&str, &[&str]); 5] = [
    ("Statuses", &["RT_OK", "RT_E_"]),
    (
        "Actions",
        &["RT_PULL", "RT_PUSH", "RT_DELETE", "RT_CATALOG"],
    ),
    ("Log levels", &["RT_LOG_"]),
    ("Versions", &["RT_ABI", "RT_VERSION_"]),
    ("Media types", &["RT_MEDIA_TYPE_"]),
];

/// The program of the README.
pub(super) fn first_program() -> String {
    let readme = include_str!("../../README.md");
    let program = readme
        .split("```c\n")
        .nth(1)
        .expect("a program in the README");
    program.split("```").next().unwrap_or_default().to_owned()
}

const STYLE: &str = include_str!("style.css");

impl Manual {
    pub(super) fn constants_of(&self, prefixes: &[&str]) -> Vec<&Constant> {
        self.constants
            .iter()
            .filter(|c| prefixes.iter().any(|p| c.name.starts_with(p)))
            .collect()
    }

    /// Every page: file name and text.
    pub fn html_pages(&self) -> Vec<(String, String)> {
        let mut pages = vec![
            ("style.css".to_owned(), STYLE.to_owned()),
            ("index.html".to_owned(), self.html_overview()),
            ("options.html".to_owned(), self.html_options()),
        ];
        for f in &self.functions {
            pages.push((format!("{}.html", f.name), self.html_function(f)));
        }
        pages
    }

    fn page(&self, title: &str, summary: &str, body: &str) -> String {
        let mut menu = String::new();
        for (group, functions) in self.groups() {
            let open = if functions.iter().any(|f| f.name == title) {
                " open"
            } else {
                ""
            };
            let _ = write!(menu, "<details{open}><summary>{group}</summary><ul>");
            for f in functions {
                let here = if f.name == title {
                    " class=\"here\""
                } else {
                    ""
                };
                let _ = write!(menu, "<li><a{here} href=\"{0}.html\">{0}</a></li>", f.name);
            }
            menu.push_str("</ul></details>\n");
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title} - registry-transport {version}</title>\n\
             <link rel=\"stylesheet\" href=\"style.css\">\n</head>\n<body>\n<nav>\n\
             <p class=\"home\"><a href=\"index.html\">registry-transport</a> <span>{version}</span></p>\n\
             <p><a href=\"options.html\">Options</a></p>\n{menu}</nav>\n<main>\n\
             <h1>{title}</h1>\n<p class=\"summary\">{summary}</p>\n{body}</main>\n</body>\n</html>\n",
            version = self.version,
            summary = escape(summary),
        )
    }

    fn html_function(&self, f: &Function) -> String {
        let mut body =
            String::from("<pre class=\"synopsis\">#include &lt;registry_transport.h&gt;\n\n");
        let callbacks = self.callbacks_of(f);
        for callback in &callbacks {
            let _ = write!(body, "{}\n\n", escape(&callback.text));
        }
        let gap = if f.result.ends_with('*') { "" } else { " " };
        let _ = write!(body, "{}{gap}<b>{}</b>(", escape(&f.result), f.name);
        let indent = f.result.len() + gap.len() + f.name.len() + 1;
        for (i, parameter) in f.parameters.iter().enumerate() {
            if i > 0 {
                let _ = write!(body, ",\n{}", " ".repeat(indent));
            }
            let space = if parameter.kind.ends_with('*') {
                ""
            } else {
                " "
            };
            let _ = write!(
                body,
                "{}{space}<var>{}</var>",
                escape(&parameter.kind),
                parameter.name
            );
        }
        if f.parameters.is_empty() {
            body.push_str("void");
        }
        body.push_str(");</pre>\n<h2>Description</h2>\n");
        let _ = writeln!(body, "<p>{}</p>", self.inline(&f.comment, Some(f)));
        for callback in &callbacks {
            let text = self.inline(&callback.comment, None);
            let _ = writeln!(body, "<p><code>{}</code>: {text}</p>", callback.name);
        }
        if let Some(text) = returns(f) {
            let text = self.inline(&text, Some(f));
            let _ = write!(body, "<h2>Return value</h2>\n<p>{text}</p>\n");
        }
        let errors = self.errors(f);
        if !errors.is_empty() {
            body.push_str("<h2>Errors</h2>\n");
            body.push_str(&self.definitions(&errors, false));
        }
        let _ = write!(
            body,
            "<h2>Example</h2>\n<pre>{}</pre>\n",
            self.code(&f.code, &f.name)
        );
        let _ = write!(
            body,
            "<h2>Threads</h2>\n<p>{}</p>\n",
            self.inline(&threads(f), Some(f))
        );
        let also: Vec<String> = self
            .see_also(f)
            .iter()
            .map(|name| format!("<a href=\"{name}.html\">{name}</a>"))
            .collect();
        let _ = write!(
            body,
            "<h2>See also</h2>\n<p>{}</p>\n<p class=\"since\">Since version {}</p>\n",
            also.join(", "),
            f.since
        );
        self.page(&f.name, &f.summary, &body)
    }

    fn html_overview(&self) -> String {
        let mut body = format!("<p>{}</p>\n", self.inline(INTRODUCTION, None));
        let _ = write!(
            body,
            "<pre>cc program.c $(pkg-config --cflags --libs registry_transport)</pre>\n\
             <h2>A first program</h2>\n<pre>{}</pre>\n<h2>Rules that hold for every function</h2>\n<dl>",
            self.code(&first_program(), "")
        );
        for (title, text) in &self.rules {
            let _ = writeln!(
                body,
                "<dt>{}</dt><dd>{}</dd>",
                escape(title),
                self.inline(text, None)
            );
        }
        body.push_str("</dl>\n<h2>Functions</h2>\n");
        for (title, functions) in self.groups() {
            let _ = write!(body, "<h3>{title}</h3>\n<table>");
            for f in functions {
                let _ = writeln!(
                    body,
                    "<tr><td><a href=\"{0}.html\"><code>{0}</code></a></td><td>{1}</td></tr>",
                    f.name,
                    escape(&f.summary)
                );
            }
            body.push_str("</table>\n");
        }
        body.push_str("<h2>Handles</h2>\n<dl>");
        for (name, comment) in &self.handles {
            let text = self.inline(comment, None);
            let _ = writeln!(body, "<dt><code>{name}</code></dt><dd>{text}</dd>");
        }
        body.push_str("</dl>\n<h2>Callbacks</h2>\n<dl>");
        for callback in &self.callbacks {
            let text = self.inline(&callback.comment, None);
            let _ = writeln!(
                body,
                "<dt><code>{}</code></dt><dd>{text}</dd>",
                escape(&callback.text)
            );
        }
        body.push_str("</dl>\n");
        for (title, prefixes) in CONSTANTS {
            let _ = writeln!(body, "<h2>{title}</h2>");
            body.push_str(&self.definitions(&self.constants_of(prefixes), true));
        }
        self.page(
            "registry_transport",
            "HTTP transport for OCI and Docker registries",
            &body,
        )
    }

    fn html_options(&self) -> String {
        let mut body = format!("<p>{}</p>\n<dl>", self.inline(OPTIONS, None));
        for key in KEYS {
            let (kind, default) = values(key);
            let _ = writeln!(
                body,
                "<dt id=\"{0}\"><code>{0}</code> <span>{1}; default: {2}</span></dt><dd>{3}</dd>",
                key.name,
                escape(&kind),
                escape(&default),
                self.inline(key.help, None)
            );
        }
        body.push_str("</dl>\n");
        self.page("Options", "settings of a transport", &body)
    }

    fn definitions(&self, constants: &[&Constant], with_values: bool) -> String {
        let mut out = String::from("<dl>");
        for constant in constants {
            let value = if with_values {
                format!(" <span>{}</span>", escape(&constant.value))
            } else {
                String::new()
            };
            let id = if with_values {
                format!(" id=\"{}\"", constant.name)
            } else {
                String::new()
            };
            let text = self.inline(&constant.comment, None);
            let _ = writeln!(
                out,
                "<dt{id}><code>{}</code>{value}</dt><dd>{text}</dd>",
                constant.name
            );
        }
        out.push_str("</dl>\n");
        out
    }

    /// Running text.
    fn inline(&self, text: &str, function: Option<&Function>) -> String {
        let mut out = Vec::new();
        for piece in prose(self, text, function) {
            let word = escape(&piece.word);
            let bare = piece.word.trim_start_matches('*');
            let inner = match piece.kind {
                Kind::Word => word,
                Kind::Function if function.is_some_and(|f| f.name == bare) => {
                    format!("<code>{word}</code>")
                }
                Kind::Function => format!("<a href=\"{bare}.html\"><code>{word}</code></a>"),
                Kind::Constant if bare == "NULL" => format!("<code>{word}</code>"),
                Kind::Constant => format!("<a href=\"index.html#{bare}\"><code>{word}</code></a>"),
                Kind::Parameter => format!("<var>{word}</var>"),
                Kind::Option => format!("<a href=\"options.html#{bare}\"><code>{word}</code></a>"),
            };
            out.push(format!(
                "{}{inner}{}",
                escape(&piece.before),
                escape(&piece.after)
            ));
        }
        out.join(" ")
    }

    /// C, with the functions linked and the comments set off.
    fn code(&self, code: &str, here: &str) -> String {
        let mut out = String::new();
        let mut rest = code;
        while !rest.is_empty() {
            if rest.starts_with("/*") {
                let end = rest.find("*/").map_or(rest.len(), |at| at + 2);
                let _ = write!(out, "<i>{}</i>", escape(&rest[..end]));
                rest = &rest[end..];
                continue;
            }
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            if end == 0 {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&escape(&rest[..next]));
                rest = &rest[next..];
                continue;
            }
            let word = &rest[..end];
            if word == here {
                let _ = write!(out, "<b>{word}</b>");
            } else if self.function(word).is_some() {
                let _ = write!(out, "<a href=\"{word}.html\">{word}</a>");
            } else if self.constant(word).is_some() {
                let _ = write!(out, "<a href=\"index.html#{word}\">{word}</a>");
            } else {
                out.push_str(word);
            }
            rest = &rest[end..];
        }
        out
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

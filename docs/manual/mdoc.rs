//! Manual pages in mdoc(7), which man-db, groff and mandoc read.

use std::fmt::Write as _;

use super::prose::Kind;
use super::{DATE, Function, KEYS, Manual, Piece, prose, returns, threads, values};

/// Longest line of running text.
const WIDTH: usize = 80;

impl Manual {
    /// Without the word BSD, which groff puts before the name of the volume.
    fn head(&self, name: &str, section: u8, summary: &str) -> String {
        format!(
            ".\\\" Made from the header, the options and the examples; checked by the tests.\n\
             .Dd {DATE}\n.ds doc-volume-operating-system\n.Dt {} {section}\n.Os registry-transport {}\n\
             .Sh NAME\n.Nm {name}\n.Nd {summary}\n",
            name.to_uppercase(),
            self.version
        )
    }

    pub(super) fn mdoc_function(&self, f: &Function) -> String {
        let mut out = self.head(&f.name, 3, &f.summary);
        out.push_str(".Sh SYNOPSIS\n.In registry_transport.h\n");
        let callbacks = self.callbacks_of(f);
        for callback in &callbacks {
            let _ = write!(
                out,
                ".Bd -literal -compact\n{}\n.Ed\n",
                escape(&callback.text)
            );
        }
        if !callbacks.is_empty() {
            out.push_str(".Pp\n");
        }
        let _ = write!(out, ".Ft \"{}\"\n.Fo {}\n", f.result, f.name);
        for parameter in &f.parameters {
            let _ = writeln!(out, ".Fa \"{}\"", parameter.text());
        }
        if f.parameters.is_empty() {
            out.push_str(".Fa void\n");
        }
        out.push_str(".Fc\n.Sh DESCRIPTION\n");
        out.push_str(&self.flow(&f.comment, Some(f)));
        for callback in &callbacks {
            let _ = write!(out, ".Pp\n.Vt {} :\n", callback.name);
            out.push_str(&self.flow(&callback.comment, None));
        }
        if let Some(text) = returns(f) {
            out.push_str(".Sh RETURN VALUES\n");
            out.push_str(&self.flow(&text, Some(f)));
        }
        out.push_str(".Sh EXAMPLES\n.Bd -literal\n");
        out.push_str(&literal(&f.code));
        out.push_str(".Ed\n");
        let errors = self.errors(f);
        if !errors.is_empty() {
            out.push_str(".Sh ERRORS\n.Bl -tag -width RT_E_UNSUPPORTED\n");
            for error in errors {
                let _ = writeln!(out, ".It Dv {}", error.name);
                out.push_str(&self.flow(&error.comment, None));
            }
            out.push_str(".El\n");
        }
        out.push_str(".Sh THREADS\n");
        out.push_str(&self.flow(&threads(f), Some(f)));
        out.push_str(".Sh SEE ALSO\n");
        for name in self.see_also(f) {
            let _ = writeln!(out, ".Xr {name} 3 ,");
        }
        out.push_str(".Xr registry_transport 7");
        if f.example == "options" || f.comment.contains("option") {
            out.push_str(" ,\n.Xr registry_transport_options 7");
        }
        let _ = write!(
            out,
            "\n.Sh HISTORY\n.Fn {}\nappeared in version {}.\n",
            f.name, f.since
        );
        out
    }

    pub(super) fn mdoc_overview(&self) -> String {
        let mut out = self.head(
            "registry_transport",
            7,
            "HTTP transport for OCI and Docker registries",
        );
        out.push_str(
            ".Sh SYNOPSIS\n.In registry_transport.h\n.Pp\n\
             .Dl cc program.c $(pkg-config --cflags --libs registry_transport)\n\
             .Sh DESCRIPTION\n",
        );
        out.push_str(&self.flow(super::html::INTRODUCTION, None));
        out.push_str(".Ss Rules that hold for every function\n.Bl -tag -width Ds\n");
        for (title, text) in &self.rules {
            let _ = writeln!(out, ".It {}", escape(title));
            out.push_str(&self.flow(text, None));
        }
        out.push_str(".El\n.Ss Functions\n");
        for (i, (title, functions)) in self.groups().into_iter().enumerate() {
            if i > 0 {
                out.push_str(".Pp\n");
            }
            let _ = write!(
                out,
                "{title}:\n.Bl -tag -width rt_error_retry_after_ms -compact\n"
            );
            for f in functions {
                let _ = write!(out, ".It Xr {} 3\n{}\n", f.name, escape(&f.summary));
            }
            out.push_str(".El\n");
        }
        out.push_str(".Ss Handles\n.Bl -tag -width rt_explanation\n");
        for (name, comment) in &self.handles {
            let _ = writeln!(out, ".It Vt {name}");
            out.push_str(&self.flow(comment, None));
        }
        out.push_str(".El\n.Ss Callbacks\n.Bl -tag -width Ds\n");
        for callback in &self.callbacks {
            let _ = write!(
                out,
                ".It Vt {}\n.Bd -literal -compact\n{}\n.Ed\n",
                callback.name,
                escape(&callback.text)
            );
            out.push_str(&self.flow(&callback.comment, None));
        }
        out.push_str(".El\n");
        for (title, prefixes) in super::html::CONSTANTS {
            let _ = write!(out, ".Ss {title}\n.Bl -tag -width RT_E_UNSUPPORTED\n");
            for constant in self.constants_of(prefixes) {
                let _ = writeln!(out, ".It Dv {}", constant.name);
                out.push_str(&self.flow(&constant.comment, None));
                let _ = writeln!(out, ".Dl {}", escape(&constant.value));
            }
            out.push_str(".El\n");
        }
        out.push_str(".Sh EXAMPLES\nA manifest, verified, on the standard output:\n.Bd -literal\n");
        out.push_str(&literal(&super::html::first_program()));
        out.push_str(".Ed\n.Sh SEE ALSO\n.Xr registry_transport_options 7 ,\n");
        out.push_str(
            ".Lk https://github.com/opencontainers/distribution-spec \"the distribution-spec\"\n",
        );
        out
    }

    pub(super) fn mdoc_options(&self) -> String {
        let mut out = self.head(
            "registry_transport_options",
            7,
            "settings of a registry transport",
        );
        out.push_str(
            ".Sh SYNOPSIS\n.In registry_transport.h\n\
             .Ft rt_status\n.Fo rt_options_set_str\n.Fa \"rt_options *o\"\n.Fa \"const char *key\"\n\
             .Fa \"const char *value\"\n.Fc\n\
             .Ft rt_status\n.Fo rt_options_set_int\n.Fa \"rt_options *o\"\n.Fa \"const char *key\"\n\
             .Fa \"int64_t value\"\n.Fc\n.Sh DESCRIPTION\n",
        );
        out.push_str(&self.flow(super::html::OPTIONS, None));
        out.push_str(".Bl -tag -width Ds\n");
        for key in KEYS {
            let (kind, default) = values(key);
            let _ = write!(
                out,
                ".It Cm {}\n.Pq {} ; default: {}\n.br\n",
                key.name,
                escape(&kind),
                escape(&default)
            );
            out.push_str(&self.flow(key.help, None));
        }
        out.push_str(".El\n.Sh EXAMPLES\n.Bd -literal\n");
        out.push_str(&literal(
            &self
                .functions
                .iter()
                .find(|f| f.example == "options")
                .expect("options")
                .code,
        ));
        out.push_str(".Ed\n.Sh SEE ALSO\n");
        out.push_str(
            ".Xr rt_options_new 3 ,\n.Xr rt_options_set_int 3 ,\n.Xr rt_options_set_log 3 ,\n\
             .Xr rt_options_set_str 3 ,\n.Xr rt_transport_new 3 ,\n.Xr registry_transport 7\n",
        );
        out
    }

    /// Running text.
    fn flow(&self, text: &str, function: Option<&Function>) -> String {
        let mut out = String::new();
        let mut line = String::new();
        let flush = |out: &mut String, line: &mut String| {
            if !line.is_empty() {
                if line.starts_with(['.', '\'']) {
                    out.push_str("\\&");
                }
                out.push_str(line);
                out.push('\n');
                line.clear();
            }
        };
        for piece in prose(self, text, function) {
            if piece.kind == Kind::Word {
                if line.len() + piece.word.len() >= WIDTH {
                    flush(&mut out, &mut line);
                }
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(&escape(&piece.word));
                // A sentence ends a line.
                if piece.word.ends_with(['.', '?', '!'])
                    || piece.word.ends_with(".)")
                    || piece.word.ends_with(".\"")
                {
                    if piece.word.ends_with("..") || piece.word == "e.g." {
                        line.push_str("\\&");
                    } else {
                        flush(&mut out, &mut line);
                    }
                }
                continue;
            }
            flush(&mut out, &mut line);
            out.push_str(&macro_line(&piece, function));
            out.push('\n');
        }
        flush(&mut out, &mut line);
        out
    }
}

fn macro_line(piece: &Piece, function: Option<&Function>) -> String {
    let word = escape(&piece.word);
    let call = match piece.kind {
        Kind::Function if function.is_some_and(|f| f.name == piece.word) => format!("Fn {word}"),
        Kind::Function => format!("Xr {word} 3"),
        Kind::Constant => format!("Dv {word}"),
        Kind::Parameter => format!("Fa {word}"),
        Kind::Option => format!("Cm {word}"),
        Kind::Word => word,
    };
    // Signs are arguments of their own; what else sticks to the word follows without a space.
    let is_sign = |text: &str| text.chars().all(|c| ".,;:()?!".contains(c));
    let spread = |text: &str| {
        text.chars().fold(String::new(), |mut out, c| {
            let _ = write!(out, " {c}");
            out
        })
    };
    let (name, rest) = call.split_once(' ').unwrap_or((&call, ""));
    let after = if is_sign(&piece.after) {
        spread(&piece.after)
    } else {
        format!(" Ns {}", escape(&piece.after))
    };
    if piece.before.is_empty() {
        format!(".{name} {rest}{after}")
    } else if is_sign(&piece.before) {
        format!(".{name}{} {rest}{after}", spread(&piece.before))
    } else {
        format!(".No {} Ns {name} {rest}{after}", escape(&piece.before))
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn literal(code: &str) -> String {
    let mut out = String::new();
    for line in code.lines() {
        if line.starts_with(['.', '\'']) {
            out.push_str("\\&");
        }
        out.push_str(&escape(line));
        out.push('\n');
    }
    out
}

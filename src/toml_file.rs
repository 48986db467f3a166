//! TOML files as this machine's owner wrote them: typed look-ups whose errors name file, line and key.

use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::file::{file_error, open_at_once};
use crate::sorted::in_order;

/// Largest configuration file.
const MAX_FILE: u64 = 4 << 20;

/// The text of a file, or `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>> {
    let failed = |e: &std::io::Error| file_error("read", path, e);
    let file = match open_at_once(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(&e)),
    };
    if file.metadata().is_ok_and(|m| m.file_type().is_fifo()) {
        return Err(Error::io(format!(
            "{} is a pipe, and not a file",
            path.display()
        )));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|e| failed(&e))?;
    if text.len() as u64 > MAX_FILE {
        return Err(Error::limit(format!(
            "{} is larger than {MAX_FILE} bytes",
            path.display()
        )));
    }
    Ok(Some(text))
}

/// A table of a file.
#[derive(Clone, Copy)]
pub(crate) struct Table<'t> {
    path: &'t Path,
    /// What the table is called, for messages.
    name: &'t str,
    table: &'t DeTable<'t>,
}

/// Parses `text`, the content of `path`, and hands its table to `run`.
pub(crate) fn with<T>(
    path: &Path,
    text: &str,
    run: impl FnOnce(Table<'_>) -> Result<T>,
) -> Result<T> {
    let table = DeTable::parse(text).map_err(|e| {
        // Without the line itself: it may hold a secret.
        let at = e.span().map_or(0, |span| span.start);
        let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        Error::syntax(format!("{}:{line}: {}", path.display(), e.message()))
    })?;
    run(Table {
        path,
        name: "",
        table: table.get_ref(),
    })
}

/// What may be shown of a URL as it was written: no user information and no query.
pub(crate) fn without_user(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    url.rsplit('@')
        .next()
        .unwrap_or_default()
        .escape_debug()
        .to_string()
}

impl<'t> Table<'t> {
    /// A value of the wrong kind.
    pub(crate) fn wrong(&self, key: &str, wanted: &str) -> Error {
        let name = if self.name.is_empty() {
            String::new()
        } else {
            format!(" of {}", without_user(self.name))
        };
        Error::syntax(format!(
            "{}: \"{key}\"{name} is not {wanted}",
            self.path.display()
        ))
    }

    fn get(&self, key: &str) -> Option<&'t DeValue<'t>> {
        self.table.get(key).map(|v| v.get_ref())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'t str>> {
        self.get(key)
            .map(|v| v.as_str().ok_or_else(|| self.wrong(key, "a string")))
            .transpose()
    }

    pub(crate) fn flag(&self, key: &str) -> Result<bool> {
        self.get(key).map_or(Ok(false), |v| {
            v.as_bool().ok_or_else(|| self.wrong(key, "true or false"))
        })
    }

    /// A list of strings; a single string is a list of one.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<&'t str>>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        texts(value)
            .ok_or_else(|| self.wrong(key, "a string or a list of strings"))
            .map(Some)
    }

    /// A string, a list of strings, or a list of such lists: each becomes a list.
    pub(crate) fn groups(&self, key: &str) -> Result<Vec<Vec<&'t str>>> {
        match self.get(key) {
            None => Some(Vec::new()),
            Some(DeValue::Array(all)) => all.iter().map(|v| texts(v.get_ref())).collect(),
            Some(value) => texts(value).map(|one| vec![one]),
        }
        .ok_or_else(|| self.wrong(key, "a string, or a list of strings and pairs of them"))
    }

    /// The tables in a table, with their keys, in the order they were written.
    pub(crate) fn tables(&self, key: &str) -> Result<Vec<(&'t str, Table<'t>)>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let all = value.as_table().ok_or_else(|| self.wrong(key, "a table"))?;
        let mut found = Vec::new();
        for (name, value) in all.iter() {
            let at = name.span().start;
            let name: &str = name.get_ref();
            let table = value
                .get_ref()
                .as_table()
                .ok_or_else(|| self.wrong(key, "a table of tables"))?;
            found.push((at, name, table));
        }
        Ok(in_order(found, |(a, ..), (b, ..)| a.cmp(b))
            .into_iter()
            .map(|(_, name, table)| {
                let path = self.path;
                (name, Table { path, name, table })
            })
            .collect())
    }

    /// An array of tables.
    pub(crate) fn list(&self, key: &'t str) -> Result<Vec<Table<'t>>> {
        let bad = || self.wrong(key, "an array of tables");
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        value
            .as_array()
            .ok_or_else(bad)?
            .iter()
            .map(|v| {
                let table = v.get_ref().as_table().ok_or_else(bad)?;
                Ok(Table {
                    path: self.path,
                    name: key,
                    table,
                })
            })
            .collect()
    }

    /// The keys of a table within, each with its list of strings.
    pub(crate) fn lists(&self, key: &str) -> Result<Vec<(&'t str, Vec<&'t str>)>> {
        let Some(value) = self.get(key) else {
            return Ok(Vec::new());
        };
        let all = value.as_table().ok_or_else(|| self.wrong(key, "a table"))?;
        all.iter()
            .map(|(name, value)| {
                let name: &str = name.get_ref();
                let texts = texts(value.get_ref())
                    .ok_or_else(|| self.wrong(name, "a string or a list of strings"))?;
                Ok((name, texts))
            })
            .collect()
    }

    /// A path, relative to the folder of the file.
    pub(crate) fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(path)
    }
}

fn texts<'t>(value: &'t DeValue<'t>) -> Option<Vec<&'t str>> {
    match value {
        DeValue::Array(all) => all.iter().map(|v| v.get_ref().as_str()).collect(),
        value => value.as_str().map(|one| vec![one]),
    }
}

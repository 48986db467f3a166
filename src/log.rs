//! Log lines for the caller's sink: one per transport, off unless asked for, never a secret in them.

use std::fmt;
use std::sync::Arc;

use crate::secret::Secrets;

/// How grave a line is. Greater values say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Kept for what makes a call fail, which its error tells. No line has it so far.
    Error = 1,
    /// What works but should not stay so, and what the registry itself warns of.
    Warn = 2,
    /// Decisions: which credentials, which realm, which host.
    Info = 3,
    /// Every request and answer.
    Debug = 4,
}

impl Level {
    /// The level with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug]
            .into_iter()
            .find(|l| *l as i32 == number)
    }
}

/// Receives one line, without its line end.
pub type LogFn = dyn Fn(Level, &str) + Send + Sync;

/// Where lines go and which of them.
#[derive(Clone, Default)]
pub(crate) struct Log(Option<(Level, Arc<LogFn>)>, Arc<Secrets>);

impl Log {
    pub(crate) fn new(level: Level, sink: Arc<LogFn>) -> Self {
        Self(Some((level, sink)), Arc::default())
    }

    /// The same for a call that knows these secrets.
    pub(crate) fn with(&self, secrets: &Arc<Secrets>) -> Self {
        Self(self.0.clone(), Arc::clone(secrets))
    }

    /// Whether somebody reads lines of this level.
    pub(crate) fn hears(&self, level: Level) -> bool {
        self.0.as_ref().is_some_and(|(most, _)| level <= *most)
    }

    /// Writes a line that is only made when somebody reads it.
    pub(crate) fn line(&self, level: Level, text: impl FnOnce() -> String) {
        if let Some((most, sink)) = &self.0 {
            if level <= *most {
                let line = self.1.redact(text());
                sink(level, &line.replace(|c: char| c.is_control(), " "));
            }
        }
    }

    pub(crate) fn warn(&self, text: impl FnOnce() -> String) {
        self.line(Level::Warn, text);
    }

    pub(crate) fn info(&self, text: impl FnOnce() -> String) {
        self.line(Level::Info, text);
    }

    pub(crate) fn debug(&self, text: impl FnOnce() -> String) {
        self.line(Level::Debug, text);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log")
            .field(&self.0.as_ref().map(|(level, _)| level))
            .finish()
    }
}

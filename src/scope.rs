//! Scopes of access tokens: `type:name:actions` (distribution, token scope documentation). Others are words of the
//! registry's own (RFC 6750 section 3).

use std::fmt;

use crate::error::{Error, Result};
use crate::name::Repository;
use crate::sorted::{SortedMap, in_order};

/// Most scopes and actions a set takes in: challenges are written by the peer.
const MAX_SCOPES: usize = 64;
const MAX_ACTIONS: usize = 16;

/// A set of scopes, merged by resource. Equal sets are equal whatever order they were made in. A scope of another form
/// is a resource without actions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scopes(SortedMap<String, Vec<String>>);

impl Scopes {
    /// The set of these scopes.
    pub(crate) fn of<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let mut set = Self::default();
        for scope in scopes {
            set.add(scope);
        }
        set
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one scope, if there is a resource in it and something to do with that. The name may hold colons: the
    /// actions stand behind the last one, the type before the first.
    pub(crate) fn add(&mut self, scope: &str) {
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| (b'!'..=b'~').contains(&b));
        let parts = scope.rsplit_once(':');
        let parts = parts.and_then(|(resource, actions)| {
            let (kind, name) = resource.split_once(':')?;
            Some((kind, name, resource, actions))
        });
        let (resource, actions) = match parts {
            Some((kind, name, resource, actions)) if plain(kind) && plain(name) => {
                (resource, Some(actions))
            }
            None if plain(scope) => (scope, None),
            _ => return,
        };
        if self.0.len() >= MAX_SCOPES && self.0.get(resource).is_none() {
            return;
        }
        let mut held = self.0.remove(resource).unwrap_or_default();
        for action in actions.unwrap_or_default().split(',').filter(|a| plain(a)) {
            if held.len() < MAX_ACTIONS && !held.iter().any(|h| h == action) {
                held.push(action.to_owned());
            }
        }
        if held.iter().any(|a| a == "*") {
            held = vec!["*".to_owned()];
        }
        if !held.is_empty() || actions.is_none() {
            let held = in_order(held, |a, b| (rank(a), a).cmp(&(rank(b), b)));
            self.0.insert(resource.to_owned(), held);
        }
    }

    /// Adds all of `other`.
    pub(crate) fn merge(&mut self, other: &Scopes) {
        for scope in other.iter() {
            self.add(&scope);
        }
    }

    /// Each scope as it is written.
    pub(crate) fn iter(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|(resource, actions)| match &actions[..] {
            [] => resource.clone(),
            actions => format!("{resource}:{}", actions.join(",")),
        })
    }
}

/// What a transport asks the token service for. The numbers are those of the C constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actions(u32);

impl Actions {
    /// Read a repository.
    pub fn pull() -> Self {
        Self(1)
    }

    /// Write to a repository, and read it.
    pub fn push() -> Self {
        Self(2)
    }

    /// Delete from a repository. Asks for push and pull; `delete` is added when the registry's challenge
    /// names it.
    pub fn delete() -> Self {
        Self(4)
    }

    /// List the repositories of a registry.
    pub fn catalog() -> Self {
        Self(8)
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// From the numbers of the C constants.
    ///
    /// # Errors
    /// [`Argument`](crate::error::ErrorKind::Argument) for none and for unknown bits.
    pub fn from_bits(bits: u32) -> Result<Self> {
        if bits == 0 || bits & !0xf != 0 {
            return Err(Error::argument(format!(
                "{bits:#x} is no combination of RT_PULL, RT_PUSH, RT_DELETE, RT_CATALOG"
            )));
        }
        Ok(Self(bits))
    }

    /// What they are called.
    pub(crate) fn names(self) -> Vec<&'static str> {
        [
            (Self::pull(), "pull"),
            (Self::push(), "push"),
            (Self::delete(), "delete"),
            (Self::catalog(), "catalog"),
        ]
        .into_iter()
        .filter_map(|(one, name)| self.has(one).then_some(name))
        .collect()
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether nothing is asked for but reading a repository.
    pub(crate) fn only_pulls(self) -> bool {
        self == Self::pull()
    }

    /// The scopes for a repository, or for a registry when there is none (token scope documentation).
    pub(crate) fn scopes(self, repository: Option<&Repository>) -> Scopes {
        match repository {
            None => Scopes::of(["registry:catalog:*"]),
            Some(name) if self.has(Self::push()) || self.has(Self::delete()) => {
                Scopes::of([format!("repository:{name}:push,pull").as_str()])
            }
            Some(name) => Scopes::of([format!("repository:{name}:pull").as_str()]),
        }
    }
}

/// `push,pull` is how pushing is written; the rest follows by name.
fn rank(action: &str) -> u8 {
    match action {
        "push" => 0,
        "pull" => 1,
        "delete" => 2,
        _ => 3,
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.iter().collect();
        f.write_str(&all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging() {
        for (scopes, want) in [
            (
                vec!["repository:a/b:pull", "repository:a/b:push"],
                "repository:a/b:push,pull",
            ),
            (
                vec!["repository:a/b:push,pull", "repository:a/b:pull"],
                "repository:a/b:push,pull",
            ),
            (
                vec!["repository:a:pull", "repository:a:*", "repository:a:push"],
                "repository:a:*",
            ),
            (
                vec!["repository:host:5000/a/b:pull,push"],
                "repository:host:5000/a/b:push,pull",
            ),
            (
                vec!["repository(plugin):a/b:pull"],
                "repository(plugin):a/b:pull",
            ),
            (vec!["registry:catalog:*"], "registry:catalog:*"),
            (
                vec!["repository:b:pull", "repository:a:pull"],
                "repository:a:pull repository:b:pull",
            ),
            (
                vec![
                    "",
                    "a b",
                    "\u{e4}",
                    "repository:a:",
                    ":a:pull",
                    "repository::pull",
                    "repository:a b:pull",
                ],
                "",
            ),
            (
                vec![
                    "repository:a:pull",
                    "the-right-scope",
                    "*",
                    "repository:a",
                    "a:b",
                ],
                "* a:b repository:a:pull the-right-scope",
            ),
            (vec!["repository:a:delete,pull"], "repository:a:pull,delete"),
        ] {
            assert_eq!(
                Scopes::of(scopes.iter().copied()).to_string(),
                want,
                "{scopes:?}"
            );
        }
        let a = Scopes::of(["repository:a:pull", "repository:b:pull,push"]);
        let b = Scopes::of([
            "repository:b:push",
            "repository:b:pull",
            "repository:a:pull",
        ]);
        assert_eq!(a, b);
    }

    #[test]
    fn bounded() {
        let many: Vec<String> = (0..10_000)
            .map(|i| format!("repository:r{i}:a{i}"))
            .collect();
        assert_eq!(
            Scopes::of(many.iter().map(String::as_str)).iter().count(),
            MAX_SCOPES
        );
    }
}

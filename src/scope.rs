//! Scopes of access tokens: `type:name:actions` (distribution, token scope documentation).

use std::collections::BTreeMap;
use std::fmt;

/// Most scopes and actions a set takes in: challenges are written by the peer.
const MAX_SCOPES: usize = 64;
const MAX_ACTIONS: usize = 16;

/// A set of scopes, merged by resource. Equal sets are equal whatever order they were made in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scopes(BTreeMap<String, Vec<String>>);

impl Scopes {
    /// The set of these scopes; what does not parse is left out.
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

    /// Adds one scope. The name may hold colons: the actions stand behind the last one, the type before
    /// the first.
    pub(crate) fn add(&mut self, scope: &str) {
        let Some((resource, actions)) = scope.rsplit_once(':') else {
            return;
        };
        let Some((kind, name)) = resource.split_once(':') else {
            return;
        };
        let plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| (b'!'..=b'~').contains(&b));
        if !plain(kind)
            || !plain(name)
            || (self.0.len() >= MAX_SCOPES && !self.0.contains_key(resource))
        {
            return;
        }
        let held = self.0.entry(resource.to_owned()).or_default();
        for action in actions.split(',').filter(|a| plain(a)) {
            if held.len() < MAX_ACTIONS && !held.iter().any(|h| h == action) {
                held.push(action.to_owned());
            }
        }
        if held.iter().any(|a| a == "*") {
            *held = vec!["*".to_owned()];
        }
        held.sort_by_key(|action| (rank(action), action.clone()));
        if held.is_empty() {
            self.0.remove(resource);
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
        self.0
            .iter()
            .map(|(resource, actions)| format!("{resource}:{}", actions.join(",")))
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

    /// R35, R36.
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
                    "nonsense",
                    "repository:a:",
                    ":a:pull",
                    "repository::pull",
                    "repository:a b:pull",
                ],
                "",
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

//! The origin policy: may this request go there, and may it carry credentials? Asked for every URL that a
//! peer names: realms, redirects, upload locations, links, absolute request URLs.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::net::address::{Home, Rule};
use crate::options::{Options, Switch, Text};
use crate::url::{Origin, Url};

/// What a URL was given for; only for messages and the rules that differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `realm` of a challenge.
    Realm,
    /// `Location` of a redirect.
    Redirect,
    /// `Location` of an upload.
    Upload,
    /// Target of a `Link`.
    Link,
    /// A URL the program asked for.
    Request,
}

impl Purpose {
    fn text(self) -> &'static str {
        match self {
            Self::Realm => "the token service",
            Self::Redirect => "the redirect",
            Self::Upload => "the upload location",
            Self::Link => "the link to the next page",
            Self::Request => "the request URL",
        }
    }
}

/// Leave to go somewhere.
#[derive(Debug, Clone)]
pub(crate) struct Passage {
    /// Addresses the connection may be made to.
    pub(crate) rule: Rule,
    /// Whether it is the registry's own origin, to which its credentials belong.
    pub(crate) is_home: bool,
    /// Set for the registry itself: the connected address becomes known.
    pub(crate) home: Option<Arc<Home>>,
}

/// The policy of one registry.
#[derive(Debug)]
pub(crate) struct Policy {
    home: Origin,
    reach: Arc<Home>,
    allow_private: bool,
    realm_hosts: Option<Vec<String>>,
}

impl Policy {
    pub(crate) fn new(home: Origin, options: &Options) -> Self {
        let reach = Arc::new(Home::default());
        if let Some(address) = written_address(&home) {
            reach.learn(address);
        }
        let realm_hosts = options.text(Text::RealmHosts).map(|list| {
            list.split([',', ' '])
                .filter(|h| !h.is_empty())
                .map(str::to_ascii_lowercase)
                .collect()
        });
        Self {
            home,
            reach,
            allow_private: options.is_on(Switch::AllowPrivate),
            realm_hosts,
        }
    }

    pub(crate) fn home(&self) -> &Origin {
        &self.home
    }

    /// Judges a step from the URL that named it to the one named.
    pub(crate) fn judge(&self, from: &Url, to: &Url, purpose: Purpose) -> Result<Passage> {
        let origin = to.origin();
        let refuse =
            |why: String| Error::protocol(format!("{} of {} {why}", purpose.text(), self.home));
        let is_home = *origin == self.home;
        if (from.origin().is_https() || self.home.is_https()) && !origin.is_https() {
            return Err(refuse(format!(
                "leads from https to plain http at {}",
                origin.host()
            )));
        }
        if purpose == Purpose::Link && origin != from.origin() {
            return Err(refuse(format!("leads to another origin, {origin}")));
        }
        if purpose == Purpose::Realm && !origin.same_host(&self.home) {
            if let Some(hosts) = &self.realm_hosts {
                if !hosts.iter().any(|h| h == origin.host()) {
                    return Err(refuse(format!(
                        "is at {}, which option realm-hosts does not name",
                        origin.host()
                    )));
                }
            }
        }
        let rule = if self.allow_private || origin.same_host(&self.home) {
            Rule::ANY
        } else {
            self.reach.rule()
        };
        // Behind a proxy the connected address is not seen; what is written as an address is.
        let is_refused = || {
            origin.is_disguised_address()
                || written_address(origin).is_some_and(|a| !rule.allows(a))
        };
        if rule != Rule::ANY && is_refused() {
            return Err(refuse(format!(
                "leads to {}, an address this registry may not lead to: set option allow-private if it may",
                origin.host()
            )));
        }
        Ok(Passage {
            rule,
            is_home,
            home: is_home.then(|| Arc::clone(&self.reach)),
        })
    }
}

/// The address a host names without asking a resolver.
fn written_address(origin: &Origin) -> Option<std::net::IpAddr> {
    let host = origin.host().trim_end_matches('.');
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(std::net::Ipv4Addr::LOCALHOST.into());
    }
    origin.literal()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(home: &str, from: &str, to: &str, purpose: Purpose, private: bool) -> Option<bool> {
        let mut options = Options::new();
        options
            .set_number("allow-private", i64::from(private))
            .unwrap();
        let policy = Policy::new(Url::parse(home).unwrap().origin().clone(), &options);
        policy
            .judge(
                &Url::parse(from).unwrap(),
                &Url::parse(to).unwrap(),
                purpose,
            )
            .ok()
            .map(|p| p.is_home)
    }

    /// Go and carry, go without, or stay.
    #[test]
    fn table() {
        use Purpose::{Link, Realm, Redirect, Upload};
        let https = "https://r.example/";
        for (home, to, purpose, want) in [
            (https, "https://r.example/x", Redirect, Some(true)),
            (https, "https://R.EXAMPLE:443/x", Redirect, Some(true)),
            (https, "https://r.example:444/x", Redirect, Some(false)),
            (https, "https://cdn.example/x", Redirect, Some(false)),
            (https, "http://r.example/x", Redirect, None),
            (https, "http://cdn.example/x", Upload, None),
            (https, "https://cdn.example/x", Upload, Some(false)),
            (https, "http://auth.example/t", Realm, None),
            (https, "https://auth.example/t", Realm, Some(false)),
            (https, "https://169.254.169.254/t", Realm, None),
            (https, "https://127.0.0.1/t", Realm, None),
            (https, "https://[::ffff:10.0.0.1]/t", Realm, None),
            (https, "https://2130706433/t", Realm, None),
            (https, "https://0x7f.1/t", Realm, None),
            (https, "https://localhost/t", Realm, None),
            (https, "https://other.example/p", Link, None),
            (https, "https://r.example/p", Link, Some(true)),
            (
                "http://r.example/",
                "http://auth.example/t",
                Realm,
                Some(false),
            ),
            (
                "http://127.0.0.1:5000/",
                "http://127.0.0.1:5001/t",
                Realm,
                Some(false),
            ),
            (
                "http://127.0.0.5/",
                "http://10.0.0.1/",
                Redirect,
                Some(false),
            ),
            ("http://10.0.0.1/", "http://127.0.0.5/", Redirect, None),
        ] {
            assert_eq!(
                judge(home, home, to, purpose, false),
                want,
                "{home} -> {to} {purpose:?}"
            );
        }
        assert_eq!(
            judge(https, https, "https://10.0.0.1/", Redirect, true),
            Some(false)
        );
        assert_eq!(
            judge(https, https, "http://10.0.0.1/", Redirect, true),
            None
        );
    }

    #[test]
    fn named_realms() {
        let mut options = Options::new();
        options
            .set_text("realm-hosts", "auth.example, token.example")
            .unwrap();
        let home = Url::parse("https://r.example/").unwrap();
        let policy = Policy::new(home.origin().clone(), &options);
        for (to, want) in [
            ("https://auth.example/", true),
            ("https://evil.example/", false),
            ("https://r.example/", true),
        ] {
            assert_eq!(
                policy
                    .judge(&home, &Url::parse(to).unwrap(), Purpose::Realm)
                    .is_ok(),
                want,
                "{to}"
            );
        }
    }
}

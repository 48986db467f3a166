//! Credential files as values: which key is meant for a repository, and what its entry holds.

use std::cmp::Reverse;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::Credential;
use crate::json;
use crate::secret::Secret;
use crate::sorted::in_order;

/// Where a look-up ended. Holds no secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// File and key, such as `/home/a/.docker/config.json auths["ghcr.io"]`, or the program that answered. When
    /// nothing was found, what was looked at.
    pub source: String,
    /// The file that decided.
    pub file: Option<PathBuf>,
    /// The environment variable that decided.
    pub variable: Option<&'static str>,
    /// What decided there, such as `auths["ghcr.io"]` or `credsStore`.
    pub key: Option<String>,
    /// The program that was asked.
    pub helper: Option<String>,
}

impl Found {
    /// Nothing that a single place decided.
    pub(crate) fn said(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            ..Self::default()
        }
    }
}

/// Where entries are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    File(&'a Path),
    Variable(&'static str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

impl Place<'_> {
    /// An entry here.
    pub(super) fn found(&self, key: &str) -> Found {
        let (file, variable) = match *self {
            Self::File(path) => (Some(path.to_owned()), None),
            Self::Variable(name) => (None, Some(name)),
        };
        Found {
            source: format!("{self} {key}"),
            file,
            variable,
            key: Some(key.to_owned()),
            helper: None,
        }
    }

    /// The same, answered by a helper.
    pub(super) fn found_by(&self, key: &str, helper: &str) -> Found {
        let found = self.found(key);
        Found {
            source: format!("{helper} ({})", found.source),
            helper: Some(helper.to_owned()),
            ..found
        }
    }
}

/// The names of Docker Hub, the one that wins first.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

fn hub_name(host: &str) -> Option<usize> {
    HUB.iter().position(|name| name.eq_ignore_ascii_case(host))
}

/// Whose way to keep credentials is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeper {
    Docker,
    Podman,
}

impl Keeper {
    /// What helpers are asked for, in order, until one has something: the keys under which the program keeps a registry.
    pub(super) fn keys<'a>(self, registry: &'a &'a str) -> &'a [&'a str] {
        const URL: &str = "https://index.docker.io/v1/";
        match (hub_name(registry), self) {
            (None, _) => std::slice::from_ref(registry),
            (Some(_), Self::Docker) => &[URL],
            // It asks docker's helpers for what docker keeps, too.
            (Some(_), Self::Podman) => &["docker.io", URL],
        }
    }
}

/// The entries of `map` whose keys cover the repository, the one that wins first.
///
/// A key is a registry or a registry with a path of repository names, alone or as an `http` or `https` URL; for
/// a registry also as the URL of its API (`/v1/`, `/v2/`). The longest path wins, then the plain registry,
/// `https`, `http`, and the API URLs in that order. Case of the registry and slashes at the end do not matter.
/// Docker Hub's three names are one. Without `repository` only keys without a path count.
pub(super) fn covering<'m>(
    map: &'m Map<String, Value>,
    registry: &str,
    repository: Option<&str>,
) -> Vec<(&'m str, &'m Value)> {
    let found = map
        .iter()
        .filter_map(|(key, value)| Some((rank(key, registry, repository)?, key.as_str(), value)));
    in_order(found, |(a, a_key, _), (b, b_key, _)| {
        (a, a_key).cmp(&(b, b_key))
    })
    .into_iter()
    .map(|(_, key, value)| (key, value))
    .collect()
}

/// Lower wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    depth: Reverse<usize>,
    hub_name: usize,
    api: u8,
    scheme: u8,
    odd_slash: bool,
    odd_case: bool,
}

fn rank(key: &str, registry: &str, repository: Option<&str>) -> Option<Rank> {
    let (scheme, rest) = match key.split_once("://") {
        None => (0, key),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (1, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (2, rest),
        Some(_) => return None,
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let bracketed = (scheme > 0).then(|| in_brackets(host)).flatten();
    let host = bracketed.as_deref().unwrap_or(host);
    let hub = hub_name(registry);
    let hub_name = match hub {
        Some(_) => hub_name(host)?,
        None => host.eq_ignore_ascii_case(registry).then_some(0)?,
    };
    let slash = rest.ends_with('/');
    let path = path.trim_end_matches('/');
    // Without scheme and slash, "host/v2" is the namespace v2.
    let (api, path) = match path {
        "v1" if scheme > 0 || slash => (1, ""),
        "v2" if scheme > 0 || slash => (2, ""),
        // Other things of the API than its root, such as ".../v1/refresh-token", are no repositories.
        _ if scheme > 0 && (path.starts_with("v1/") || path.starts_with("v2/")) => return None,
        _ => (0, path),
    };
    let depth = if path.is_empty() {
        0
    } else {
        depth(path, repository?, hub.is_some())?
    };
    Some(Rank {
        depth: Reverse(depth),
        hub_name,
        api,
        scheme,
        odd_slash: slash == (api == 0),
        odd_case: hub.is_none() && host != registry,
    })
}

/// `host` if it is an IPv6 address with a port and without brackets, as docker writes it.
fn in_brackets(host: &str) -> Option<String> {
    let (address, port) = host.rsplit_once(':')?;
    let is_bare = address.contains(':') && !address.starts_with('[');
    is_bare.then(|| format!("[{address}]:{port}"))
}

/// How closely `path` describes `repository`, if it covers it. Twice the number of its parts; the short form of
/// an official image of Docker Hub comes between its full name and the namespace `library`.
fn depth(path: &str, repository: &str, hub: bool) -> Option<usize> {
    if hub && repository.strip_prefix("library/") == Some(path) && !path.contains('/') {
        return Some(3);
    }
    let rest = repository.strip_prefix(path)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| 2 * path.split('/').count())
}

/// Why an entry cannot be used. Fixed texts, so that nothing of the entry gets out.
pub(super) type Fault = &'static str;

/// What an entry of `auths` holds: the first of `registrytoken`, `identitytoken`, `auth`, and `username` with
/// `password` that is there and not empty. `None`: nothing, as in the marks that credential helpers leave.
pub(super) fn read(entry: &Value) -> Result<Option<Credential>, Fault> {
    let entry = match entry {
        Value::Object(entry) => entry,
        Value::Null => return Ok(None),
        _ => return Err("the entry is not a JSON object"),
    };
    let registry_token = member(entry, "registrytoken", "\"registrytoken\" is not a string")?;
    let identity_token = member(entry, "identitytoken", "\"identitytoken\" is not a string")?;
    let auth = member(entry, "auth", "\"auth\" is not a string")?;
    let username = member(entry, "username", "\"username\" is not a string")?;
    let password = member(entry, "password", "\"password\" is not a string")?;
    if !registry_token.is_empty() {
        bearer(registry_token).map(Some)
    } else if !identity_token.is_empty() {
        identity(identity_token).map(Some)
    } else if !auth.is_empty() {
        pair(auth)
    } else if !username.is_empty() {
        basic(username, password).map(Some)
    } else {
        Ok(None)
    }
}

/// A member of an object by its name, in whatever case: that is how the programs read these files that write them.
pub(super) fn named<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    let in_any_case = || {
        object
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    object
        .get(name)
        .or_else(|| in_any_case().map(|(_, value)| value))
}

fn member<'v>(entry: &'v Map<String, Value>, name: &str, fault: Fault) -> Result<&'v str, Fault> {
    match named(entry, name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(fault),
    }
}

/// As Go's decoder, which wrote most of these files, but without the need for padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// User and password from base64 of `user:password` (RFC 7617 section 2).
fn pair(auth: &str) -> Result<Option<Credential>, Fault> {
    let mut code = Zeroizing::new(Vec::with_capacity(auth.len()));
    code.extend(auth.bytes().filter(|b| !matches!(b, b'\r' | b'\n')));
    let mut plain = Zeroizing::new(vec![0; base64::decoded_len_estimate(code.len())]);
    let length = BASE64
        .decode_slice(&*code, &mut plain)
        .map_err(|_| "\"auth\" is not base64")?;
    let plain = std::str::from_utf8(plain.get(..length).unwrap_or_default())
        .map_err(|_| "\"auth\" is not UTF-8")?;
    let (user, password) = plain
        .split_once(':')
        .ok_or("\"auth\" holds no colon between user name and password")?;
    // Some programs encode a terminated C string.
    let password = password.trim_matches('\0');
    if user.is_empty() && password.is_empty() {
        return Ok(None);
    }
    basic(user, password).map(Some)
}

/// User name and password as HTTP Basic can carry them (RFC 7617 section 2). The password may hold line ends, which
/// that forbids: keys of service accounts are sent so, and what they are encoded in carries them.
pub(super) fn basic(user: &str, password: &str) -> Result<Credential, Fault> {
    if user.contains(':') {
        return Err("the user name holds a colon, which HTTP Basic cannot carry (RFC 7617)");
    }
    if user.chars().any(char::is_control) {
        return Err("the user name holds a control character, such as a line end");
    }
    if user.contains(char::REPLACEMENT_CHARACTER) || password.contains(char::REPLACEMENT_CHARACTER)
    {
        return Err("user name or password is not UTF-8");
    }
    Ok(Credential::Basic {
        user: user.to_owned(),
        password: Secret::new(password),
    })
}

/// A refresh token.
pub(super) fn identity(token: &str) -> Result<Credential, Fault> {
    if token
        .chars()
        .any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER)
    {
        return Err(
            "the identity token holds a control character, such as a line end, or is not UTF-8",
        );
    }
    Ok(Credential::Identity(Secret::new(token)))
}

/// A token that goes into a header field as it is.
fn bearer(token: &str) -> Result<Credential, Fault> {
    if token.bytes().any(|b| b.is_ascii_control() || !b.is_ascii()) {
        return Err(
            "the registry token holds a control character, such as a line end, or is not ASCII",
        );
    }
    Ok(Credential::Bearer(Secret::new(token)))
}

/// JSON that holds secrets: its strings are wiped when it is dropped.
pub(super) struct Json(pub(super) Value);

impl Json {
    /// Reads one JSON text (RFC 8259), with or without a byte order mark. `None`: nothing but white space.
    ///
    /// Bytes that are not UTF-8 become U+FFFD: they must not make the rest of a file unusable, and what is taken
    /// from it is refused if it holds that character.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let repaired;
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => {
                repaired = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
                repaired.as_str()
            }
        };
        if text.bytes().all(|b| b.is_ascii_whitespace()) {
            return Ok(None);
        }
        let mended = json::mended(text);
        let read = serde_json::from_str(&mended);
        json::wipe(mended);
        match read {
            Ok(value) => Ok(Some(Self(value))),
            Err(e) => Err(format!(
                "not JSON (line {}, column {})",
                e.line(),
                e.column()
            )),
        }
    }
}

impl Drop for Json {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// As deep as the parser goes, which is 128 levels.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A credential in words, secrets included.
    pub(in crate::creds) fn show(credential: &Credential) -> String {
        match credential {
            Credential::Anonymous => "anonymous".to_owned(),
            Credential::Basic { user, password } => format!("basic {user}:{}", password.expose()),
            Credential::Identity(token) => format!("identity {}", token.expose()),
            Credential::Bearer(token) => format!("bearer {}", token.expose()),
        }
    }

    fn covering_keys(keys: &[&str], registry: &str, repository: Option<&str>) -> Vec<String> {
        let map: Map<String, Value> = keys
            .iter()
            .map(|k| ((*k).to_owned(), Value::Null))
            .collect();
        covering(&map, registry, repository)
            .into_iter()
            .map(|(key, _)| key.to_owned())
            .collect()
    }

    #[test]
    fn d65_keys_that_cover_a_registry() {
        let table = [
            ("r.io", "r.io", true),
            ("https://r.io", "r.io", true),
            ("http://r.io", "r.io", true),
            ("HTTPS://R.io/", "r.io", true),
            ("r.io/", "r.io", true),
            ("http://r.io/", "r.io", true),
            ("https://r.io/v1/", "r.io", true),
            ("http://r.io/v1/", "r.io", true),
            ("https://r.io/v2/", "r.io", true),
            ("http://r.io/v2/", "r.io", true),
            ("https://r.io/v1", "r.io", true),
            ("https://r.io/v2", "r.io", true),
            ("r.io/v1/", "r.io", true),
            ("r.io/v2/", "r.io", true),
            ("R.IO", "r.io", true),
            ("r.io", "R.IO", true),
            ("r.io:5000", "r.io:5000", true),
            ("https://r.io:5000/v2/", "r.io:5000", true),
            ("[::1]:5000", "[::1]:5000", true),
            ("https://[::1]/v2/", "[::1]", true),
            ("https://::1:6555/v2/", "[::1]:6555", true),
            ("::1:6555", "[::1]:6555", false),
            ("r.io/v2", "r.io", false),
            ("r.io:443", "r.io", false),
            ("r.io", "r.io:443", false),
            ("r.io", "r.io:5000", false),
            ("ftp://r.io", "r.io", false),
            ("://r.io", "r.io", false),
            ("//r.io", "r.io", false),
            ("https:/r.io", "r.io", false),
            ("https://https://r.io", "r.io", false),
            ("evil-r.io", "r.io", false),
            ("r.io.evil", "r.io", false),
            ("r.io@evil", "r.io", false),
            ("u@r.io", "r.io", false),
            ("https://u:p@r.io/v1/", "r.io", false),
            ("r.io?x", "r.io", false),
            ("https://r.io#/", "r.io", false),
            (" r.io", "r.io", false),
            ("", "r.io", false),
            ("/", "r.io", false),
            ("r.io/team", "r.io", false),
            ("https://r.io/team/", "r.io", false),
            ("https://r.io/v1/refresh-token", "r.io", false),
            ("https://r.io/v1/team", "r.io", false),
            ("docker.io", "index.docker.io", true),
            ("Index.Docker.io", "index.docker.io", true),
            ("registry-1.docker.io", "index.docker.io", true),
            ("https://index.docker.io/v1/", "index.docker.io", true),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("https://index.docker.io/v1/", "registry-1.docker.io", true),
            (
                "https://index.docker.io/v1/access-token",
                "index.docker.io",
                false,
            ),
            ("auth.docker.io", "index.docker.io", false),
            ("docker.io:443", "index.docker.io", false),
            ("docker.io", "r.docker.io", false),
        ];
        for (key, registry, covers) in table {
            assert_eq!(
                covering_keys(&[key], registry, None).len(),
                usize::from(covers),
                "{key} for {registry}"
            );
        }
    }

    #[test]
    fn d65_keys_that_cover_a_repository() {
        let table = [
            ("r.io/team", "r.io", "team", true),
            ("r.io/team", "r.io", "team/app", true),
            ("r.io/team/", "r.io", "team/app", true),
            ("https://r.io/team/", "r.io", "team/app", true),
            ("R.IO/team", "r.io", "team/app", true),
            ("r.io/v2", "r.io", "v2/app", true),
            ("r.io/team/app", "r.io", "team", false),
            ("r.io/team", "r.io", "teams", false),
            ("r.io/TEAM", "r.io", "team", false),
            ("r.io//team", "r.io", "team", false),
            ("r.io/team//app", "r.io", "team/app", false),
            ("r.io/..", "r.io", "team", false),
            ("q.io/team", "r.io", "team", false),
            ("https://r.io/v2/team", "r.io", "team", false),
            ("docker.io/vendor", "index.docker.io", "vendor/app", true),
            (
                "docker.io/library",
                "index.docker.io",
                "library/busybox",
                true,
            ),
            (
                "docker.io/busybox",
                "index.docker.io",
                "library/busybox",
                true,
            ),
            ("r.io/busybox", "r.io", "library/busybox", false),
            ("docker.io/a/b", "index.docker.io", "library/a/b", false),
        ];
        for (key, registry, repository, covers) in table {
            let found = covering_keys(&[key], registry, Some(repository));
            assert_eq!(
                found.len(),
                usize::from(covers),
                "{key} for {registry}/{repository}"
            );
        }
    }

    #[test]
    fn k27_order_of_keys() {
        let forms = [
            "r.io/a/b/c",
            "r.io/a/b",
            "r.io/a",
            "r.io",
            "R.io",
            "r.io/",
            "https://r.io",
            "http://r.io",
            "https://r.io/v1/",
            "http://r.io/v1/",
            "https://r.io/v2/",
            "https://r.io/v2",
            "http://r.io/v2/",
        ];
        assert_eq!(covering_keys(&forms, "r.io", Some("a/b/c")), forms);

        let hub = [
            "docker.io/library/busybox",
            "docker.io/busybox",
            "docker.io/library",
            "docker.io",
            "index.docker.io",
            "https://index.docker.io/v1/",
            "registry-1.docker.io",
        ];
        assert_eq!(
            covering_keys(&hub, "index.docker.io", Some("library/busybox")),
            hub
        );
    }

    #[test]
    fn entries() {
        let table = [
            ("{}", "nothing"),
            ("null", "nothing"),
            (r#"{"email":"x@y"}"#, "nothing"),
            (r#"{"auth":""}"#, "nothing"),
            (r#"{"auth":null}"#, "nothing"),
            (r#"{"auth":"Og=="}"#, "nothing"),
            (r#"{"identitytoken":""}"#, "nothing"),
            (r#"{"password":"p"}"#, "nothing"),
            (r#"{"username":"u","password":"p"}"#, "basic u:p"),
            (r#"{"username":"u"}"#, "basic u:"),
            (r#"{"auth":"dTpw"}"#, "basic u:p"),
            (
                r#"{"auth":"dTpw","username":"x","password":"y"}"#,
                "basic u:p",
            ),
            (r#"{"auth":"","username":"x","password":"y"}"#, "basic x:y"),
            (r#"{"auth":"dTpwOnE="}"#, "basic u:p:q"),
            (r#"{"auth":"OnA="}"#, "basic :p"),
            (r#"{"auth":"dTo="}"#, "basic u:"),
            (r#"{"auth":"dTpwAAA="}"#, "basic u:p"),
            (r#"{"auth":"dTo"}"#, "basic u:"),
            (r#"{"auth":"dT\npw\r\n"}"#, "basic u:p"),
            (r#"{"auth":"dXPDqXI6cMOkc3Pigqw="}"#, "basic usér:päss€"),
            (
                r#"{"auth":"MDAwOg==","identitytoken":"i d"}"#,
                "identity i d",
            ),
            (
                r#"{"auth":"dTpw","identitytoken":"i","registrytoken":"r"}"#,
                "bearer r",
            ),
            (r#""whatever""#, "the entry is not a JSON object"),
            ("[]", "the entry is not a JSON object"),
            (r#"{"auth":42}"#, "\"auth\" is not a string"),
            (r#"{"username":true}"#, "\"username\" is not a string"),
            (
                r#"{"username":"u","password":[]}"#,
                "\"password\" is not a string",
            ),
            (
                r#"{"identitytoken":{}}"#,
                "\"identitytoken\" is not a string",
            ),
            (
                r#"{"registrytoken":1}"#,
                "\"registrytoken\" is not a string",
            ),
            (r#"{"auth":"bad-auth-bad"}"#, "\"auth\" is not base64"),
            (r#"{"auth":"dTpw="}"#, "\"auth\" is not base64"),
            (r#"{"auth":"d"}"#, "\"auth\" is not base64"),
            (r#"{"auth":"dTp w"}"#, "\"auth\" is not base64"),
            (
                r#"{"auth":"dXNlcg=="}"#,
                "\"auth\" holds no colon between user name and password",
            ),
            (r#"{"auth":"dXNlcjpw5HNz"}"#, "\"auth\" is not UTF-8"),
            (
                r#"{"username":"u:v"}"#,
                "the user name holds a colon, which HTTP Basic cannot carry (RFC 7617)",
            ),
            (
                r#"{"username":"u\n"}"#,
                "the user name holds a control character, such as a line end",
            ),
            (r#"{"auth":"dTpwCg=="}"#, "basic u:p\n"),
            (r#"{"Auth":"dTpw"}"#, "basic u:p"),
            (r#"{"AUTH":"","auth":"dTpw"}"#, "basic u:p"),
            (
                r#"{"username":"u","password":"\ufffd"}"#,
                "user name or password is not UTF-8",
            ),
            (
                r#"{"identitytoken":"a\nb"}"#,
                "the identity token holds a control character, such as a line end, or is not UTF-8",
            ),
            (
                r#"{"registrytoken":"a\r\nX: y"}"#,
                "the registry token holds a control character, such as a line end, or is not ASCII",
            ),
        ];
        for (text, expected) in table {
            let entry: Value = serde_json::from_str(text).unwrap();
            let told = match read(&entry) {
                Ok(None) => "nothing".to_owned(),
                Ok(Some(credential)) => show(&credential),
                Err(fault) => fault.to_owned(),
            };
            assert_eq!(told, expected, "{text}");
        }
    }

    #[test]
    fn json_texts() {
        let deep = "[".repeat(100_000);
        let table: [(&[u8], Result<bool, ()>); 10] = [
            (b"{}", Ok(true)),
            (b"\xef\xbb\xbf{}", Ok(true)),
            (b"{\"a\":\"\xff\"}", Ok(true)),
            (br#"{"\udc00":"\ud800","a":1e999}"#, Ok(true)),
            (b"", Ok(false)),
            (b" \t\r\n", Ok(false)),
            (b"// c\n{}", Err(())),
            (b"{}{}", Err(())),
            (b"\xff\xfe{\0}\0", Err(())),
            (deep.as_bytes(), Err(())),
        ];
        for (text, expected) in table {
            let is_there = Json::parse(text).map(|json| json.is_some()).map_err(drop);
            assert_eq!(
                is_there,
                expected,
                "{}",
                String::from_utf8_lossy(text.get(..20).unwrap_or(text))
            );
        }
    }

    #[test]
    fn r68_json_faults_do_not_quote() {
        let reason = Json::parse(br#"{"auth": canary}"#).err().unwrap();
        assert_eq!(reason, "not JSON (line 1, column 10)");
    }
}

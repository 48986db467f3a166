//! `registries.conf` of podman, skopeo and buildah, version 2 (containers-registries.conf(5)): other locations,
//! mirrors, blocked registries and short names.

use std::path::{Path, PathBuf};

use super::{Host, Plan, Serves, common_name};
use crate::error::{Error, Result};
use crate::name::{self, Reference, Scheme, TagOrDigest};
use crate::options::{Options, Switch, Text};
use crate::registries_conf::Places;
use crate::sorted::SortedMap;
use crate::toml_file::{self, Table};
use crate::url::Url;

/// The value of option `registries-conf` that stands for the usual places.
const USUAL: &str = "default";

/// What the files say, put together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    registries: Vec<Registry>,
    /// Full names by short ones.
    aliases: SortedMap<String, String>,
    /// Where short names without an alias are looked for.
    search: Vec<String>,
}

/// A `[[registry]]`.
#[derive(Debug, Clone)]
struct Registry {
    prefix: String,
    location: Option<String>,
    insecure: bool,
    blocked: bool,
    mirrors: Vec<Mirror>,
    file: PathBuf,
}

/// A `[[registry.mirror]]`.
#[derive(Debug, Clone)]
struct Mirror {
    location: String,
    insecure: bool,
    serves: Serves,
}

impl Config {
    /// What option `registries-conf` names; `None` when it is not set.
    pub(crate) fn of(options: &Options) -> Result<Option<Self>> {
        let Some(value) = options.text(Text::RegistriesConf).filter(|v| !v.is_empty()) else {
            return Ok(None);
        };
        let mut config = Self::default();
        if value == USUAL {
            for file in usual_files(options)? {
                config.read(&file)?;
            }
        } else if !config.read(Path::new(value))? {
            return Err(Error::io(format!(
                "{value}, which option registries-conf names, does not exist"
            ))
            .with_os_code(Some(libc::ENOENT)));
        }
        Ok(Some(config))
    }

    /// Adds a file to what earlier ones say. Whether there is one.
    fn read(&mut self, file: &Path) -> Result<bool> {
        let Some(text) = toml_file::read(file)? else {
            return Ok(false);
        };
        toml_file::with(file, &text, |root| self.add(file, root))?;
        Ok(true)
    }

    fn add(&mut self, file: &Path, root: Table<'_>) -> Result<()> {
        if root.has("registries") {
            return Err(Error::unsupported(format!(
                "{} is in version 1 of its format: write [[registry]] tables instead",
                file.display()
            )));
        }
        for table in root.list("registry")? {
            let registry = Registry::of(file, table)?;
            self.registries.retain(|r| r.prefix != registry.prefix);
            self.registries.push(registry);
        }
        if let Some(search) = root.texts("unqualified-search-registries")? {
            self.search = search.into_iter().map(str::to_owned).collect();
        }
        for (short, full) in root.lists("aliases")? {
            let name = full.first().copied().unwrap_or_default();
            // An empty name takes an alias back.
            if name.is_empty() {
                self.aliases.remove(short);
            } else {
                self.aliases.insert(short.to_owned(), name.to_owned());
            }
        }
        Ok(())
    }

    /// The hosts of a registry, if the files speak of it.
    pub(super) fn plan(&self, own: &Host, options: &Options) -> Result<Option<Plan>> {
        let name = full_name(own);
        let found = self
            .registries
            .iter()
            .filter_map(|r| Some((covered(&name, &r.prefix)?, r)))
            .max_by_key(|(_, r)| r.prefix.len());
        let Some((covered, registry)) = found else {
            return Ok(None);
        };
        let file = registry.file.display();
        if registry.blocked {
            return Err(Error::unsupported(format!(
                "{name} is blocked by \"{}\" in {file}",
                registry.prefix
            )));
        }
        let rest = name.get(covered..).unwrap_or_default();
        let mut hosts = Vec::new();
        for mirror in &registry.mirrors {
            let mut host =
                host(&mirror.location, rest, own, options).map_err(|e| e.context(&file))?;
            if mirror.insecure {
                make_insecure(&mut host)?;
            }
            host.serves = mirror.serves;
            host.source = format!("{file}, mirror of \"{}\"", registry.prefix);
            hosts.push(host);
        }
        let mut home = match &registry.location {
            None => own.clone(),
            Some(location) => host(location, rest, own, options).map_err(|e| e.context(&file))?,
        };
        home.trust.insecure = registry.insecure;
        if home.is_at(&own.authority) {
            home.root = own.root.clone();
        }
        // What option scheme says is not tried out.
        if options.text(Text::Scheme).is_none() && registry.insecure {
            make_insecure(&mut home)?;
        }
        home.source = format!("{file}, \"{}\"", registry.prefix);
        hosts.push(home);
        Ok(Some(Plan {
            home: hosts.len() - 1,
            hosts,
            refused: Vec::new(),
        }))
    }

    /// The manifests of the repository that have a `[[registry]]` of their own, by their tag or digest, and why
    /// they are not to be had: they are blocked, or kept in another place than the rest of the repository.
    pub(super) fn refused(&self, own: &Host) -> Vec<(String, String)> {
        if own.repository.is_none() {
            return Vec::new();
        }
        let name = full_name(own);
        let refused = self.registries.iter().filter_map(|registry| {
            let reference = registry.prefix.strip_prefix(&name)?;
            let reference = reference
                .strip_prefix(':')
                .filter(|tag| !tag.contains(':'))
                .or_else(|| reference.strip_prefix('@').filter(|d| d.contains(':')))?;
            let reference = TagOrDigest::parse(reference).ok()?;
            let (prefix, file) = (&registry.prefix, registry.file.display());
            let why = if registry.blocked {
                format!("{prefix} is blocked in {file}")
            } else {
                format!(
                    "{file} has a place for {prefix} alone, where a transport for the whole repository does not look"
                )
            };
            Some((format!("manifests/{reference}"), why))
        });
        refused.collect()
    }
}

impl Registry {
    fn of(file: &Path, table: Table<'_>) -> Result<Self> {
        let location = table.text("location")?.filter(|l| !l.is_empty());
        let prefix = table
            .text("prefix")?
            .filter(|p| !p.is_empty())
            .or(location)
            .ok_or_else(|| {
                Error::syntax(format!(
                    "{}: a registry has neither prefix nor location",
                    file.display()
                ))
            })?;
        let only_digests = table.flag("mirror-by-digest-only")?;
        let mut mirrors = Vec::new();
        for mirror in table.list("mirror")? {
            let location = mirror
                .text("location")?
                .filter(|l| !l.is_empty())
                .ok_or_else(|| mirror.wrong("location", "the place of a mirror"))?;
            let serves = |tags, digests| Serves {
                tags,
                digests,
                blobs: true,
                push: false,
            };
            let serves = match (mirror.text("pull-from-mirror")?, only_digests) {
                (None | Some(""), true) | (Some("digest-only"), false) => serves(false, true),
                (None | Some("" | "all"), false) => serves(true, true),
                (Some("tag-only"), false) => serves(true, false),
                (Some(_), false) => {
                    return Err(
                        mirror.wrong("pull-from-mirror", "one of all, digest-only, tag-only")
                    );
                }
                (Some(_), true) => {
                    return Err(mirror.wrong(
                        "pull-from-mirror",
                        "allowed where mirror-by-digest-only is set",
                    ));
                }
            };
            mirrors.push(Mirror {
                location: clean(location),
                insecure: mirror.flag("insecure")?,
                serves,
            });
        }
        Ok(Self {
            prefix: clean(prefix),
            location: location.map(clean),
            insecure: table.flag("insecure")?,
            blocked: table.flag("blocked")?,
            mirrors,
            file: file.to_owned(),
        })
    }
}

fn clean(location: &str) -> String {
    location.trim_end_matches('/').to_owned()
}

/// What the files call a repository.
fn full_name(own: &Host) -> String {
    let registry = common_name(&own.authority);
    match &own.repository {
        Some(repository) => format!("{registry}/{repository}"),
        None => registry.to_owned(),
    }
}

/// How much of `name` a prefix covers; it ends where a part of the name ends.
fn covered(name: &str, prefix: &str) -> Option<usize> {
    let end = match prefix.strip_prefix('*') {
        Some(domain) => {
            let begin = name.find(domain)?;
            if name.get(..begin)?.contains('/') {
                return None;
            }
            begin + domain.len()
        }
        None => name.starts_with(prefix).then_some(prefix.len())?,
    };
    let rest = name.get(end..)?;
    (rest.is_empty() || rest.starts_with(['/', ':'])).then_some(end)
}

/// The host that `location` followed by `rest` of a name names.
fn host(location: &str, rest: &str, own: &Host, options: &Options) -> Result<Host> {
    let (authority, repository) = name::transport_name(&format!("{location}{rest}"))?;
    // Asked for https, nobody is plain for being local; asked for http, nobody else is.
    let scheme = match options.text(Text::Scheme) {
        Some("https") => Scheme::Https,
        _ => authority.default_scheme(),
    };
    Ok(Host {
        root: Url::at(scheme, authority.endpoint(), "/v2/")?,
        authority,
        // A part of a mirror stands for a whole registry, too.
        repository: repository.filter(|_| own.repository.is_some()),
        ..own.clone()
    })
}

/// Any certificate will do, and where there is no TLS, plain http.
fn make_insecure(host: &mut Host) -> Result<()> {
    let at = |scheme| Url::at(scheme, host.authority.endpoint(), "/v2/");
    (host.root, host.plain_root) = (at(Scheme::Https)?, Some(at(Scheme::Http)?));
    host.trust.insecure = true;
    Ok(())
}

/// The files that podman reads, in its order.
fn usual_files(options: &Options) -> Result<Vec<PathBuf>> {
    let read = options.is_on(Switch::Environment);
    let variable = |name: &str| std::env::var_os(name).filter(|v| read && !v.is_empty());
    let mut files = Places::of(variable).files()?;
    let cache = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(&variable("HOME")?).join(".cache")));
    // What the user was asked once.
    files.extend(cache.map(|folder| folder.join("containers/short-name-aliases.conf")));
    Ok(files)
}

/// Takes a reference as people type it apart: a short name is looked up in the aliases and search registries of
/// option `registries-conf`; everything else, and without that option everything, is [`Reference::parse`].
///
/// # Errors
/// Those of [`Reference::parse`]; [`Argument`](crate::error::ErrorKind::Argument) for a short name that could
/// mean several registries; [`Syntax`](crate::error::ErrorKind::Syntax) and
/// [`Io`](crate::error::ErrorKind::Io) for the files.
pub fn resolve(text: &str, options: &Options) -> Result<Reference> {
    let reference = Reference::parse(text)?;
    match full(text, options)? {
        Some(full) => Reference::parse(&full).map_err(|e| e.context(format!("\"{text}\""))),
        None => Ok(reference),
    }
}

/// The full form of a short name, with or without tag and digest; `None` for a name that is not short, or of which
/// nothing is known.
pub(crate) fn full(text: &str, options: &Options) -> Result<Option<String>> {
    let end = text.find('@').unwrap_or(text.len());
    let last = text
        .get(..end)
        .and_then(|t| t.rfind('/'))
        .map_or(0, |i| i + 1);
    let tag = text.get(last..end).and_then(|part| part.find(':'));
    let (short, rest) = text.split_at(tag.map_or(end, |i| last + i));
    if !name::is_short(short) {
        return Ok(None);
    }
    let Some(config) = Config::of(options)? else {
        return Ok(None);
    };
    if let Some(alias) = config.aliases.get(short) {
        return Ok(Some(format!("{alias}{rest}")));
    }
    match config.search.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(format!("{only}/{text}"))),
        several => Err(Error::argument(format!(
            "\"{short}\" could be of any of {}: name the registry",
            several.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{own, tell};
    use super::*;
    use crate::error::ErrorKind;

    /// What the files of these texts say, read one after the other.
    fn config(texts: &[&str]) -> Result<Config> {
        let mut config = Config::default();
        for text in texts {
            toml_file::with(Path::new("/etc/r.conf"), text, |root| {
                config.add(Path::new("/etc/r.conf"), root)
            })?;
        }
        Ok(config)
    }

    fn plan(texts: &[&str], name: &str) -> Option<Vec<String>> {
        let plan = config(texts)
            .unwrap()
            .plan(&own(name), &Options::new())
            .unwrap()?;
        Some(tell(&plan))
    }

    const MIRRORS: &str = r#"
        [[registry]]
        prefix = "e.example/foo"
        location = "internal.example/bar"
        [[registry.mirror]]
        location = "one.example"
        [[registry.mirror]]
        location = "localhost:5000/two"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "three.example/x"
        insecure = true
        pull-from-mirror = "tag-only"

        [[registry]]
        location = "e.example"
        insecure = true

        [[registry]]
        prefix = "docker.io"
        location = "hub.example/cache"

        [[registry]]
        prefix = "*.wild.example"
        [[registry.mirror]]
        location = "m.example"

        [[registry]]
        prefix = "*.wild.example/deep"
        location = "d.example"
    "#;

    #[test]
    fn hosts() {
        let plain = |root: &str| format!("https://{root} or http://{root} tdbp insecure");
        for (name, want) in [
            (
                "e.example/foo/a",
                vec![
                    "https://one.example/v2/a tdb".to_owned(),
                    "http://localhost:5000/v2/two/a db".to_owned(),
                    "https://three.example/v2/x/a or http://three.example/v2/ tb insecure"
                        .to_owned(),
                    "https://internal.example/v2/bar/a tdbp".to_owned(),
                ],
            ),
            (
                "e.example/other",
                vec!["https://e.example/v2/other or http://e.example/v2/ tdbp insecure".to_owned()],
            ),
            (
                "e.example/foobar",
                vec![
                    "https://e.example/v2/foobar or http://e.example/v2/ tdbp insecure".to_owned(),
                ],
            ),
            ("e.example", vec![plain("e.example/v2/")]),
            (
                "ubuntu",
                vec!["https://hub.example/v2/cache/library/ubuntu tdbp".to_owned()],
            ),
            (
                "index.docker.io/o/a",
                vec!["https://hub.example/v2/cache/o/a tdbp".to_owned()],
            ),
            ("docker.io", vec!["https://hub.example/v2/ tdbp".to_owned()]),
            (
                "a.b.wild.example/x",
                vec![
                    "https://m.example/v2/x tdb".to_owned(),
                    "https://a.b.wild.example/v2/x tdbp".to_owned(),
                ],
            ),
            (
                "a.wild.example:5000/x",
                vec![
                    "https://m.example:5000/v2/x tdb".to_owned(),
                    "https://a.wild.example:5000/v2/x tdbp".to_owned(),
                ],
            ),
            (
                "a.wild.example/deep/x",
                vec!["https://d.example/v2/x tdbp".to_owned()],
            ),
            ("wild.example/x", Vec::new()),
            // A name covers its ports, as it does for podman.
            (
                "e.example:5000/a",
                vec![
                    "https://e.example:5000/v2/a or http://e.example:5000/v2/ tdbp insecure"
                        .to_owned(),
                ],
            ),
            ("x.example/e.example/foo", Vec::new()),
        ] {
            assert_eq!(plan(&[MIRRORS], name).unwrap_or_default(), want, "{name}");
        }
    }

    /// Later files win by prefix; lists of search registries replace each other, aliases add up.
    #[test]
    fn files_put_together() {
        let first = "unqualified-search-registries = [\"a.example\"]\n[[registry]]\nlocation = \"x.example\"\nblocked = true\n[aliases]\none = \"a.example/one\"\ntwo = \"a.example/two\"\n";
        let second = "unqualified-search-registries = [\"b.example\"]\n[[registry]]\nprefix = \"x.example\"\nlocation = \"y.example\"\n[aliases]\none = \"b.example/one\"\ntwo = \"\"\n";
        let config = config(&[first, second]).unwrap();
        assert_eq!(config.search, ["b.example"]);
        assert_eq!(
            config
                .aliases
                .iter()
                .map(|(k, v)| format!("{k}={v}"))
                .collect::<Vec<_>>(),
            ["one=b.example/one"]
        );
        assert_eq!(
            plan(&[first, second], "x.example/a").unwrap(),
            ["https://y.example/v2/a tdbp"]
        );
        let blocked = self::config(&[first])
            .unwrap()
            .plan(&own("x.example/a"), &Options::new())
            .unwrap_err();
        assert_eq!(blocked.kind(), ErrorKind::Unsupported);
        assert!(blocked.message().contains("/etc/r.conf"), "{blocked}");
    }

    /// What option scheme says is not tried out.
    #[test]
    fn scheme() {
        let mut options = Options::new();
        options.set_text("scheme", "http").unwrap();
        let (authority, repository) = name::transport_name("e.example/a").unwrap();
        let own = Host::own(&authority, repository.as_ref(), &options).unwrap();
        let plan = config(&[MIRRORS]).unwrap().plan(&own, &options).unwrap();
        assert_eq!(
            tell(&plan.unwrap()),
            ["http://e.example/v2/a tdbp insecure"]
        );
        // It takes the place of the rule for local names, of mirrors as well, and never TLS from one that has it.
        let text = "[[registry]]\nlocation = \"e.example\"\n\
                    [[registry.mirror]]\nlocation = \"localhost:1/x\"\n\
                    [[registry.mirror]]\nlocation = \"m.example/x\"\n";
        for (scheme, local) in [("https", "https"), ("http", "http")] {
            options.set_text("scheme", scheme).unwrap();
            let plan = config(&[text]).unwrap().plan(&own, &options).unwrap();
            let told = tell(&plan.unwrap());
            assert!(
                told[0].starts_with(&format!("{local}://localhost:1/")),
                "{told:?}"
            );
            assert!(told[1].starts_with("https://m.example/"), "{told:?}");
        }
    }

    #[test]
    fn malformed_files() {
        for (text, kind, words) in [
            ("[[registry]", ErrorKind::Syntax, "r.conf:1:"),
            (
                "[registries.search]\nregistries = []",
                ErrorKind::Unsupported,
                "version 1",
            ),
            ("registry = 1", ErrorKind::Syntax, "\"registry\""),
            ("registry = [1]", ErrorKind::Syntax, "\"registry\""),
            (
                "[[registry]]",
                ErrorKind::Syntax,
                "neither prefix nor location",
            ),
            (
                "[[registry]]\nlocation = 1",
                ErrorKind::Syntax,
                "\"location\" of registry",
            ),
            (
                "[[registry]]\nlocation = \"x\"\nblocked = \"no\"",
                ErrorKind::Syntax,
                "\"blocked\" of registry",
            ),
            (
                "[[registry]]\nlocation = \"x\"\n[[registry.mirror]]",
                ErrorKind::Syntax,
                "\"location\" of mirror",
            ),
            (
                "[[registry]]\nlocation = \"x\"\n[[registry.mirror]]\nlocation = \"y\"\npull-from-mirror = \"never\"",
                ErrorKind::Syntax,
                "\"pull-from-mirror\" of mirror",
            ),
            (
                "[[registry]]\nlocation = \"x\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"y\"\npull-from-mirror = \"all\"",
                ErrorKind::Syntax,
                "\"pull-from-mirror\" of mirror",
            ),
            (
                "unqualified-search-registries = 1",
                ErrorKind::Syntax,
                "\"unqualified-search-registries\"",
            ),
            ("[aliases]\na = 1", ErrorKind::Syntax, "\"a\""),
        ] {
            let error = config(&[text]).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.message().contains(words), "{text}: {error}");
            assert!(error.message().contains("/etc/r.conf"), "{error}");
        }
        for (text, words) in [
            (
                "[[registry]]\nprefix = \"e.example\"\nlocation = \"UPPER example\"",
                "e.example",
            ),
            (
                "[[registry]]\nprefix = \"e.example\"\n[[registry.mirror]]\nlocation = \"u:p@m.example\"",
                "/etc/r.conf",
            ),
        ] {
            let error = config(&[text])
                .unwrap()
                .plan(&own("e.example/a"), &Options::new())
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Syntax, "{text}: {error}");
            assert!(!error.message().contains("u:p"), "{words} {error}");
        }
    }
}

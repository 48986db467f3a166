//! containerd's `hosts.toml`: for each registry a folder that names the hosts to ask in its place.

use std::path::{Path, PathBuf};

use ureq::http::header::{HeaderName, HeaderValue};

use super::{Host, HostTrust, Plan, Serves, certs, common_name};
use crate::error::{Error, Result};
use crate::name::Authority;
use crate::toml_file::{self, Table};
use crate::url::Url;

/// What the folder of a registry says, if there is one in `folders`, separated by colons.
pub(super) fn plan(folders: &str, own: &Host) -> Result<Option<Plan>> {
    let Some(folder) = certs::split(folders)
        .iter()
        .find_map(|folder| find(folder, &own.authority))
    else {
        return Ok(None);
    };
    let file = folder.join("hosts.toml");
    let Some(text) = toml_file::read(&file)? else {
        // The older form: certificates and nothing else.
        let mut own = own.clone();
        own.trust = certs::read(&folder)?;
        own.source = folder.display().to_string();
        return Ok(Some(Plan::only(own)));
    };
    toml_file::with(&file, &text, |root| {
        let mut hosts = Vec::new();
        for (server, table) in root.tables("host")? {
            hosts.push(host(&file, server, table, own, true)?);
        }
        let server = root.text("server")?.filter(|server| !server.is_empty());
        hosts.push(match server {
            Some(server) => host(&file, server, root, own, false)?,
            None => {
                let mut own = own.clone();
                settings(&file, root, &mut own)?;
                own
            }
        });
        let home = hosts
            .iter()
            .position(|h| h.serves.push)
            .unwrap_or(hosts.len() - 1);
        Ok(Some(Plan {
            hosts,
            home,
            refused: Vec::new(),
        }))
    })
}

/// The folder of a registry below `folder`.
fn find(folder: &Path, authority: &Authority) -> Option<PathBuf> {
    let name = common_name(authority);
    let mut names = vec![name.to_owned()];
    if let Some(port) = authority.port() {
        // For file systems that know no colon.
        names.insert(0, format!("{}_{port}_", authority.host()));
    }
    names.push("_default".to_owned());
    names
        .into_iter()
        .map(|name| folder.join(name))
        .find(|folder| folder.is_dir())
}

fn host(file: &Path, server: &str, table: Table<'_>, own: &Host, is_mirror: bool) -> Result<Host> {
    let bad = |e: Error| {
        Error::syntax(format!(
            "{}: the host \"{}\" is not usable: {e}",
            file.display(),
            toml_file::without_user(server)
        ))
    };
    let with_scheme = if server.contains("://") {
        server.to_owned()
    } else {
        format!("https://{server}")
    };
    let url = Url::parse(&with_scheme).map_err(bad)?;
    let authority = Authority::parse(&url.authority()).map_err(bad)?;
    let mut host = Host {
        root: root(&url, table.flag("override_path")?).map_err(bad)?,
        source: format!("{}, host {url}", file.display()),
        // Without capabilities a mirror is one to pull from: what is uploaded goes there only if they say so.
        serves: Serves {
            push: !is_mirror,
            ..Serves::ALL
        },
        ..own.clone()
    };
    if authority.endpoint() != own.authority.endpoint() {
        host.authority = authority;
        host.namespace = Some(common_name(&own.authority).to_owned());
    }
    settings(file, table, &mut host)?;
    Ok(host)
}

/// The root of the API: below `/v2`, unless the path is to be taken as it is.
fn root(url: &Url, as_it_is: bool) -> Result<Url> {
    let path = url.path().trim_end_matches('/');
    // Resolved, such a path is another host.
    if path.starts_with("//") {
        return Err(Error::syntax("its path begins with two slashes"));
    }
    let version = if as_it_is || path.ends_with("/v2") {
        ""
    } else {
        "/v2"
    };
    url.resolve(&format!("{path}{version}/"))
}

fn settings(file: &Path, table: Table<'_>, host: &mut Host) -> Result<()> {
    // None at all are all there are by default.
    let names = table.texts("capabilities")?.unwrap_or_default();
    if !names.is_empty() {
        host.serves = Serves::default();
        for name in names {
            match name.to_ascii_lowercase().as_str() {
                "pull" => {
                    host.serves.digests = true;
                    host.serves.blobs = true;
                }
                "resolve" => host.serves.tags = true,
                "push" => host.serves.push = true,
                // Referrers are asked of the host that takes uploads.
                "referrers" => {}
                _ => {
                    return Err(
                        table.wrong("capabilities", "a list of pull, resolve, push, referrers")
                    );
                }
            }
        }
    }
    let ca = table.texts("ca")?.unwrap_or_default();
    let mut clients = Vec::new();
    for group in table.groups("client")? {
        match group.as_slice() {
            [both] => clients.push((table.beside(both), table.beside(both))),
            [cert, ""] => {
                clients.push((table.beside(cert), table.beside(cert)));
            }
            [cert, key] => clients.push((table.beside(cert), table.beside(key))),
            _ => return Err(table.wrong("client", "a certificate, or a pair of one and its key")),
        }
    }
    host.trust = HostTrust {
        ca_files: ca.into_iter().map(|f| table.beside(f)).collect(),
        clients,
        insecure: table.flag("skip_verify")?,
    };
    for (name, values) in table.lists("header")? {
        for value in values {
            let field = HeaderName::from_bytes(name.as_bytes())
                .ok()
                .zip(HeaderValue::from_str(value).ok());
            let Some((name, mut value)) = field else {
                return Err(Error::syntax(format!(
                    "{}: the header \"{}\" is none that HTTP allows",
                    file.display(),
                    name.escape_debug()
                )));
            };
            // It may be a credential.
            value.set_sensitive(true);
            host.headers.push((name, value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{own, tell};
    use super::*;
    use crate::error::ErrorKind;

    fn write(folder: &Path, name: &str, text: &str) {
        let own = folder.join(name);
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("hosts.toml"), text).unwrap();
    }

    fn plan_of(name: &str, text: &str) -> Result<Option<Plan>> {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "r.example", text);
        let shown = folder.path().join("r.example");
        let text = text.replace("FOLDER", shown.to_str().unwrap());
        write(folder.path(), "r.example", &text);
        plan(folder.path().to_str().unwrap(), &own(name))
    }

    #[test]
    fn files() {
        let home = "https://r.example/v2/a/b tdbp";
        for (text, want) in [
            ("", vec![home]),
            ("server = \"https://r.example\"", vec![home]),
            (
                "server = \"https://up.example\"",
                vec!["https://up.example/v2/a/b tdbp ns=r.example"],
            ),
            (
                "[host.\"m.example\"]\n[host.\"http://l.example:5000\"]",
                vec![
                    "https://m.example/v2/a/b tdb ns=r.example",
                    "http://l.example:5000/v2/a/b tdb ns=r.example",
                    home,
                ],
            ),
            // In the order of the file, which is not that of the names.
            (
                "[host.\"https://z.example\"]\n[host.\"https://a.example\"]",
                vec![
                    "https://z.example/v2/a/b tdb ns=r.example",
                    "https://a.example/v2/a/b tdb ns=r.example",
                    home,
                ],
            ),
            (
                "[host.\"https://m.example/v2\"]\n[host.\"https://m.example/p\"]\n[host.\"https://m.example/q\"]\noverride_path = true",
                vec![
                    "https://m.example/v2/a/b tdb ns=r.example",
                    "https://m.example/p/v2/a/b tdb ns=r.example",
                    "https://m.example/q/a/b tdb ns=r.example",
                    home,
                ],
            ),
            (
                "[host.\"https://m.example\"]\ncapabilities = [\"pull\"]\n[host.\"https://n.example\"]\ncapabilities = [\"resolve\", \"referrers\"]",
                vec![
                    "https://m.example/v2/a/b db ns=r.example",
                    "https://n.example/v2/a/b t ns=r.example",
                    home,
                ],
            ),
            (
                "server = \"\"\n[host.\"https://m.example\"]\ncapabilities = [\"Pull\"]\n[host.\"https://n.example\"]\ncapabilities = []",
                vec![
                    "https://m.example/v2/a/b db ns=r.example",
                    "https://n.example/v2/a/b tdb ns=r.example",
                    home,
                ],
            ),
            (
                "capabilities = [\"pull\", \"resolve\"]\n[host.\"https://m.example\"]\ncapabilities = [\"push\"]",
                vec![
                    "https://m.example/v2/a/b p ns=r.example home",
                    "https://r.example/v2/a/b tdb",
                ],
            ),
            (
                "ca = \"ca.crt\"\nskip_verify = true\n[host.\"https://m.example\"]\nca = [\"/x/ca.crt\", \"y.crt\"]\nclient = [[\"c.cert\", \"c.key\"], [\"both.pem\", \"\"], \"one.pem\"]",
                vec![
                    "https://m.example/v2/a/b tdb ns=r.example ca=/x/ca.crt ca=FOLDER/y.crt client=FOLDER/c.cert,FOLDER/c.key client=FOLDER/both.pem,FOLDER/both.pem client=FOLDER/one.pem,FOLDER/one.pem",
                    "https://r.example/v2/a/b tdbp ca=FOLDER/ca.crt insecure",
                ],
            ),
            (
                "[host.\"https://m.example\"]\nclient = \"one.pem\"\n[host.\"https://m.example\".header]\nx-one = \"1\"\nx-two = [\"2\", \"3\"]",
                vec![
                    "https://m.example/v2/a/b tdb ns=r.example client=FOLDER/one.pem,FOLDER/one.pem x-one=1 x-two=2 x-two=3",
                    home,
                ],
            ),
        ] {
            let plan = plan_of("r.example/a/b", text).unwrap().unwrap();
            let folder = plan.hosts[0].source.clone();
            let folder = folder.split("/hosts.toml").next().unwrap_or_default();
            let got: Vec<_> = tell(&plan)
                .into_iter()
                .map(|line| line.replace(folder, "FOLDER"))
                .collect();
            assert_eq!(got, want, "{text}");
        }
        assert!(plan_of("other.example/a", "").unwrap().is_none());
        let bare = plan_of("r.example", "[host.\"m.example\"]")
            .unwrap()
            .unwrap();
        assert_eq!(bare.hosts.len(), 2);
        assert!(bare.hosts[0].repository.is_none());
    }

    #[test]
    fn malformed_files() {
        for (text, words) in [
            ("x", "hosts.toml:1:"),
            ("\n\nserver = \"a\"\nserver = \"b\"", "hosts.toml:4:"),
            ("server = 1", "\"server\" is not a string"),
            ("host = 1", "\"host\" is not a table"),
            ("[host]\nx = 1", "\"host\" is not a table of tables"),
            ("[host.\"ftp://x\"]", "\"ftp://x\" is not usable"),
            ("[host.\"https://u:p@x\"]", "is not usable"),
            (
                "[host.\"x\"]\ncapabilities = [\"fly\"]",
                "\"capabilities\" of x",
            ),
            ("[host.\"x\"]\ncapabilities = 7", "\"capabilities\" of x"),
            (
                "[host.\"x\"]\nskip_verify = \"yes\"",
                "\"skip_verify\" of x is not true or false",
            ),
            (
                "[host.\"x\"]\noverride_path = 1",
                "\"override_path\" of x is not true or false",
            ),
            ("[host.\"x\"]\nca = {}", "\"ca\" of x"),
            (
                "[host.\"x\"]\nclient = [[\"a\", \"b\", \"c\"]]",
                "\"client\" of x",
            ),
            ("[host.\"x\"]\nclient = [[1]]", "\"client\" of x"),
            ("[host.\"x\"]\nheader = 1", "\"header\" of x is not a table"),
            ("[host.\"x\".header]\n\"a b\" = \"c\"", "\"a b\""),
            ("[host.\"x\".header]\na = \"secret\\n\"", "\"a\""),
            ("server = \"https://x//y.example\"", "two slashes"),
        ] {
            let error = plan_of("r.example/a", text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Syntax, "{text}: {error}");
            assert!(error.message().contains(words), "{text}: {error}");
            assert!(error.message().contains("r.example/hosts.toml"), "{error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }

    #[test]
    fn folders() {
        let base = tempfile::tempdir().unwrap();
        let (one, two) = (base.path().join("one"), base.path().join("two"));
        let mirror = |name: &str| format!("[host.\"{name}.example\"]");
        for name in ["docker.io", "h.example", "h.example_5000_", "_default"] {
            write(
                &one,
                name,
                &mirror(name.trim_matches('_').split(['.', '_']).next().unwrap()),
            );
        }
        write(&one, "h.example:5001", &mirror("colon"));
        write(&two, "only.example", &mirror("two"));
        write(&two, "h.example", &mirror("two"));
        let certificates = two.join("old.example");
        std::fs::create_dir(&certificates).unwrap();
        std::fs::write(certificates.join("ca.crt"), "").unwrap();
        let both = format!("{}:{}:/nowhere", one.display(), two.display());
        let two = two.to_str().unwrap();
        for (folders, name, want) in [
            (
                both.as_str(),
                "docker.io/a",
                "https://docker.example/v2/library/a tdb ns=docker.io",
            ),
            (
                &both,
                "a/b",
                "https://docker.example/v2/a/b tdb ns=docker.io",
            ),
            (&both, "h.example/a", "https://h.example/v2/a tdb"),
            (
                &both,
                "h.example:5000/a",
                "https://h.example/v2/a tdb ns=h.example:5000",
            ),
            (
                &both,
                "h.example:5001/a",
                "https://colon.example/v2/a tdb ns=h.example:5001",
            ),
            (
                &both,
                "other.example/a",
                "https://default.example/v2/a tdb ns=other.example",
            ),
            (
                two,
                "only.example/a",
                "https://two.example/v2/a tdb ns=only.example",
            ),
            (
                two,
                "old.example/a",
                &format!(
                    "https://old.example/v2/a tdbp ca={}/old.example/ca.crt",
                    two
                ),
            ),
        ] {
            let plan = plan(folders, &own(name)).unwrap().unwrap();
            assert_eq!(tell(&plan)[0], want, "{name}");
        }
        assert!(plan(two, &own("docker.io/a")).unwrap().is_none());
    }
}

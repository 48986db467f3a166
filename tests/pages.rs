//! Listings over the wire: every page, in order, or an error; where more may be meant, the log says so.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use registry_transport::creds::Creds;
use registry_transport::error::{Error, ErrorKind};
use registry_transport::pages::{Names, Pages};
use registry_transport::referrers::Referrers;
use registry_transport::request::Request;
use registry_transport::source::Source;
use registry_transport::transport::{Actions, Transport};
use serde_json::json;
use support::client::{keep_log, options, transport, with};
use support::registry::{Registry, Settings};
use support::server::{Answer, Request as Got, Server};

fn rest(mut names: Names) -> Result<Vec<String>, Error> {
    let mut out = Vec::new();
    while let Some(name) = names.next_name(None)? {
        out.push(name);
    }
    assert_eq!(names.next_name(None)?, None, "the end stays the end");
    Ok(out)
}

fn tags(server: &Server, numbers: &[(&str, i64)]) -> Result<Vec<String>, Error> {
    rest(Names::tags(&transport(server, &with(numbers))))
}

fn targets(server: &Server) -> Vec<String> {
    server.requests().into_iter().map(|r| r.target).collect()
}

fn tag_list(names: &str) -> String {
    format!(r#"{{"name":"a/b","tags":[{names}]}}"#)
}

/// A first page with `links`, and a second page without for whatever they lead to.
fn two_pages(links: Vec<Vec<u8>>) -> Server {
    Server::start(move |r| match r.target.as_str() {
        "/v2/a/b/tags/list" => links
            .iter()
            .fold(Answer::ok(tag_list("\"one\"")), |a, l| a.header("Link", l)),
        _ => Answer::ok(tag_list("\"two\"")),
    })
}

/// Where the second page is asked for.
#[test]
fn links() {
    for (links, want) in [
        (vec![], None),
        (vec![""], None),
        (
            vec!["</v2/a/b/tags/list?last=one&n=1>; rel=\"next\""],
            Some("/v2/a/b/tags/list?last=one&n=1"),
        ),
        (vec!["</v2/x>;rel=next"], Some("/v2/x")),
        (vec!["</v2/x> ; REL = \"NEXT\""], Some("/v2/x")),
        (vec!["</v2/x>; rel=\"prev next\""], Some("/v2/x")),
        (
            vec!["</v2/x>; title=\"a, b; c > d\"; rel=\"next\""],
            Some("/v2/x"),
        ),
        (
            vec!["</v2/p>; rel=\"prev\", </v2/x>; rel=\"next\""],
            Some("/v2/x"),
        ),
        (
            vec!["</v2/p>; rel=\"prev\"", "</v2/x>; rel=\"next\""],
            Some("/v2/x"),
        ),
        (
            vec!["</v2/x>; rel=\"next\", </v2/y>; rel=\"next\""],
            Some("/v2/x"),
        ),
        (vec!["</v2/x>; rel=\"prev\"; rel=\"next\""], None),
        (vec!["</v2/x>; rel=\"http://example.com/next\""], None),
        (vec!["</v2/x>; rel=\"last\""], None),
        (
            vec!["</v2/x>; anchor=\"/v2/a/b/tags/list#names\"; rel=next"],
            Some("/v2/x"),
        ),
        (vec!["</v2/x>; anchor=\"/v2/\"; rel=next"], None),
        (
            vec!["<?last=one>; rel=next"],
            Some("/v2/a/b/tags/list?last=one"),
        ),
        (
            vec!["<list?last=one>; rel=next"],
            Some("/v2/a/b/tags/list?last=one"),
        ),
        (vec!["<../x?a,b;c>; rel=next"], Some("/v2/a/b/x?a,b;c")),
        (
            vec!["</v2/x?a=%2f&b=%20#frag>; rel=next"],
            Some("/v2/x?a=%2f&b=%20"),
        ),
        (vec!["</v2/é>; rel=next"], Some("/v2/%C3%A9")),
    ] {
        let server = two_pages(links.iter().map(|l| l.as_bytes().to_vec()).collect());
        let got = tags(&server, &[]).unwrap_or_else(|e| panic!("{links:?}: {e}"));
        match want {
            None => assert_eq!((got.len(), server.count()), (1, 1), "{links:?}"),
            Some(want) => {
                assert_eq!(got, ["one", "two"], "{links:?}");
                assert_eq!(targets(&server), ["/v2/a/b/tags/list", want], "{links:?}");
            }
        }
    }
    // An absolute link to the same origin, in another spelling of it.
    let server = Server::start(|r| match r.query.as_str() {
        "" => Answer::ok(tag_list("\"one\"")).header(
            "Link",
            format!(
                "<HTTP://{}/v2/a/b/tags/list?n=2>; rel=next",
                r.header("host").unwrap_or_default()
            ),
        ),
        _ => Answer::ok(tag_list("\"two\"")),
    });
    assert_eq!(tags(&server, &[]).unwrap(), ["one", "two"]);
    // After a redirect the link is relative to where the page came from.
    let server = Server::start(|r| match r.target.as_str() {
        "/v2/a/b/tags/list" => Answer::redirect(307, "/moved/here/list"),
        "/moved/here/list" => {
            Answer::ok(tag_list("\"one\"")).header("Link", "<list?n=2>; rel=next")
        }
        _ => Answer::ok(tag_list("\"two\"")),
    });
    assert_eq!(tags(&server, &[]).unwrap(), ["one", "two"]);
    assert_eq!(targets(&server)[2], "/moved/here/list?n=2");
}

/// What is not the relation `next` is not followed, but said.
#[test]
fn a_relation_in_single_quotes() {
    for (link, is_told) in [
        ("</v2/x>; rel='next'", true),
        ("</v2/x>; rel='prev'", false),
    ] {
        let server = two_pages(vec![link.as_bytes().to_vec()]);
        let mut options = options();
        let log = keep_log(&mut options);
        let names = rest(Names::tags(&transport(&server, &options))).unwrap();
        assert_eq!((names, server.count()), (vec!["one".to_owned()], 1));
        let lines = log.lock().unwrap();
        let told = lines.iter().any(|l| {
            l.starts_with("Warn: ") && l.contains("/v2/a/b/tags/list links to rel='next'")
        });
        assert_eq!(told, is_told, "{lines:?}");
    }
}

/// Links that are not followed are an error: what came so far is not the list.
#[test]
fn refused_links() {
    let other = Server::start(|_| Answer::ok(tag_list("\"evil\"")));
    let elsewhere = format!("<{}>; rel=next", other.url("/v2/a/b/tags/list?n=2"));
    let relative = format!("<//{}/v2/x>; rel=next", other.authority());
    for link in [
        elsewhere.as_bytes(),
        relative.as_bytes(),
        b"<http://localhost/v2/x>; rel=next",
        b"<http://user@127.0.0.1/x>; rel=next",
        b"<file:///etc/passwd>; rel=next",
        b"<javascript:alert(1)>; rel=next",
        b"</v2/a/b/tags/list>; rel=next",
        b"<>; rel=next",
        b"<#top>; rel=next",
        b"</v2/x; rel=next",
        b"/v2/x>; rel=\"next\"",
        b"</v2/x>; rel=\"next",
        b"</v2/x\x01>; rel=next",
        b"<http://[::1/x>; rel=next",
    ] {
        let server = two_pages(vec![link.to_vec()]);
        let creds = Creds::basic("user", "pass").unwrap();
        let name = format!("{}/a/b", server.authority());
        let transport =
            Transport::new(&name, Actions::pull(), Some(&creds), Some(&options())).unwrap();
        let mut names = Names::tags(&transport);
        let mut seen = 0;
        let error = loop {
            match names.next_name(None) {
                Ok(Some(_)) => seen += 1,
                Ok(None) => panic!("{:?}: a short list", String::from_utf8_lossy(link)),
                Err(e) => break e,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(seen <= 1 && server.count() == 1, "{error}");
        assert!(
            names.next_name(None).is_err(),
            "it does not become an end: {error}"
        );
    }
    assert_eq!(other.count(), 0, "nothing went to another host");
}

/// Lists without an end.
#[test]
fn endless_lists() {
    // Two pages that lead to each other.
    let server = Server::start(|r| match r.query.as_str() {
        "p=2" => Answer::ok(tag_list("\"b\"")).header("Link", "<?p=1>; rel=next"),
        _ => Answer::ok(tag_list("\"a\"")).header("Link", "<?p=2>; rel=next"),
    });
    let error = tags(&server, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(server.count() <= 3, "{}", server.count());
    let counting = |body: &'static str| {
        let page = AtomicUsize::new(0);
        Server::start(move |_| {
            let n = page.fetch_add(1, Ordering::SeqCst);
            Answer::ok(body).header("Link", format!("<?page={n}>; rel=next"))
        })
    };
    let server = counting(r#"{"tags":["again"]}"#);
    let error = tags(&server, &[("max-pages", 7)]).unwrap_err();
    assert_eq!((error.kind(), server.count()), (ErrorKind::Limit, 7));
    assert!(error.message().contains("max-pages"), "{error}");
    // Pages without anything on them come to an end sooner.
    let server = counting("{}");
    assert_eq!(tags(&server, &[]).unwrap_err().kind(), ErrorKind::Protocol);
    assert!(server.count() <= 101, "{}", server.count());
    // Just as many pages as are allowed are fine.
    let server = two_pages(vec![b"<?n=2>; rel=next".to_vec()]);
    assert_eq!(tags(&server, &[("max-pages", 2)]).unwrap().len(), 2);
    assert_eq!(
        tags(&server, &[("max-pages", 1)]).unwrap_err().kind(),
        ErrorKind::Limit
    );
}

/// What registries send in place of a list of names.
#[test]
fn bodies_of_pages() {
    for (first, second, want) in [
        (
            r#"{"tags":["a"]}"#,
            r#"{"tags":["b","c"]}"#,
            Some(vec!["a", "b", "c"]),
        ),
        (r#"{"tags":null}"#, r#"{"tags":["b"]}"#, Some(vec!["b"])),
        (r#"{"name":"x"}"#, r#"{"tags":["b"]}"#, Some(vec!["b"])),
        (r#"{"tags":[]}"#, r#"{"tags":["b"]}"#, Some(vec!["b"])),
        (r#"{"tags":["a"]}"#, r#"{"tags":null}"#, Some(vec!["a"])),
        (
            r#"{"tags":["a",1,null,{"x":[]},"b"]}"#,
            "{}",
            Some(vec!["a", "b"]),
        ),
        (r#"{"tags":["a","a"]}"#, "{}", Some(vec!["a", "a"])),
        (r#"{"tags":"a"}"#, "{}", None),
        (r#"{"tags":{"a":1}}"#, "{}", None),
        ("[]", "{}", None),
        ("", "{}", None),
        ("null", "{}", None),
        ("<html>log in</html>", "{}", None),
        (r#"{"tags":["a"]} trailing"#, "{}", None),
    ] {
        let server = Server::start(move |r| match r.query.as_str() {
            "" => Answer::ok(first).header("Link", "<?n=2>; rel=next"),
            _ => Answer::ok(second),
        });
        let got = tags(&server, &[]);
        match want {
            Some(want) => {
                assert_eq!(got.unwrap(), want, "{first} {second}");
                assert_eq!(server.count(), 2);
            }
            None => {
                let error = got.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "{first}");
                assert!(!error.message().contains("log in"), "{error}");
            }
        }
    }
    let deep = format!(r#"{{"tags":{}"#, "[".repeat(100_000));
    let server = Server::start(move |_| Answer::ok(deep.clone()));
    assert_eq!(tags(&server, &[]).unwrap_err().kind(), ErrorKind::Protocol);
    let server = Server::start(|_| Answer::ok(tag_list(&"\"a\",".repeat(1000))));
    let error = tags(&server, &[("max-body-bytes", 1000)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}

/// Each page is asked for like the first.
#[test]
fn every_page_is_a_request_of_its_own() {
    let server = Server::start(|r| {
        if r.header("authorization") != Some("Basic dXNlcjpwYXNz") {
            return Answer::challenge("Basic realm=\"x\"");
        }
        let answer = Answer::new(if r.query == "n=3" { 404 } else { 200 })
            .header("Content-Type", "x/list")
            .body(r.query.clone());
        match r.query.as_str() {
            "" => answer.header("Link", "<?n=2>; rel=next"),
            "n=2" => answer.header("Link", "<?n=3>; rel=next"),
            _ => answer,
        }
    });
    let creds = Creds::basic("user", "pass").unwrap();
    let name = format!("{}/a/b", server.authority());
    let transport1 =
        Transport::new(&name, Actions::pull(), Some(&creds), Some(&options())).unwrap();
    let mut request = Request::new(None, "./tags/list");
    request
        .accept_type("x/list")
        .accept_status(200)
        .accept_status(404)
        .header("X-Trace", "t");
    let mut pages = Pages::new(&transport1, &request);
    let mut bodies = Vec::new();
    while let Some(mut page) = pages.next_page(None).unwrap() {
        bodies.push(String::from_utf8(page.take_body().unwrap()).unwrap());
    }
    assert_eq!(bodies, ["", "n=2", "n=3"]);
    assert!(pages.next_page(None).unwrap().is_none());
    let seen = server.requests();
    assert_eq!(seen.len(), 4, "one challenge: {:?}", server.lines());
    let same = |r: &Got| {
        r.method == "GET"
            && r.header("accept") == Some("x/list")
            && r.header("x-trace") == Some("t")
    };
    assert!(seen.iter().all(same));
    // A page of another type, and methods that do not list.
    let mut other = Request::new(None, "./tags/list");
    other.accept_type("y/list");
    let error = Pages::new(&transport1, &other).next_page(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MediaType);
    let before = server.count();
    for method in ["POST", "DELETE", "HEAD"] {
        let error = Pages::new(&transport1, &Request::new(Some(method), "./tags/list"))
            .next_page(None)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument, "{method}");
    }
    let mut with_body = Request::new(None, "./tags/list");
    with_body.body(Source::bytes("x"));
    assert!(
        Pages::new(&transport1, &with_body).next_page(None).is_err(),
        "a body makes it a PUT"
    );
    assert_eq!(server.count(), before);
}

/// A page that failed can be asked for again; the list goes on where it was.
#[test]
fn a_failed_page_can_be_asked_for_again() {
    let tries = AtomicUsize::new(0);
    let server = Server::start(move |r| match r.query.as_str() {
        "" => Answer::ok(tag_list("\"one\"")).header("Link", "<?n=2>; rel=next"),
        _ if tries.fetch_add(1, Ordering::SeqCst) == 0 => Answer::new(503),
        _ => Answer::ok(tag_list("\"two\"")),
    });
    let mut names = Names::tags(&transport(&server, &with(&[("retries", 0)])));
    assert_eq!(names.next_name(None).unwrap().as_deref(), Some("one"));
    assert_eq!(names.next_name(None).unwrap_err().http_status(), Some(503));
    assert_eq!(names.next_name(None).unwrap().as_deref(), Some("two"));
    assert_eq!(names.next_name(None).unwrap(), None);
    assert_eq!(server.count(), 3);
}

/// A page that is cut, or that is no page, is not passed over: it is asked for again, at once or by the next call.
#[test]
fn no_page_is_passed_over() {
    for broken in [
        || Answer::ok(tag_list("\"two\"")).cut_after(10),
        || Answer::ok("<html>"),
    ] {
        for (retries, fails) in [(0, true), (2, false)] {
            let tries = AtomicUsize::new(0);
            let server = Server::start(move |r| match r.query.as_str() {
                "" => Answer::ok(tag_list("\"one\"")).header("Link", "<?n=2>; rel=next"),
                "n=2" if tries.fetch_add(1, Ordering::SeqCst) == 0 => {
                    broken().header("Link", "<?n=3>; rel=next")
                }
                "n=2" => Answer::ok(tag_list("\"two\"")).header("Link", "<?n=3>; rel=next"),
                _ => Answer::ok(tag_list("\"three\"")),
            });
            let mut names = Names::tags(&transport(&server, &with(&[("retries", retries)])));
            assert_eq!(names.next_name(None).unwrap().as_deref(), Some("one"));
            let second = names.next_name(None);
            match second {
                Ok(name) => assert!(!fails && name.as_deref() == Some("two"), "{name:?}"),
                Err(e) => {
                    let is_cut = e.kind() == ErrorKind::Network;
                    assert!(fails || !is_cut, "{e}");
                    assert_eq!(names.next_name(None).unwrap().as_deref(), Some("two"));
                }
            }
            assert_eq!(rest(names).unwrap(), ["three"]);
        }
    }
}

/// Referrers that could not be asked for are no empty list: neither now nor when the list is asked again.
#[test]
fn failed_referrers_are_not_an_empty_list() {
    for how in [404, 303, 200] {
        let tries = AtomicUsize::new(0);
        let subject = format!("sha256:{}", "ab".repeat(32));
        let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"digest":"x"}]}"#;
        let server = Server::start(move |r| {
            if r.path.contains("/referrers/") {
                match how {
                    303 => Answer::redirect(303, "/login"),
                    200 => Answer::ok("fine"),
                    _ => Answer::new(404),
                }
            } else if tries.fetch_add(1, Ordering::SeqCst) == 0 {
                Answer::new(503)
            } else {
                Answer::ok(index).header("Content-Type", "application/vnd.oci.image.index.v1+json")
            }
        });
        let transport = transport(&server, &with(&[("retries", 0)]));
        let mut list = Referrers::new(&transport, &subject, None).unwrap();
        assert_eq!(
            list.next_referrer(None).unwrap_err().http_status(),
            Some(503)
        );
        assert_eq!(
            list.next_referrer(None).unwrap().as_deref(),
            Some(r#"{"digest":"x"}"#)
        );
        assert_eq!(list.next_referrer(None).unwrap(), None);
    }
}

/// Only an answer that says it is an index is one of the referrers API; else the tag is asked.
#[test]
fn referrers_of_a_registry_that_answers_everything() {
    let subject = format!("sha256:{}", "ab".repeat(32));
    let tag = format!("sha256-{}", "ab".repeat(32));
    let index =
        |name: &str| json!({"schemaVersion": 2, "manifests": [{"digest": name}]}).to_string();
    for (kind, want) in [
        (Some("application/vnd.oci.image.index.v1+json"), "api"),
        (Some("application/json"), "tag"),
        (None, "tag"),
    ] {
        let tag = tag.clone();
        let server = Server::start(move |r| {
            if r.path.ends_with(&tag) {
                return Answer::ok(index("tag"))
                    .header("Content-Type", "application/vnd.oci.image.index.v1+json");
            }
            let answer = Answer::ok(index("api"));
            match kind {
                Some(kind) => answer.header("Content-Type", kind),
                None => answer,
            }
        });
        let transport = transport(&server, &options());
        let mut list = Referrers::new(&transport, &subject, None).unwrap();
        assert_eq!(
            list.next_referrer(None).unwrap(),
            Some(json!({"digest": want}).to_string()),
            "{kind:?}"
        );
        assert_eq!(list.next_referrer(None).unwrap(), None, "{kind:?}");
    }
}

/// `page-size`, and a whole registry: tags and repositories page by page.
#[test]
fn a_registry() {
    let registry = Registry::new(Settings {
        page_limit: 3,
        ..Settings::default()
    });
    let image = registry.seed("a/b", "t00", 1);
    for n in 1..10 {
        registry.set_tag("a/b", &format!("t{n:02}"), &image.manifest.digest);
        registry.seed(&format!("repo{n}"), "latest", 0);
    }
    let server = registry.start(None);
    let want: Vec<_> = (0..10).map(|n| format!("t{n:02}")).collect();
    for (size, first, requests) in [(0, "/v2/a/b/tags/list", 4), (2, "/v2/a/b/tags/list?n=2", 5)] {
        server.clear();
        assert_eq!(tags(&server, &[("page-size", size)]).unwrap(), want);
        assert_eq!(targets(&server)[0], first);
        assert_eq!(server.count(), requests, "{:?}", server.lines());
    }
    for (size, first) in [(0, "/v2/_catalog"), (2, "/v2/_catalog?n=2")] {
        server.clear();
        let options = with(&[("page-size", size)]);
        let transport = Transport::new(
            &server.authority(),
            Actions::catalog(),
            None,
            Some(&options),
        )
        .unwrap();
        let all = rest(Names::repositories(&transport)).unwrap();
        assert_eq!(
            (all.len(), all[0].as_str(), all[9].as_str()),
            (10, "a/b", "repo9")
        );
        assert_eq!(targets(&server)[0], first);
        assert!(server.count() >= 4);
        // Tags of no repository.
        let error = rest(Names::tags(&transport)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Syntax);
    }
    let error = rest(Names::tags(
        &Transport::new(
            &format!("{}/no/such", server.authority()),
            Actions::pull(),
            None,
            Some(&options()),
        )
        .unwrap(),
    ))
    .unwrap_err();
    assert_eq!(error.http_status(), Some(404));
    assert_eq!(error.diagnostics()[0].code.as_deref(), Some("NAME_UNKNOWN"));
}

/// What a listing asks for one name or referrer is one call, with one limit, however many requests it takes.
#[test]
fn one_limit_for_all_that_a_step_asks() {
    let pause = Duration::from_millis(200);
    let server = Server::start(move |request| {
        let answer = match request.path.as_str() {
            "/v2/a/b/tags/list" => Answer::json(200, &json!({"tags": []}))
                .header("Link", "</v2/a/b/tags/more>; rel=\"next\""),
            "/v2/a/b/tags/more" => Answer::json(200, &json!({"tags": ["v1"]})),
            _ => Answer::error(404, "NOT_FOUND", "no such page"),
        };
        answer.after_pause(pause)
    });
    let transport = transport(&server, &with(&[("timeout-ms", 300)]));
    let error = Names::tags(&transport).next_name(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let digest = support::registry::sha256(b"subject");
    let error = Referrers::new(&transport, &digest, None)
        .unwrap()
        .next_referrer(None)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

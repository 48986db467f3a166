//! What is sent to whom: challenges, tokens, credentials, redirects, and secrets that must not be seen.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use registry_transport::creds::Creds;
use registry_transport::error::{Error, ErrorKind};
use registry_transport::log::Level;
use registry_transport::options::Options;
use registry_transport::pages::Names;
use registry_transport::request::Request;
use registry_transport::source::{ReadBytes, Source};
use registry_transport::transport::{Actions, Transport};
use support::server::{Answer, Gate, Request as Got, Server, script};
use support::token::{TokenServer, Verdict};

const BASIC: &str = "Basic dXNlcjpwYXNz";

fn options() -> Options {
    let mut options = Options::new();
    options.set_number("share-tokens", 0).unwrap();
    options.set_number("retry-delay-ms", 1).unwrap();
    options.set_text("proxy", "").unwrap();
    options
}

fn user() -> Creds {
    Creds::basic("user", "pass").unwrap()
}

fn transport(server: &Server, creds: Option<&Creds>, options: &Options) -> Transport {
    Transport::new(
        &format!("{}/a/b", server.authority()),
        Actions::pull(),
        creds,
        Some(options),
    )
    .unwrap()
}

fn get(transport: &Transport) -> Result<Vec<u8>, Error> {
    transport
        .request(&Request::new(None, "./x"), None)?
        .take_body()
}

fn authorization(request: &Got) -> String {
    request.header("authorization").unwrap_or("-").to_owned()
}

/// What a server saw: `METHOD path Authorization`.
fn seen(server: &Server) -> Vec<String> {
    server
        .requests()
        .iter()
        .map(|r| format!("{} {} {}", r.method, r.path, authorization(r)))
        .collect()
}

/// A registry that wants a token of `/token` on itself, whose answers come from a list.
fn bearer(tokens: Vec<Answer>, good: &'static str) -> Server {
    let tokens = script(tokens);
    Server::start(move |r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => tokens(r),
        (_, Some(token)) if token == good => Answer::ok("fine"),
        _ => Answer::challenge(
            r#"Bearer realm="/token", service="s,\"1\"", scope="repository:a/b:pull""#,
        ),
    })
}

fn token(text: &str) -> Answer {
    Answer::ok(format!(r#"{{"token":"{text}"}}"#))
}

/// Repositories of one registry may have token services of their own, or need no token at all: what one was told is
/// a guess for another, which the registry itself settles.
#[test]
fn a_token_service_for_each_repository() {
    let server = Server::start(|r| {
        let scope = r.query.clone();
        match (r.path.as_str(), r.bearer()) {
            ("/one/token", _) if scope.contains("one") => token("of-one"),
            ("/two/token", _) if scope.contains("two") => token("of-two"),
            ("/one/token" | "/two/token", _) => Answer::error(403, "DENIED", "not here"),
            ("/v2/public/x", None) => Answer::ok("fine"),
            ("/v2/one/x", Some("of-one")) | ("/v2/two/x", Some("of-two")) => Answer::ok("fine"),
            ("/v2/one/x", _) => Answer::challenge(r#"Bearer realm="/one/token""#),
            ("/v2/two/x", _) => Answer::challenge(r#"Bearer realm="/two/token""#),
            ("/v2/denied/x", _) => Answer::challenge(r#"Bearer realm="/two/token""#),
            _ => Answer::new(401),
        }
    });
    let mut options = options();
    options.set_number("share-tokens", 1).unwrap();
    let at = |repository: &str| {
        let name = format!("{}/{repository}", server.authority());
        Transport::new(&name, Actions::pull(), Some(&user()), Some(&options)).unwrap()
    };
    let [one, two, public, denied] = ["one", "two", "public", "denied"].map(at);
    for transport in [&one, &two, &public] {
        assert_eq!(get(transport).unwrap(), b"fine");
    }
    // What is only a guess is told as such a registry would be asked.
    let told = at("two").explain(None).unwrap();
    assert!(told.json().contains("/token"), "{}", told.json());
    // A service that said no is not asked the same twice in a call.
    let before = seen(&server).len();
    let e = get(&denied).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Auth, "{e}");
    assert_eq!(
        seen(&server).split_off(before),
        [
            format!("GET /two/token {BASIC}"),
            "GET /v2/denied/x -".to_owned()
        ]
    );
    // Each keeps to what it was told.
    let before = seen(&server).len();
    for transport in [&one, &two, &one, &two] {
        assert_eq!(get(transport).unwrap(), b"fine");
    }
    assert_eq!(seen(&server).len(), before + 4);
    // What was sent for nothing is sent again; and a guess that misled is not made again.
    let (one, public) = (at("one"), at("public"));
    let mut put = Request::new(Some("PUT"), "./x");
    put.body(Source::bytes(b"body"));
    let before = seen(&server).len();
    for transport in [&one, &public, &public] {
        let mut answer = transport.request(&put, None).unwrap();
        assert_eq!(answer.take_body().unwrap(), b"fine");
    }
    let tokens = seen(&server).split_off(before);
    let tokens = tokens.iter().filter(|line| line.contains("/token"));
    assert_eq!(tokens.count(), 2, "one for each that guessed");
}

/// A token service that is no more: the registry names the new one, in the same call. What one that is there says of
/// the credentials stands.
#[test]
fn a_token_service_that_moved() {
    for status in [404, 403] {
        let moved = Arc::new(AtomicU32::new(0));
        let now = Arc::clone(&moved);
        let server = Server::start(move |r| {
            let has_moved = now.load(Ordering::SeqCst) > 0;
            match (r.path.as_str(), r.bearer()) {
                ("/old", _) if has_moved => Answer::error(status, "DENIED", "locked"),
                ("/old", _) => Answer::ok(r#"{"token":"old","expires_in":0.00001}"#),
                ("/new", _) => token("new"),
                (_, Some("new")) => Answer::ok("fine"),
                (_, Some("old")) if !has_moved => Answer::ok("fine"),
                _ if has_moved => Answer::challenge(r#"Bearer realm="/new""#),
                _ => Answer::challenge(r#"Bearer realm="/old""#),
            }
        });
        let transport = transport(&server, Some(&user()), &options());
        assert_eq!(get(&transport).unwrap(), b"fine");
        moved.store(1, Ordering::SeqCst);
        server.clear();
        let got = get(&transport);
        let requests = server.requests();
        let paths: Vec<&str> = requests.iter().map(|r| r.path.as_str()).collect();
        if status == 404 {
            assert_eq!(got.unwrap(), b"fine");
            assert_eq!(paths, ["/old", "/v2/a/b/x", "/new", "/v2/a/b/x"]);
        } else {
            let e = got.unwrap_err();
            assert!(
                e.kind() == ErrorKind::Auth && e.message().contains("locked"),
                "{e}"
            );
            assert_eq!(paths, ["/old"]);
        }
    }
}

/// What a challenge says is all there is to tell of an answer to HEAD.
#[test]
fn what_the_challenge_says() {
    let server = Server::start(|r| match r.bearer() {
        _ if r.path == "/token" => token("narrow"),
        Some(_) => Answer::challenge(
            r#"Bearer realm="/token",error="access_denied",error_description="ask the owner of a/b""#,
        ),
        None => Answer::challenge(r#"Bearer realm="/token""#),
    });
    let transport = transport(&server, Some(&user()), &options());
    let e = transport.manifest_head("v1", None).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Auth);
    let said = "do not suffice (access_denied: ask the owner of a/b)";
    assert!(e.message().ends_with(said), "{e}");
}

/// The key of a service account is a password of several lines, also where it goes by POST.
#[test]
fn passwords_of_lines() {
    const KEY: &str = "{\n\t\"private_key\": \"-----BEGIN\\n\"\r\n}\n";
    let creds = Creds::basic("_json_key", KEY).unwrap();
    let server = Server::start(|r| {
        let by_form = r
            .form()
            .into_iter()
            .any(|(name, value)| name == "password" && value == KEY);
        let is_known = by_form
            || r.basic()
                .is_some_and(|pair| pair == ("_json_key".into(), KEY.into()));
        match (r.path.as_str(), r.bearer()) {
            ("/token", _) if is_known => token("good"),
            ("/token", _) => Answer::new(401),
            (_, Some("good")) => Answer::ok("fine"),
            _ => Answer::challenge(r#"Bearer realm="/token""#),
        }
    });
    for posts in [0, 1] {
        let mut options = options();
        options.set_number("oauth2-password", posts).unwrap();
        assert_eq!(
            get(&transport(&server, Some(&creds), &options)).unwrap(),
            b"fine"
        );
    }
    let basic = Server::start(|r| match r.basic() {
        Some(pair) if pair == ("_json_key".into(), KEY.into()) => Answer::ok("fine"),
        _ => Answer::challenge("Basic realm=\"r\""),
    });
    let got = get(&transport(&basic, Some(&creds), &options()));
    assert_eq!(got.unwrap(), b"fine");
}

/// What a challenge leads to.
#[test]
fn challenges() {
    for (fields, want) in [
        (vec![r#"bEaReR REALM="/token" , SeRvIcE = s"#], "token"),
        (vec!["Negotiate dG9rZW4=, Basic realm=\"x\""], "basic"),
        (
            vec![", ,Basic realm=\"x\",,Bearer realm=\"/token\""],
            "token",
        ),
        (
            vec!["Basic realm=\"x\"", "Bearer realm=\"/token\",service=\"s\""],
            "token",
        ),
        (vec!["Basic"], "basic"),
        (vec!["Negotiate"], "none"),
        (vec!["Bearer service=\"s\""], "none"),
        (
            vec!["Bearer realm=\"/token\",realm=\"http://127.0.0.1:1/evil\""],
            "none",
        ),
        (
            vec!["Bearer realm=\"unterminated", "Basic realm=\"x\""],
            "basic",
        ),
        (vec!["Bearer realm=\"file:///etc/passwd\""], "none"),
        (
            vec!["Bearer realm=\"http://user:pw@127.0.0.1/token\""],
            "none",
        ),
        (vec![], "none"),
    ] {
        let own = fields.clone();
        let server = Server::start(
            move |r| match (r.path.as_str(), r.header("authorization")) {
                ("/token", _) => token("T"),
                (_, Some("Bearer T" | BASIC)) => Answer::ok("fine"),
                _ => own
                    .iter()
                    .fold(Answer::new(401), |a, f| a.header("WWW-Authenticate", f)),
            },
        );
        let result = get(&transport(&server, Some(&user()), &options()));
        let seen = seen(&server);
        match want {
            "token" => {
                assert_eq!(result.unwrap(), b"fine", "{fields:?}");
                assert_eq!(
                    seen[1..],
                    [
                        format!("GET /token {BASIC}"),
                        "GET /v2/a/b/x Bearer T".to_owned()
                    ]
                );
            }
            "basic" => {
                assert_eq!(result.unwrap(), b"fine", "{fields:?}");
                assert_eq!(seen[1..], [format!("GET /v2/a/b/x {BASIC}")]);
            }
            _ => {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Auth, "{fields:?}");
                assert_eq!(seen.len(), 1, "{fields:?}: {seen:?}");
            }
        }
    }
}

/// The parameters of the exchange.
#[test]
fn token_request() {
    let server = bearer(vec![token("T")], "T");
    get(&transport(&server, Some(&user()), &options())).unwrap();
    let asked = &server.requests()[1];
    assert_eq!(
        asked.query,
        "scope=repository%3Aa%2Fb%3Apull&service=s%2C%221%22"
    );
    // No service in the challenge: the registry's name. A query in the realm stays.
    let server = Server::start(|r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => Answer::ok(r#"{"access_token":"T"}"#),
        (_, Some("T")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token?tenant=x%2Fy#frag""#),
    });
    get(&transport(&server, None, &options())).unwrap();
    let asked = &server.requests()[1];
    assert_eq!(asked.query_params("tenant"), ["x/y"]);
    assert_eq!(asked.query_params("service"), [server.authority()]);
    assert_eq!(authorization(asked), "-");
}

/// A token service that does not answer with a token, and an error that does not quote it.
#[test]
fn bad_token_answers() {
    for body in [
        "",
        "[]",
        "\"x\"",
        "<html>secretsecret</html>",
        r#"{"token":""}"#,
        r#"{"token":null}"#,
        r#"{"refresh_token":"secretsecret"}"#,
        r#"{"token":"a b"}"#,
        r#"{"token":"a\r\nX: y"}"#,
        r#"{"token":["a"]}"#,
    ] {
        let server = bearer(vec![Answer::ok(body)], "T");
        let error = get(&transport(&server, Some(&user()), &options())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth, "{body}");
        assert!(
            !format!("{error} {error:?}").contains("secretsecret"),
            "{error:?}"
        );
        assert_eq!(server.count(), 2, "{body}");
    }
    // Odd, but what there is to know can be read.
    for body in [
        "\u{feff}{\"token\":\"T\"}".as_bytes(),
        br#"{"token":"T","expires_in":1e400}"#,
        br#"{"token":"T","expires_in":-1e400}"#,
        br#"{"token":"T","note":"\ud83d"}"#,
        b"{\"token\":\"T\",\"note\":\"\xe4\"}",
    ] {
        let server = bearer(vec![Answer::ok(body)], "T");
        let got = get(&transport(&server, Some(&user()), &options()));
        assert!(got.is_ok(), "{}: {got:?}", String::from_utf8_lossy(body));
    }
    let huge = format!(r#"{{"token":"{}"}}"#, "a".repeat(2 << 20));
    let server = bearer(vec![Answer::ok(huge)], "T");
    assert!(get(&transport(&server, None, &options())).is_err());
}

/// One refresh and one repetition, then the answer stands.
#[test]
fn refresh() {
    let server = bearer(vec![token("T1"), token("T2")], "T2");
    let transport1 = transport(&server, Some(&user()), &options());
    get(&transport1).unwrap();
    let bearers: Vec<_> = seen(&server)
        .into_iter()
        .filter(|l| l.contains("Bearer"))
        .collect();
    assert_eq!(
        bearers,
        ["GET /v2/a/b/x Bearer T1", "GET /v2/a/b/x Bearer T2"]
    );
    server.clear();
    get(&transport1).unwrap();
    assert_eq!(seen(&server), ["GET /v2/a/b/x Bearer T2"]);
    // Never the right token: two tries and no more.
    let server = bearer(vec![token("T1"), token("T2"), token("T3")], "never");
    let error = get(&transport(&server, Some(&user()), &options())).unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Auth, Some(401))
    );
    assert_eq!(server.count(), 5, "{:?}", seen(&server));
}

/// A token that is too narrow is widened once, whether that is said with 401 or with 403 (RFC 6750
/// section 3.1).
#[test]
fn insufficient_scope() {
    const CHALLENGE: &str = r#"Bearer realm="/token",service="s""#;
    for status in [401, 403] {
        let narrow = move |error: &str| {
            let scope = r#"scope="repository:a/b:delete""#;
            let challenge = format!("{CHALLENGE},{scope},error=\"{error}\"");
            Answer::error(status, "DENIED", "too narrow").header("WWW-Authenticate", challenge)
        };
        let server = Server::start(move |r| match (r.path.as_str(), r.bearer()) {
            ("/token", _)
                if r.query_params("scope")
                    .contains(&"repository:a/b:pull,delete".to_owned()) =>
            {
                token("wide")
            }
            ("/token", _) => token("narrow"),
            ("/v2/a/b/x", Some("wide")) => Answer::ok("fine"),
            ("/v2/a/b/other", Some(_)) => narrow("invalid_request"),
            (_, Some(_)) => narrow("insufficient_scope"),
            _ => Answer::challenge(CHALLENGE),
        });
        let transport1 = transport(&server, Some(&user()), &options());
        let ask = |path| transport1.request(&Request::new(None, path), None);
        assert_eq!(ask("./other").unwrap_err().http_status(), Some(status));
        assert_eq!(server.count(), 3, "{:?}", seen(&server));
        assert_eq!(get(&transport1).unwrap(), b"fine");
        server.clear();
        get(&transport1).unwrap();
        assert_eq!(server.count(), 1, "the wider token is kept");
        let error = ask("./never").unwrap_err();
        assert_eq!(error.http_status(), Some(status));
        assert_eq!(error.diagnostics()[0].code.as_deref(), Some("DENIED"));
        assert_eq!(server.count(), 4, "one more token: {:?}", seen(&server));
    }
}

/// Scopes may be words of the registry's own (RFC 6750 section 3).
#[test]
fn scopes_of_the_registrys_own() {
    const CHALLENGE: &str = r#"Bearer realm="/token",service="s""#;
    let server = Server::start(|r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) if r.query_params("scope") == ["repository:a/b:pull", "the-right-scope"] => {
            token("right")
        }
        ("/token", _) => token("wrong"),
        (_, Some("right")) => Answer::ok("fine"),
        (_, Some(_)) => {
            let wants = r#"error="insufficient_scope",scope="the-right-scope""#;
            Answer::challenge(format!("{CHALLENGE},{wants}"))
        }
        _ => Answer::challenge(CHALLENGE),
    });
    let transport = transport(&server, Some(&user()), &options());
    assert_eq!(get(&transport).unwrap(), b"fine");
    assert_eq!(server.count(), 5, "{:?}", seen(&server));
}

/// A registry that asks for nothing at the ping and for credentials later; the other way round.
#[test]
fn learned_from_any_answer() {
    let server = Server::start(|r| match (r.path.as_str(), r.header("authorization")) {
        ("/v2/", _) | (_, Some(BASIC)) => Answer::ok("{}"),
        _ => Answer::challenge("Basic realm=\"x\""),
    });
    let transport1 = transport(&server, Some(&user()), &options());
    transport1.ping(None).unwrap();
    get(&transport1).unwrap();
    get(&transport1).unwrap();
    let want = [
        "GET /v2/ -".to_owned(),
        "GET /v2/a/b/x -".to_owned(),
        format!("GET /v2/a/b/x {BASIC}"),
        format!("GET /v2/a/b/x {BASIC}"),
    ];
    assert_eq!(seen(&server), want);
    // Some answer a spent token with Basic: whoever has no password, or is refused with it, asks again without.
    for (creds, to_password, want) in [
        (None, "", "-, token, T0, -, token, T1"),
        (
            Some(user()),
            r#"Basic realm="x""#,
            "-, token, T0, password, -, token, T1",
        ),
        (
            Some(user()),
            r#"Bearer realm="/token",service="s""#,
            "-, token, T0, password, token, T1",
        ),
    ] {
        let count = AtomicU32::new(0);
        let server = Server::start(
            move |r| match (r.path.as_str(), r.header("authorization")) {
                ("/token", _) => token(&format!("T{}", count.fetch_add(1, Ordering::SeqCst))),
                (_, Some("Bearer T1")) => Answer::ok("fine"),
                (_, Some(BASIC)) => Answer::challenge(to_password),
                (_, Some(_)) => Answer::challenge("Basic realm=\"x\""),
                _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            },
        );
        assert_eq!(
            get(&transport(&server, creds.as_ref(), &options())).unwrap(),
            b"fine"
        );
        let asked: Vec<String> = seen(&server)
            .iter()
            .map(|line| match line.strip_prefix("GET /v2/a/b/x ") {
                Some(BASIC) => "password".to_owned(),
                Some(other) => other.trim_start_matches("Bearer ").to_owned(),
                None => "token".to_owned(),
            })
            .collect();
        assert_eq!(asked.join(", "), want);
    }
}

/// What is wrong with a challenge is told with its status.
#[test]
fn unusable_challenges() {
    let long = format!(r#"Bearer realm="/token",service="{}""#, "a".repeat(20_000));
    for (challenge, kind) in [
        (r#"Bearer realm="http://[/token""#, ErrorKind::Auth),
        (
            r#"Bearer realm="http://169.254.169.254/token""#,
            ErrorKind::Protocol,
        ),
        (long.as_str(), ErrorKind::Limit),
    ] {
        let server = Server::start(script(vec![Answer::challenge(challenge)]));
        let error = get(&transport(&server, Some(&user()), &options())).unwrap_err();
        assert_eq!(
            (error.kind(), error.http_status()),
            (kind, Some(401)),
            "{error}"
        );
    }
}

#[test]
fn ping() {
    for (answer, want) in [
        (Answer::ok("{}"), None),
        (Answer::new(404), Some((ErrorKind::Protocol, 404))),
        (
            Answer::redirect(301, "/elsewhere"),
            Some((ErrorKind::Protocol, 301)),
        ),
        (Answer::challenge("Negotiate"), Some((ErrorKind::Auth, 401))),
    ] {
        let server = Server::start(script(vec![answer]));
        let result = transport(&server, Some(&user()), &options()).ping(None);
        match want {
            None => result.unwrap(),
            Some(want) => {
                let error = result.unwrap_err();
                assert_eq!((error.kind(), error.http_status().unwrap()), want);
            }
        }
        assert_eq!(seen(&server), ["GET /v2/ -"]);
    }
    let server = bearer(vec![token("T")], "T");
    let transport1 = transport(&server, Some(&user()), &options());
    transport1.ping(None).unwrap();
    get(&transport1).unwrap();
    assert_eq!(
        seen(&server),
        [
            "GET /v2/ -".to_owned(),
            format!("GET /token {BASIC}"),
            "GET /v2/a/b/x Bearer T".to_owned()
        ]
    );
}

/// The token of a ping is for what the transport is for, whatever the challenge of the ping asks for.
#[test]
fn scope_of_the_ping() {
    let server = Server::start(|r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => token("T"),
        ("/v2/a/b/x", Some("T")) => Answer::ok("fine"),
        _ => Answer::challenge(
            r#"Bearer realm="/token",service="s",scope="registry:catalog:*",error="insufficient_scope""#,
        ),
    });
    let transport1 = transport(&server, Some(&user()), &options());
    transport1.ping(None).unwrap();
    assert_eq!(get(&transport1).unwrap(), b"fine");
    let asked = server.requests();
    let scopes: Vec<_> = asked
        .iter()
        .filter(|r| r.path == "/token")
        .map(|r| r.query_params("scope"))
        .collect();
    assert_eq!(scopes, [["repository:a/b:pull"]]);
}

/// Many threads, one exchange; a failure reaches all of them, once, and is not kept.
#[test]
fn single_flight() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let server = Server::start(move |r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => match count.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::new(403).after_pause(std::time::Duration::from_millis(300)),
            _ => token("T").after_pause(std::time::Duration::from_millis(300)),
        },
        (_, Some("T")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let transport1 = transport(&server, Some(&user()), &options());
    let round = || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| get(&transport1).is_ok()))
                .collect();
            threads
                .into_iter()
                .filter(|_| true)
                .map(|t| t.join().unwrap())
                .filter(|ok| *ok)
                .count()
        })
    };
    assert_eq!(round(), 0);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(round(), 16);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// A second transport with the same credentials needs no exchange; one with others, or one that does not
/// share, does.
#[test]
fn shared_tokens() {
    let tokens = Arc::new(
        TokenServer::new("s")
            .user("user", "pass", &["repository:*:*"])
            .user("other", "pass", &["repository:*:*"]),
    );
    let checked = Arc::clone(&tokens);
    let server = Server::start(move |r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => checked.answer(r),
        (_, Some(_)) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let mut sharing = options();
    sharing.set_number("share-tokens", 1).unwrap();
    for (creds, options, exchanges) in [
        (user(), &sharing, 1),
        (user(), &sharing, 1),
        (Creds::basic("other", "pass").unwrap(), &sharing, 2),
        (user(), &options(), 3),
    ] {
        get(&transport(&server, Some(&creds), options)).unwrap();
        assert_eq!(tokens.exchange_count(), exchanges);
    }
}

/// A registry for one password, with and without tokens, and the number of requests without credentials.
fn one_password(with_tokens: bool) -> Server {
    Server::start(move |r| {
        let is_right = r.header("authorization") == Some(BASIC);
        match (r.path.as_str(), with_tokens) {
            ("/token", _) if is_right => token("T"),
            ("/token", _) => Answer::new(401),
            (_, true) if r.bearer() == Some("T") => Answer::ok("fine"),
            (_, true) => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            (_, false) if is_right => Answer::ok("fine"),
            (_, false) => Answer::challenge("Basic realm=\"x\""),
        }
    })
}

/// A callback that gives these answers one after the other, however often it is asked, and waits before the first
/// one until `ready`.
fn answering(
    answers: Vec<Result<Creds, Error>>,
    ready: impl Fn() -> bool + Send + Sync + 'static,
) -> (Creds, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let creds = Creds::callback(Arc::new(move |registry, repository| {
        assert!(registry.starts_with("127.0.0.1:") && repository == Some("a/b"));
        let n = count.fetch_add(1, Ordering::SeqCst) as usize;
        if n == 0 {
            assert!(ready(), "the other threads never came");
        }
        answers[n.min(answers.len() - 1)].clone()
    }));
    (creds, asked)
}

/// Fifty threads that all want an answer before there is one: the callback takes its time, and is asked once; once
/// more when what it said was refused, and all of them go on with the second answer.
#[test]
fn fifty_threads_ask_once() {
    const THREADS: u32 = 50;
    let right = || Creds::basic("user", "pass");
    let wrong = || Creds::basic("user", "old");
    let never = || Err(Error::new(ErrorKind::Auth, "the person went away"));
    let none = || Ok(Creds::anonymous());
    for (answers, calls, works) in [
        (vec![right()], 1, true),
        (vec![wrong(), right()], 2, true),
        (vec![wrong(), wrong()], 2, false),
        (vec![wrong(), never()], 2, false),
        (vec![never()], 1, false),
        (vec![none()], 1, false),
    ] {
        for with_tokens in [false, true] {
            let server = one_password(with_tokens);
            let begun = Arc::new(AtomicU32::new(0));
            let counted = Arc::clone(&begun);
            let told = format!("{answers:?}, tokens: {with_tokens}");
            let (creds, asked) = answering(answers.clone(), move || {
                while counted.load(Ordering::SeqCst) < THREADS {
                    std::thread::yield_now();
                }
                true
            });
            let transport1 = transport(&server, Some(&creds), &options());
            let worked = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS)
                    .map(|_| {
                        scope.spawn(|| {
                            begun.fetch_add(1, Ordering::SeqCst);
                            get(&transport1).is_ok()
                        })
                    })
                    .collect();
                let results = threads.into_iter().map(|t| t.join().unwrap());
                results.filter(|ok| *ok).count()
            });
            assert_eq!(worked, if works { THREADS as usize } else { 0 }, "{told}");
            let asked = asked.load(Ordering::SeqCst);
            if works {
                assert_eq!(asked, calls, "{told}");
            } else {
                // A thread that comes late, after the others were refused, may try again.
                assert!(asked >= calls, "{told}: {asked}");
            }
        }
    }
}

/// The callback may say that there are no credentials: a public repository is read without. What it says is
/// kept, and it is asked anew by another transport.
#[test]
fn a_callback_without_credentials() {
    let server = Server::start(|r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) if r.header("authorization").is_none() => token("anonymous"),
        ("/token", _) => Answer::new(401),
        (_, Some("anonymous")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let (creds, asked) = answering(vec![Ok(Creds::anonymous())], || true);
    for calls in 1..3 {
        let transport1 = transport(&server, Some(&creds), &options());
        for _ in 0..3 {
            assert_eq!(get(&transport1).unwrap(), b"fine");
        }
        assert_eq!(asked.load(Ordering::SeqCst), calls);
    }
    // It may also name a store, but not another callback.
    let (nested, _) = answering(vec![Ok(creds)], || true);
    let error = get(&transport(&server, Some(&nested), &options())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    let file = tempfile::NamedTempFile::new().unwrap();
    let (stored, _) = answering(vec![Ok(Creds::docker(Some(file.path().into())))], || true);
    assert_eq!(
        get(&transport(&server, Some(&stored), &options())).unwrap(),
        b"fine"
    );
}

/// A callback that takes its time does not keep a thread that waits for it from its time limit.
#[test]
fn waiting_for_a_callback_ends_in_time() {
    let server = Arc::new(one_password(false));
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let (creds, asked) = answering(vec![Creds::basic("user", "pass")], move || {
        receiver.lock().unwrap().recv().is_ok()
    });
    let transport1 = transport(&server, Some(&creds), &options());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&transport1));
        while asked.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        let op = registry_transport::op::Op::new();
        op.set_timeout(Some(std::time::Duration::from_millis(50)));
        let waited = transport1.request(&Request::new(None, "./x"), Some(&op));
        assert_eq!(waited.map(drop).unwrap_err().kind(), ErrorKind::Timeout);
        sender.send(()).unwrap();
        assert_eq!(first.join().unwrap().unwrap(), b"fine");
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// GET has a scope parameter for each resource, POST one for all of them.
#[test]
fn scopes_by_get_and_post() {
    let digest = support::registry::sha256(b"x");
    for (creds, get, post) in [
        (
            user(),
            vec!["repository:a/b:push,pull", "repository:c/d:pull"],
            vec![],
        ),
        (
            Creds::refresh("r").unwrap(),
            vec![],
            vec!["repository:a/b:push,pull repository:c/d:pull"],
        ),
    ] {
        let server = Server::start(|r| match (r.path.as_str(), r.method.as_str()) {
            ("/token", _) => token("T"),
            _ if r.bearer().is_none() => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            (_, "HEAD") => Answer::new(404),
            _ => Answer::new(201),
        });
        let name = format!("{}/a/b", server.authority());
        let pushing =
            Transport::new(&name, Actions::push(), Some(&creds), Some(&options())).unwrap();
        pushing
            .blob_put(Some(&digest), &Source::bytes(*b"x"), Some("c/d"), None)
            .unwrap();
        let asked: Vec<_> = server
            .requests()
            .into_iter()
            .filter(|r| r.path == "/token")
            .collect();
        let last = asked.last().unwrap();
        assert_eq!(last.query_params("scope"), get);
        let form: Vec<_> = last
            .form()
            .into_iter()
            .filter(|(name, _)| name == "scope")
            .collect();
        assert_eq!(
            form.iter().map(|(_, v)| v.as_str()).collect::<Vec<_>>(),
            post
        );
    }
}

/// For passwords: with option `oauth2-password` they go by POST, and by GET where POST is refused with one of four
/// statuses; without it by GET alone.
#[test]
fn passwords_by_post() {
    for (status, requests, works) in [
        (200, "POST", true),
        (400, "POST GET", true),
        (401, "POST GET", true),
        (404, "POST GET", true),
        (405, "POST GET", true),
        (403, "POST", false),
        (410, "POST", false),
    ] {
        let server = Server::start(move |r| match (r.path.as_str(), r.method.as_str()) {
            ("/token", "POST") if status == 200 => {
                Answer::ok(r#"{"access_token":"T","refresh_token":"unused"}"#)
            }
            ("/token", "POST") => Answer::new(status),
            ("/token", _) if r.header("authorization") == Some(BASIC) => token("T"),
            ("/token", _) => Answer::new(401),
            _ if r.bearer() == Some("T") => Answer::ok("fine"),
            _ => Answer::challenge(
                r#"Bearer realm="/token?x=1",service="s & t",scope="repository:a/b:pull""#,
            ),
        });
        let asked = || {
            let all = server.requests().into_iter().filter(|r| r.path == "/token");
            all.collect::<Vec<_>>()
        };
        let mut posting = options();
        posting.set_number("oauth2-password", 1).unwrap();
        let result = get(&transport(&server, Some(&user()), &posting));
        assert_eq!(result.is_ok(), works, "{status}: {result:?}");
        let methods: Vec<_> = asked().into_iter().map(|r| r.method).collect();
        assert_eq!(methods.join(" "), requests, "{status}");
        let post = &asked()[0];
        for (field, value) in [
            ("grant_type", "password"),
            ("service", "s & t"),
            ("scope", "repository:a/b:pull"),
            ("username", "user"),
            ("password", "pass"),
        ] {
            assert_eq!(post.form_param(field).as_deref(), Some(value), "{field}");
        }
        assert!(
            post.form_param("client_id")
                .is_some_and(|id| !id.is_empty())
        );
        assert_eq!(
            (authorization(post).as_str(), post.query.as_str()),
            ("-", "x=1")
        );
        server.clear();
        get(&transport(&server, Some(&user()), &options())).unwrap();
        let methods: Vec<_> = asked().into_iter().map(|r| r.method).collect();
        assert_eq!(methods, ["GET"], "{status}");
    }
}

/// A service that takes each refresh token once. What it sends in its place is used from then on, by all
/// transports that share tokens; when that is taken back, the one that was configured is tried again.
#[test]
fn rotated_refresh_tokens() {
    let valid = Arc::new(Mutex::new("first".to_owned()));
    let now = Arc::clone(&valid);
    let issued = AtomicU32::new(1);
    let server = Server::start(move |r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => {
            let mut valid = now.lock().unwrap();
            if r.form_param("refresh_token").as_ref() != Some(&*valid) {
                return Answer::new(400).body(r#"{"error":"invalid_grant"}"#);
            }
            *valid = format!("refresh-{}", issued.fetch_add(1, Ordering::SeqCst));
            Answer::ok(format!(
                r#"{{"access_token":"T","refresh_token":"{valid}"}}"#
            ))
        }
        (_, Some("T")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let mut sharing = options();
    sharing.set_number("share-tokens", 1).unwrap();
    let sent = || {
        let all = server.requests().into_iter().filter(|r| r.path == "/token");
        let sent: Vec<_> = all.filter_map(|r| r.form_param("refresh_token")).collect();
        server.clear();
        sent
    };
    let pull = |repository: &str, options: &Options| {
        let creds = Creds::refresh("first").unwrap();
        let name = format!("{}/{repository}", server.authority());
        get(&Transport::new(&name, Actions::pull(), Some(&creds), Some(options)).unwrap())
    };
    pull("one", &sharing).unwrap();
    assert_eq!(sent(), ["first"]);
    pull("two", &sharing).unwrap();
    assert_eq!(sent(), ["refresh-1"]);
    pull("three", &sharing).unwrap();
    assert_eq!(sent(), ["refresh-2"]);
    // One that does not share knows only its own, which is spent.
    let error = pull("four", &options()).unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Auth, Some(400))
    );
    assert_eq!(sent(), ["first"]);
    *valid.lock().unwrap() = "first".to_owned();
    pull("five", &sharing).unwrap();
    assert_eq!(sent(), ["refresh-3", "first"]);
}

/// For refresh tokens: only where there is no POST do they go by GET, as the password of `<token>`.
#[test]
fn refusals_of_refresh_tokens() {
    for (status, requests) in [
        (400, "POST"),
        (401, "POST"),
        (403, "POST"),
        (404, "POST GET"),
        (405, "POST GET"),
        (410, "POST"),
    ] {
        let server = Server::start(move |r| match (r.path.as_str(), r.method.as_str()) {
            ("/token", "POST") => Answer::new(status),
            ("/token", _) if r.basic() == Some(("<token>".to_owned(), "r".to_owned())) => {
                token("T")
            }
            ("/token", _) => Answer::new(401),
            _ if r.bearer() == Some("T") => Answer::ok("fine"),
            _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
        });
        let creds = Creds::refresh("r").unwrap();
        let result = get(&transport(&server, Some(&creds), &options()));
        let asked: Vec<_> = server
            .requests()
            .into_iter()
            .filter(|r| r.path == "/token")
            .map(|r| r.method)
            .collect();
        assert_eq!(asked.join(" "), requests, "{status}");
        match result {
            Ok(body) => assert_eq!((body.as_slice(), requests), (&b"fine"[..], "POST GET")),
            Err(e) => assert_eq!((e.kind(), e.http_status()), (ErrorKind::Auth, Some(status))),
        }
    }
}

/// Refresh tokens go by POST, are replaced when the service says so, and fall back to GET where
/// there is no POST.
#[test]
fn refresh_tokens() {
    let server = Server::start(|r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) if r.method == "POST" => match r.form_param("refresh_token").as_deref() {
            Some("first") => Answer::ok(r#"{"access_token":"T1","refresh_token":"second"}"#),
            Some("second") => Answer::ok(r#"{"access_token":"T2"}"#),
            _ => Answer::new(401),
        },
        (_, Some("T2")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s",scope="repository:a/b:pull""#),
    });
    let creds = Creds::refresh("first").unwrap();
    get(&transport(&server, Some(&creds), &options())).unwrap();
    let posts: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|r| r.method == "POST")
        .collect();
    assert_eq!(posts.len(), 2);
    assert_eq!(
        posts[0].form_param("grant_type").as_deref(),
        Some("refresh_token")
    );
    assert_eq!(
        posts[0].form_param("scope").as_deref(),
        Some("repository:a/b:pull")
    );
    assert!(
        posts
            .iter()
            .all(|p| p.header("authorization").is_none() && p.query.is_empty())
    );
    let server = Server::start(|r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) if r.method == "POST" => Answer::new(404),
        ("/token", _) if r.basic() == Some(("<token>".to_owned(), "first".to_owned())) => {
            token("T")
        }
        (_, Some("T")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    get(&transport(&server, Some(&creds), &options())).unwrap();
}

/// Stored credentials that are refused: without, when that is allowed, and never silently.
#[test]
fn anonymous_fallback() {
    let server = Server::start(|r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) if r.header("authorization").is_some() => Answer::new(401),
        ("/token", _) => token("anonymous"),
        (_, Some("anonymous")) => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    assert_eq!(
        get(&transport(&server, Some(&user()), &options()))
            .unwrap_err()
            .kind(),
        ErrorKind::Auth
    );
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let mut options = options();
    options.set_number("anonymous-fallback", 1).unwrap();
    options.set_log(
        Level::Warn,
        Arc::new(move |_, line: &str| sink.lock().unwrap().push(line.to_owned())),
    );
    let transport1 = transport(&server, Some(&user()), &options);
    let response = transport1
        .request(&Request::new(None, "./x"), None)
        .unwrap();
    assert!(response.is_anonymous());
    assert_eq!(lines.lock().unwrap().len(), 1);
}

/// Calls whose credentials were refused at the same time all go on without.
#[test]
fn anonymous_fallback_of_two() {
    let (gate, refused) = (Gate::new(), Arc::new(AtomicBool::new(false)));
    let (held, late) = (gate.clone(), Arc::clone(&refused));
    let server = Server::start(move |r| match r.header("authorization") {
        Some(_) => Answer::challenge(r#"Basic realm="r""#).after(&held),
        None if !late.load(Ordering::SeqCst) => Answer::challenge(r#"Basic realm="r""#),
        None => Answer::ok("fine"),
    });
    let mut options = options();
    options.set_number("anonymous-fallback", 1).unwrap();
    let transport = transport(&server, Some(&user()), &options);
    std::thread::scope(|scope| {
        let one = || get(&transport).unwrap();
        let two = [scope.spawn(one), scope.spawn(one)];
        assert!(gate.wait_reached(2));
        refused.store(true, Ordering::SeqCst);
        gate.open();
        for thread in two {
            assert_eq!(thread.join().unwrap(), b"fine");
        }
    });
}

/// Where the fallback holds and where it does not: for refusals, of pulls, when the option says so; and each time it
/// happens the log has one warning and the responses say so.
#[test]
fn when_to_go_on_without_credentials() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum At {
        /// The token service refuses the password with this status.
        Service(u16),
        /// The registry refuses the password.
        Registry,
        /// Nobody refuses anything.
        Nobody,
    }
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "{").unwrap();
    let broken = Creds::docker(Some(broken.path().into()));
    for (at, creds, actions, option, wanted) in [
        (At::Service(401), user(), Actions::pull(), 1, Some(true)),
        (At::Service(403), user(), Actions::pull(), 1, Some(true)),
        (
            At::Service(400),
            Creds::refresh("r").unwrap(),
            Actions::pull(),
            1,
            Some(true),
        ),
        (At::Registry, user(), Actions::pull(), 1, Some(true)),
        (
            At::Registry,
            Creds::bearer("T").unwrap(),
            Actions::pull(),
            1,
            Some(true),
        ),
        (At::Nobody, user(), Actions::pull(), 1, Some(false)),
        (
            At::Nobody,
            Creds::anonymous(),
            Actions::pull(),
            1,
            Some(false),
        ),
        (At::Service(401), user(), Actions::pull(), 0, None),
        (At::Registry, user(), Actions::pull(), 0, None),
        (At::Service(401), user(), Actions::push(), 1, None),
        (At::Registry, user(), Actions::push(), 1, None),
        (At::Registry, user(), Actions::delete(), 1, None),
        (At::Service(401), broken.clone(), Actions::pull(), 0, None),
    ] {
        let server = Server::start(move |r| {
            let has_any = r.header("authorization").is_some();
            match (r.path.as_str(), at) {
                ("/token", At::Service(status)) if has_any || r.method == "POST" => {
                    Answer::new(status)
                }
                ("/token", At::Nobody) if has_any => token("user"),
                ("/token", _) => token("anonymous"),
                (_, At::Registry) if has_any => Answer::challenge("Basic realm=\"x\""),
                // Asks those who come without, and reads to all of them.
                (path, At::Registry) if path.ends_with("/x") => Answer::ok("fine"),
                (_, At::Registry) => Answer::challenge("Basic realm=\"x\""),
                _ if matches!(r.bearer(), Some("anonymous" | "user")) => Answer::ok("fine"),
                _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
            }
        });
        let shown = format!("{at:?} {creds:?} {actions:?} {option}");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let mut options = options();
        options.set_number("anonymous-fallback", option).unwrap();
        options.set_log(
            Level::Warn,
            Arc::new(move |_, line: &str| sink.lock().unwrap().push(line.to_owned())),
        );
        let name = format!("{}/a/b", server.authority());
        let transport1 = Transport::new(&name, actions, Some(&creds), Some(&options)).unwrap();
        if at == At::Registry {
            // Its challenge comes first: a password is never sent before it is asked for.
            let asked = transport1.request(&Request::new(None, "./other"), None);
            assert!(asked.is_err(), "{shown}");
        }
        for _ in 0..2 {
            let answer = transport1.request(&Request::new(None, "./x"), None);
            assert_eq!(answer.ok().map(|a| a.is_anonymous()), wanted, "{shown}");
        }
        let lines = lines.lock().unwrap();
        let warned = usize::from(wanted == Some(true));
        assert_eq!(lines.len(), warned, "{shown}: {lines:#?}");
    }
}

struct Once {
    left: &'static [u8],
    rewinds: bool,
}

impl ReadBytes for Once {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let n = self.left.len().min(buf.len());
        buf[..n].copy_from_slice(&self.left[..n]);
        self.left = &self.left[n..];
        Ok(n)
    }

    fn rewind(&mut self) -> bool {
        self.left = b"DATA";
        self.rewinds
    }
}

/// A body is sent again whole, or not at all.
#[test]
fn bodies_are_replayed() {
    for (source, want) in [
        (Source::bytes(*b"DATA"), true),
        (
            Source::reader(
                Box::new(Once {
                    left: b"DATA",
                    rewinds: true,
                }),
                Some(4),
            ),
            true,
        ),
        (
            Source::reader(
                Box::new(Once {
                    left: b"DATA",
                    rewinds: true,
                }),
                None,
            ),
            true,
        ),
        (
            Source::reader(
                Box::new(Once {
                    left: b"DATA",
                    rewinds: false,
                }),
                Some(4),
            ),
            false,
        ),
    ] {
        let server = bearer(vec![token("T")], "T");
        let mut request = Request::new(Some("PUT"), "./x");
        request.body(source);
        let result = transport(&server, Some(&user()), &options()).request(&request, None);
        let bodies: Vec<_> = server
            .requests()
            .into_iter()
            .filter(|r| r.method == "PUT")
            .map(|r| r.body)
            .collect();
        if want {
            result.unwrap();
            assert_eq!(bodies, [b"DATA", b"DATA"]);
        } else {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State);
            assert!(error.message().contains("rewind"));
            assert_eq!(bodies, [b"DATA"]);
        }
    }
}

/// Who gets the Authorization after a redirect, and which redirects are refused.
#[test]
fn redirects() {
    let other = Server::start(|r| match r.path.as_str() {
        "/back" => Answer::redirect(307, r.query_param("to").unwrap()),
        _ => Answer::ok("stored"),
    });
    let there = other.authority();
    let server = Server::start(
        move |r| match (r.path.as_str(), r.header("authorization")) {
            ("/v2/a/b/final", _) => Answer::ok("stored"),
            (_, None) => Answer::challenge("Basic realm=\"x\""),
            ("/v2/a/b/same", _) => Answer::redirect(307, "final"),
            ("/v2/a/b/other", _) => {
                Answer::redirect(307, format!("http://{there}/data?signature=x%2Fy"))
            }
            ("/v2/a/b/loop", _) => Answer::redirect(302, "loop"),
            ("/v2/a/b/file", _) => Answer::redirect(302, "file:///etc/passwd"),
            ("/v2/a/b/script", _) => Answer::redirect(302, "javascript:alert(1)"),
            ("/v2/a/b/none", _) => Answer::new(307),
            ("/v2/a/b/empty", _) => Answer::redirect(307, ""),
            ("/v2/a/b/user", _) => Answer::redirect(307, format!("http://u:p@{there}/data")),
            ("/v2/a/b/metadata", _) => Answer::redirect(307, "http://169.254.169.254/latest"),
            ("/v2/a/b/see", _) => Answer::redirect(303, "final"),
            _ => Answer::new(404),
        },
    );
    let transport1 = transport(&server, Some(&user()), &options());
    let ask = |path: &str| {
        transport1
            .request(&Request::new(None, &format!("./{path}")), None)
            .and_then(|mut r| r.take_body())
    };
    assert_eq!(ask("same").unwrap(), b"stored");
    assert_eq!(
        seen(&server).last().unwrap(),
        &format!("GET /v2/a/b/final {BASIC}")
    );
    assert_eq!(ask("other").unwrap(), b"stored");
    let got = other.requests();
    assert_eq!(
        (got.len(), got[0].target.as_str()),
        (1, "/data?signature=x%2Fy")
    );
    assert_eq!(authorization(&got[0]), "-");
    for path in [
        "loop", "file", "script", "none", "empty", "user", "metadata",
    ] {
        assert_eq!(ask(path).unwrap_err().kind(), ErrorKind::Protocol, "{path}");
    }
    assert_eq!(other.count(), 1);
    let mut post = Request::new(Some("POST"), "./see");
    post.body(Source::bytes(*b"x"))
        .header("Content-Type", "text/plain")
        .header("Content-Range", "0-0");
    transport1.request(&post, None).unwrap();
    let last = server.requests().pop().unwrap();
    assert_eq!(last.method, "GET", "303");
    for name in ["content-type", "content-range", "content-length"] {
        assert_eq!(last.header(name), None, "{name} of a body that is not sent");
    }
    let mut put = Request::new(Some("PUT"), "./same");
    put.body(Source::bytes(*b"BODY")).header("X-Secret", "mine");
    transport1.request(&put, None).unwrap();
    let last = server.requests().pop().unwrap();
    assert_eq!(
        (last.method.as_str(), last.body.as_slice()),
        ("PUT", &b"BODY"[..]),
        "307"
    );
    let mut elsewhere = Request::new(None, "./other");
    elsewhere
        .header("X-Secret", "mine")
        .header("Cookie", "mine");
    transport1.request(&elsewhere, None).unwrap();
    let last = other.requests().pop().unwrap();
    assert!(last.header("x-secret").is_none() && last.header("cookie").is_none());
}

/// A token request that carries its credentials in the body is sent on as it is within the origin of the
/// token service, and nowhere else.
#[test]
fn redirected_token_posts() {
    let other = Server::start(|_| token("T"));
    let there = other.url("/token");
    for (status, place, works) in [
        (307, "/moved", true),
        (308, "/moved", true),
        (301, "/moved", false),
        (302, "/moved", false),
        (303, "/moved", false),
        (307, there.as_str(), false),
        (308, "https://127.0.0.1/token", false),
        (307, "/token", false),
        (307, "", false),
    ] {
        let own = place.to_owned();
        let server = Server::start(move |r| match (r.path.as_str(), r.bearer()) {
            ("/token", _) => Answer::redirect(status, &own),
            ("/moved", _) => token("T"),
            (_, Some("T")) => Answer::ok("fine"),
            _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
        });
        let creds = Creds::refresh("secret-refresh").unwrap();
        let result = get(&transport(&server, Some(&creds), &options()));
        let seen = server.requests();
        if works {
            assert_eq!(result.unwrap(), b"fine", "{status} {place}");
            assert_eq!((seen.len(), seen[2].path.as_str()), (4, "/moved"));
            assert_eq!(
                (&seen[2].method, &seen[2].body),
                (&seen[1].method, &seen[1].body)
            );
            assert_eq!(
                seen[2].form_param("refresh_token").as_deref(),
                Some("secret-refresh")
            );
        } else {
            assert!(result.is_err(), "{status} {place}");
            let most = if place == "/token" { 7 } else { 2 };
            assert_eq!(seen.len(), most, "{status} {place}: {:?}", server.lines());
        }
    }
    assert_eq!(other.count(), 0);
}

/// Absolute URLs, upload locations and links of other origins.
#[test]
fn other_origins() {
    let other = Server::start(|_| Answer::ok(r#"{"tags":["evil"]}"#));
    let there = other.authority();
    let server = Server::start(
        move |r| match (r.path.as_str(), r.header("authorization")) {
            (_, None) => Answer::challenge("Basic realm=\"x\""),
            ("/v2/a/b/tags/list", _) => Answer::ok(r#"{"tags":["good"]}"#)
                .header("Link", format!("<http://{there}/v2/x>; rel=\"next\"")),
            _ => Answer::new(404),
        },
    );
    let transport1 = transport(&server, Some(&user()), &options());
    let mut names = Names::tags(&transport1);
    assert_eq!(
        names.next_name(None).unwrap_err().kind(),
        ErrorKind::Protocol
    );
    assert_eq!(other.count(), 0);
    transport1
        .request(&Request::new(None, &other.url("/layer")), None)
        .unwrap();
    assert_eq!(seen(&other), ["GET /layer -"]);
}

/// What goes wrong with one exchange is repeated, or told without the token, and does not spoil the next call.
#[test]
fn broken_exchanges() {
    let cut = || token("good").cut_after(8);
    let server = bearer(vec![cut(), token("good")], "good");
    let own = transport(&server, Some(&user()), &options());
    assert_eq!(get(&own).unwrap(), b"fine", "a token that did not arrive");
    assert_eq!(server.count(), 4);

    let odd = Answer::new(201).body(r#"{"token":"secret-token"}"#);
    let server = bearer(vec![odd, token("good")], "good");
    let own = transport(&server, Some(&user()), &options());
    let error = get(&own).unwrap_err();
    assert_eq!(
        (error.kind(), error.http_status()),
        (ErrorKind::Auth, Some(201))
    );
    assert!(!format!("{error} {error:?}").contains("secret-token"));
    assert_eq!(get(&own).unwrap(), b"fine");
}

/// A challenge that leads to no token is not kept: the next call hears what the registry says then.
#[test]
fn mistaken_challenges() {
    for mistake in [
        r#"Bearer realm="/elsewhere",service="s""#,
        r#"Bearer realm="http://127.0.0.1:1/token",service="s""#,
        r#"Bearer realm="/token",service="s",scope="repository:no-scope:pull""#,
    ] {
        let first = Mutex::new(Some(mistake));
        let server =
            Server::start(move |r| match (r.path.as_str(), r.bearer()) {
                ("/token", _) if r.query.contains("no-scope") => Answer::new(400),
                ("/token", _) => token("good"),
                ("/elsewhere", _) => Answer::new(404),
                (_, Some("good")) => Answer::ok("fine"),
                _ => {
                    Answer::challenge(first.lock().unwrap().take().unwrap_or(
                        r#"Bearer realm="/token",service="s",scope="repository:a/b:pull""#,
                    ))
                }
            });
        let own = transport(&server, Some(&user()), &options());
        assert!(get(&own).is_err(), "{mistake}");
        assert_eq!(get(&own).unwrap(), b"fine", "{mistake}");
        assert_eq!(get(&own).unwrap(), b"fine", "{mistake}");
    }
}

/// A registry with a token server on itself, for one user, and what it does when `./slow` is asked for.
fn token_registry(tokens: &Arc<TokenServer>, slow: impl Fn() + Send + Sync + 'static) -> Server {
    let tokens = Arc::clone(tokens);
    Server::start(move |r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) => tokens.answer(r),
        (path, Some(token)) => {
            if path.ends_with("/slow") {
                slow();
            }
            if tokens.check(token, "", "", "") == Verdict::Allowed {
                Answer::ok("fine")
            } else {
                Answer::challenge(
                    r#"Bearer realm="/token",service="s",scope="repository:a/b:pull",error="invalid_token""#,
                )
            }
        }
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    })
}

fn sharing() -> Options {
    let mut options = options();
    options.set_number("share-tokens", 1).unwrap();
    options
}

/// What one call was told it does, whatever another one forgets meanwhile: that one's failure is its own.
#[test]
fn what_others_forget() {
    let tokens = Arc::new(TokenServer::new("s").user("user", "pass", &[]));
    let server = token_registry(&tokens, || {});
    let wrong = Creds::basic("user", "wrong").unwrap();
    let other = transport(&server, Some(&wrong), &sharing());
    let refused = move || get(&other).unwrap_err().kind() == ErrorKind::Auth;
    let refused = Arc::new(refused);
    let mut logged = sharing();
    let (again, count) = (Arc::clone(&refused), Arc::new(AtomicU32::new(0)));
    let times = Arc::clone(&count);
    // Just after this call has heard the challenge, another's password is refused.
    logged.set_log(
        Level::Info,
        Arc::new(move |_, line| {
            if line.contains("answered 401") {
                times.fetch_add(1, Ordering::SeqCst);
                assert!(again());
            }
        }),
    );
    let own = transport(&server, Some(&user()), &logged);
    assert_eq!(get(&own).unwrap(), b"fine");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // Nor does it make another send a body twice.
    assert!(refused());
    server.clear();
    let mut request = Request::new(Some("PUT"), "./x");
    let body = Once {
        left: b"DATA",
        rewinds: false,
    };
    request.body(Source::reader(Box::new(body), Some(4)));
    own.request(&request, None).unwrap();
    assert_eq!(server.count(), 1, "{:?}", seen(&server));
}

/// A token that others got after this request was sent, and that has died as well before it is used: there is
/// another one.
#[test]
fn a_token_of_others_died_too() {
    let tokens = Arc::new(TokenServer::new("s").user("user", "pass", &[]));
    let (dying, place) = (Arc::clone(&tokens), Arc::new(OnceLock::<Transport>::new()));
    let (other, slow) = (Arc::clone(&place), AtomicU32::new(0));
    let server = token_registry(&tokens, move || {
        if slow.fetch_add(1, Ordering::SeqCst) == 0 {
            dying.expire_all();
            assert_eq!(get(other.get().unwrap()).unwrap(), b"fine");
            dying.expire_all();
        }
    });
    let own = transport(&server, Some(&user()), &options());
    assert!(place.set(own.clone()).is_ok());
    get(&own).unwrap();
    let request = Request::new(None, "./slow");
    assert_eq!(
        own.request(&request, None).unwrap().take_body().unwrap(),
        b"fine"
    );
    assert_eq!(tokens.exchange_count(), 3);
}

/// Two threads whose requests need the credentials that there were not at first: the one that comes late takes
/// what the other has got of their source.
#[test]
fn one_asks_the_source_again_for_both() {
    let server = Server::start(|r| match (r.path.as_str(), r.bearer()) {
        ("/token", _) if r.header("authorization") == Some(BASIC) => token("T"),
        ("/token", _) => token("anonymous"),
        (_, Some("T")) => Answer::ok("fine"),
        (path, Some("anonymous")) if path.ends_with("/public") => Answer::ok("fine"),
        _ => Answer::challenge(r#"Bearer realm="/token",service="s""#),
    });
    let answers = vec![Ok(Creds::anonymous()), Ok(user())];
    let (creds, asked) = answering(answers, || true);
    let place = Arc::new(OnceLock::<Transport>::new());
    let (other, mut logged, others) = (Arc::clone(&place), options(), AtomicU32::new(0));
    // The first thread is about to ask the source again, and the second one comes first.
    logged.set_log(
        Level::Info,
        Arc::new(move |_, line| {
            if line.ends_with("Resolve") && others.fetch_add(1, Ordering::SeqCst) == 0 {
                let other = other.get().unwrap().clone();
                let got = std::thread::spawn(move || get(&other)).join().unwrap();
                assert_eq!(got.unwrap(), b"fine");
            }
        }),
    );
    let own = transport(&server, Some(&creds), &logged);
    assert!(place.set(own.clone()).is_ok());
    own.request(&Request::new(None, "./public"), None).unwrap();
    assert_eq!(get(&own).unwrap(), b"fine");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// A refused part of an upload is sent again on another connection: a registry that did not read it may be
/// about to end the one it was sent on.
#[test]
fn a_refused_part_takes_another_connection() {
    let tokens = script(vec![token("T1"), token("T2")]);
    let server = Server::start(move |r| match (r.method.as_str(), r.bearer()) {
        ("GET", _) => tokens(r),
        (_, None) => Answer::challenge(r#"Bearer realm="/token",service="s""#),
        ("PATCH", Some("T1")) => Answer::challenge(r#"Bearer realm="/token",service="s""#),
        ("PUT", _) => Answer::new(201),
        _ => Answer::new(202).header("Location", "/v2/a/b/blobs/uploads/1"),
    });
    let mut options = options();
    options.set_number("retries", 0).unwrap();
    transport(&server, Some(&user()), &options)
        .blob_put(None, &Source::bytes(*b"DATA"), None, None)
        .unwrap();
    let parts: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|r| r.method == "PATCH")
        .map(|r| (r.connection, r.body))
        .collect();
    assert_eq!(parts.len(), 2);
    assert_ne!(parts[0].0, parts[1].0);
    assert_eq!([&parts[0].1, &parts[1].1], [b"DATA", b"DATA"]);
}

/// A request that had to wait for its turn does not go out with a token that has died meanwhile.
#[test]
fn tokens_that_die_in_the_queue() {
    let tokens = Arc::new(TokenServer::new("s").user("user", "pass", &[]));
    let server = token_registry(&tokens, || {});
    let (waits, waiting) = std::sync::mpsc::channel();
    let waits = Mutex::new(waits);
    let mut one = options();
    one.set_number("max-requests-per-host", 1).unwrap();
    one.set_log(
        Level::Debug,
        Arc::new(move |_, line| {
            if line.starts_with("waiting until") {
                waits.lock().unwrap().send(()).unwrap();
            }
        }),
    );
    let own = transport(&server, Some(&user()), &one);
    let ask = |path| own.request(&Request::new(None, path), None).unwrap();
    let mut unread = ask("./unread");
    std::thread::scope(|scope| {
        let late = scope.spawn(|| ask("./late").take_body().unwrap());
        waiting.recv().unwrap();
        tokens.expire_all();
        assert_eq!(ask("./x").take_body().unwrap(), b"fine");
        assert_eq!(unread.take_body().unwrap(), b"fine");
        assert_eq!(late.join().unwrap(), b"fine");
    });
    let late = server.requests();
    let late = late.iter().filter(|r| r.path.ends_with("/late"));
    assert_eq!(late.count(), 1, "{:?}", seen(&server));
}

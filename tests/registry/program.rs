//! A registry to try things against: it lives in memory, wants tokens, holds `demo/app` (linux/amd64 and
//! linux/arm64, tags `latest` and `1.0`) with a blob whose download stops half-way and waits, and
//! `demo/private:1`, and ends with its standard input.

#[path = "../support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use support::pki::Ca;
use support::registry::{AccessControl, Registry, Settings, noise};
use support::server::{Gate, Server};
use support::token::TokenServer;

const USAGE: &str = "\
usage: test-registry [options] < pipe
  --tls               serve HTTPS with a certificate of a new authority
  --address ADDR      listen here instead of 127.0.0.1:0
  --user NAME         the user, instead of demo
  --password SECRET   the password, instead of demo
  --open              no credentials at all
  --basic             Basic credentials instead of tokens
  --anonymous-pull    demo/app may be pulled without credentials
  --expires-in SECS   the life of a token, instead of 300
  --layers N          layers of each image of demo/app, instead of 6
  --layer-size BYTES  the size of a layer, instead of 2500000
  --empty             no images
  --ready FILE        write RT_DEMO_... lines to FILE when ready
It serves until its standard input ends.";

/// Bytes of the blob whose download stops half-way.
const STALLING: usize = 1 << 20;

struct Options {
    tls: bool,
    address: String,
    user: String,
    password: String,
    open: bool,
    basic: bool,
    anonymous_pull: bool,
    expires_in: u64,
    layers: usize,
    layer_size: usize,
    empty: bool,
    ready: Option<PathBuf>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            tls: false,
            address: "127.0.0.1:0".to_owned(),
            user: "demo".to_owned(),
            password: "demo".to_owned(),
            open: false,
            basic: false,
            anonymous_pull: false,
            expires_in: 300,
            layers: 6,
            layer_size: 2_500_000,
            empty: false,
            ready: None,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--tls" => options.tls = true,
                "--address" => options.address = value()?,
                "--user" => options.user = value()?,
                "--password" => options.password = value()?,
                "--open" => options.open = true,
                "--basic" => options.basic = true,
                "--anonymous-pull" => options.anonymous_pull = true,
                "--expires-in" => options.expires_in = number(&value()?)?,
                "--layers" => options.layers = number(&value()?)?,
                "--layer-size" => options.layer_size = number(&value()?)?,
                "--empty" => options.empty = true,
                "--ready" => options.ready = Some(value()?.into()),
                _ => return Err(format!("unknown option {arg}")),
            }
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn main() -> ExitCode {
    let outcome = Options::parse(std::env::args().skip(1))
        .map_err(|message| format!("{message}\n{USAGE}"))
        .and_then(|options| run(&options));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("test-registry: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let registry = Registry::new(Settings {
        access: access(options),
        ..Settings::default()
    });
    let mut ready = String::new();
    let mut stalling = None;
    if !options.empty {
        let platforms = [("linux", "amd64"), ("linux", "arm64")];
        let sizes = vec![options.layer_size; options.layers];
        let index = registry.seed_index("demo/app", "latest", &platforms, &sizes);
        registry.set_tag("demo/app", "1.0", &index.manifest.digest);
        if let Some(layer) = index.images.iter().flat_map(|image| &image.layers).next() {
            let _ = writeln!(ready, "RT_DEMO_BLOB={}", layer.digest);
        }
        let digest = registry.put_blob("demo/app", noise("stalling", STALLING));
        let _ = writeln!(ready, "RT_DEMO_STALLING={digest}");
        stalling = Some(format!("/v2/demo/app/blobs/{digest}"));
        registry.seed("demo/private", "1", 3);
    }
    let ca = options.tls.then(Ca::new);
    let mut builder = Server::builder().address(&options.address).without_log();
    if let Some(ca) = &ca {
        builder = builder.tls(ca);
    }
    let never = Gate::new();
    let server = builder
        .try_start(move |request| {
            let answer = registry.answer(request);
            match &stalling {
                Some(path) if *path == request.path => answer.stall_after(STALLING / 2, &never),
                _ => answer,
            }
        })
        .map_err(|error| format!("cannot listen on {}: {error}", options.address))?;
    let _ = writeln!(ready, "RT_DEMO_REGISTRY={}", server.authority());
    let _ = writeln!(ready, "RT_DEMO_URL={}", server.url(""));
    if let Some(ca) = &ca {
        let _ = writeln!(ready, "RT_DEMO_CA={}", ca.path().display());
    }
    if let Some(path) = &options.ready {
        // Written aside and renamed, so that a waiting script never sees half a file.
        let aside = path.with_extension("tmp");
        std::fs::write(&aside, ready)
            .and_then(|()| std::fs::rename(&aside, path))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    println!("listening on {}", server.url(""));
    let _ = std::io::stdout().flush();
    let mut sink = [0; 1024];
    let mut stdin = std::io::stdin().lock();
    while matches!(stdin.read(&mut sink), Ok(n) if n > 0) {}
    Ok(())
}

fn access(options: &Options) -> AccessControl {
    if options.open {
        return AccessControl::Open;
    }
    if options.basic {
        return AccessControl::Basic(vec![(options.user.clone(), options.password.clone())]);
    }
    let mut token = TokenServer::new("test-registry")
        .expires_in(Some(options.expires_in))
        .lifetime(Duration::from_secs(options.expires_in))
        .user(
            &options.user,
            &options.password,
            &["repository:*:pull,push,delete", "registry:catalog:*"],
        );
    if options.anonymous_pull {
        token = token.anonymous(&["repository:demo/app:pull"]);
    }
    AccessControl::Bearer {
        token: Arc::new(token),
        realm: None,
    }
}

//! What a program does with the library: each flow tells what it saw, so that two runs can be compared.

use registry_transport::copy::copy;
use registry_transport::error::{Error, Result};
use registry_transport::pages::Names;
use registry_transport::referrers::Referrers;
use registry_transport::source::{ReadBytes, Source};

use super::scene::{BIG, Ready, WORLD};
use super::support::registry::{OCI_MANIFEST, Settings, noise, sha256};
use super::support::server::{Answer, Request};

/// One flow and what it needs.
pub struct Flow {
    pub name: &'static str,
    pub run: fn(&Ready) -> Result<Vec<u8>>,
    /// Done before the first run.
    pub prepare: fn(&Ready),
    /// Options of its transports.
    pub numbers: &'static [(&'static str, i64)],
    pub settings: fn(&mut Settings),
    /// Another form of an answer, such as another framing.
    pub shape: fn(&Request, Answer) -> Answer,
    pub tls: bool,
    /// A refresh token is the credential.
    pub refresh: bool,
    /// The transport only pulls.
    pub pulls: bool,
    /// The registry redirects to storage with signed URLs.
    pub signed: bool,
    /// What it sees has no digest to check it by: an answer that lies is believed.
    pub believes: bool,
    /// Bodies end with the connection: whether they were cut is only told by their digest.
    pub ends_by_close: bool,
    /// An incomplete download may stay beside the target.
    pub keeps_part: bool,
    /// Several requests are on their way at once: their order is not always the same.
    pub unordered: bool,
    /// Of so many places one is tried, in the short form.
    pub thin: usize,
}

const PLAIN: Flow = Flow {
    name: "",
    run: |_| Ok(Vec::new()),
    prepare: |_| {},
    numbers: &[],
    settings: |_| {},
    shape: |_, answer| answer,
    tls: false,
    refresh: false,
    pulls: false,
    signed: false,
    believes: false,
    ends_by_close: false,
    keeps_part: false,
    unordered: false,
    thin: 1,
};

pub static FLOWS: [Flow; 25] = [
    Flow {
        name: "token-get",
        run: |ready| ready.home.ping(None).map(|()| Vec::new()),
        believes: true,
        ..PLAIN
    },
    Flow {
        name: "token-post",
        refresh: true,
        run: |ready| ready.home.ping(None).map(|()| Vec::new()),
        believes: true,
        ..PLAIN
    },
    Flow {
        name: "ping-basic",
        run: |ready| {
            ready.home.ping(None)?;
            let head = ready.home.manifest_head("v1", None)?;
            Ok(vec![u8::from(head.status() == 200)])
        },
        settings: |settings| {
            settings.access = super::support::registry::AccessControl::Basic(vec![(
                super::scene::USER.to_owned(),
                super::scene::PASSWORD.to_owned(),
            )]);
        },
        believes: true,
        ..PLAIN
    },
    Flow {
        name: "pull",
        run: pull,
        pulls: true,
        ..PLAIN
    },
    Flow {
        name: "pull-chunked",
        run: pull,
        pulls: true,
        shape: |request, answer| {
            if request.path.contains("/blobs/") {
                answer.chunks_of(700)
            } else {
                answer
            }
        },
        thin: 2,
        ..PLAIN
    },
    Flow {
        name: "pull-until-close",
        run: pull,
        ends_by_close: true,
        pulls: true,
        shape: |request, answer| {
            if request.path.contains("/blobs/") {
                answer.no_length()
            } else {
                answer
            }
        },
        thin: 2,
        ..PLAIN
    },
    Flow {
        name: "pull-signed",
        run: pull,
        pulls: true,
        signed: true,
        thin: 2,
        ..PLAIN
    },
    Flow {
        name: "pread",
        run: |ready| {
            let blob = ready.home.blob_open(&WORLD.big, None)?;
            let mut seen = blob.size().to_le_bytes().to_vec();
            for (offset, length) in [(100, 700), (BIG as u64 - 300, 1000), (0, 1)] {
                let mut buf = vec![0; length];
                let n = blob.pread(&mut buf, offset, None)?;
                seen.extend(&buf[..n]);
            }
            Ok(seen)
        },
        believes: true,
        ..PLAIN
    },
    Flow {
        name: "save",
        run: save,
        keeps_part: true,
        pulls: true,
        ..PLAIN
    },
    Flow {
        name: "save-over",
        run: save,
        prepare: |ready| std::fs::write(ready.target(), "old").expect("an old file"),
        keeps_part: true,
        pulls: true,
        thin: 4,
        ..PLAIN
    },
    Flow {
        name: "save-continued",
        run: save,
        prepare: |ready| part(ready, &noise("big", BIG)[..BIG / 2]),
        keeps_part: true,
        pulls: true,
        thin: 2,
        ..PLAIN
    },
    Flow {
        name: "save-misled",
        run: save,
        prepare: |ready| part(ready, &noise("wrong", BIG / 2)),
        keeps_part: true,
        pulls: true,
        thin: 2,
        ..PLAIN
    },
    Flow {
        name: "save-parallel",
        run: |ready| {
            ready.home.blob_save(&WORLD.huge, &ready.target(), None)?;
            std::fs::read(ready.target()).map_err(|e| gone(&e))
        },
        numbers: &[("parallel", 3)],
        keeps_part: true,
        pulls: true,
        unordered: true,
        thin: 96,
        ..PLAIN
    },
    Flow {
        name: "response-save",
        run: |ready| {
            let mut response = ready.home.blob_get(&WORLD.big, None)?;
            response.save(&ready.target())?;
            std::fs::read(ready.target()).map_err(|e| gone(&e))
        },
        pulls: true,
        thin: 2,
        ..PLAIN
    },
    Flow {
        name: "push",
        run: |ready| {
            let config = &b"{}"[..];
            let layer = sha256(&WORLD.fresh);
            let (home, config_digest) = (&ready.home, sha256(config));
            home.blob_put(Some(&config_digest), &Source::bytes(config), None, None)?;
            let source = Source::bytes(WORLD.fresh.as_slice());
            home.blob_put(Some(&layer), &source, None, None)?;
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config_digest}","size":2}},"layers":[{{"mediaType":"application/octet-stream","digest":"{layer}","size":{}}}]}}"#,
                WORLD.fresh.len()
            );
            let put = home.manifest_put("new", OCI_MANIFEST, manifest.as_bytes(), None)?;
            let digest = put.digest().map(ToString::to_string).unwrap_or_default();
            let stored = ready.run.registry(0).manifest("a/b", "new");
            let blob = ready.run.registry(0).blob("a/b", &layer);
            if blob.is_none_or(|blob| *blob != WORLD.fresh)
                || stored.is_none_or(|(_, bytes)| **bytes != *manifest.as_bytes())
            {
                return Ok(b"success was told, but the registry does not have it".to_vec());
            }
            Ok(digest.into_bytes())
        },
        ..PLAIN
    },
    Flow {
        name: "push-chunked",
        run: |ready| push(ready, Some(&sha256(&WORLD.fresh)), &bytes(), None),
        numbers: &[("upload-chunk-bytes", 4000)],
        ..PLAIN
    },
    Flow {
        name: "push-stream",
        run: |ready| push(ready, None, &stream(), None),
        ..PLAIN
    },
    Flow {
        name: "push-file",
        run: |ready| {
            let source = Source::file(ready.source());
            push(ready, Some(&sha256(&WORLD.fresh)), &source, None)
        },
        prepare: |ready| std::fs::write(ready.source(), &WORLD.fresh).expect("a source"),
        numbers: &[("upload-chunk-bytes", 4000)],
        thin: 16,
        ..PLAIN
    },
    Flow {
        name: "session",
        run: |ready| {
            let mut upload = ready.home.upload_begin(None)?;
            let state = upload.state();
            drop(upload);
            upload = ready.home.upload_resume(&state, None)?;
            upload.send(&bytes(), None)?;
            let done = upload.finish(None, None)?;
            Ok(pushed(ready, 0, "a/b", &done))
        },
        numbers: &[("upload-chunk-bytes", 4000)],
        thin: 2,
        ..PLAIN
    },
    Flow {
        name: "mount",
        run: |ready| {
            let data = noise("foreign", 3000);
            let source = Source::bytes(data.as_slice());
            let done =
                ready
                    .home
                    .blob_put(Some(&WORLD.foreign), &source, Some("other/place"), None)?;
            let there = ready.run.registry(0).blob("a/b", &WORLD.foreign);
            Ok(vec![
                u8::from(done.digest().is_some_and(|d| d.as_str() == WORLD.foreign)),
                u8::from(there.is_some_and(|blob| *blob == data)),
            ])
        },
        ..PLAIN
    },
    Flow {
        name: "tags",
        run: |ready| {
            let mut names = Names::tags(&ready.home);
            let mut seen = Vec::new();
            while let Some(name) = names.next_name(None)? {
                seen.extend(name.into_bytes());
                seen.push(b'\n');
            }
            Ok(seen)
        },
        pulls: true,
        believes: true,
        ..PLAIN
    },
    Flow {
        name: "referrers",
        run: |ready| {
            let subject = &WORLD.image.manifest.digest;
            let mut list = Referrers::new(&ready.home, subject, None)?;
            let mut seen = Vec::new();
            while let Some(descriptor) = list.next_referrer(None)? {
                seen.extend(descriptor.into_bytes());
                seen.push(b'\n');
            }
            Ok(seen)
        },
        pulls: true,
        believes: true,
        ..PLAIN
    },
    Flow {
        name: "copy",
        run: |ready| {
            copy(&ready.home, "v1", &ready.away, "copied", None)?;
            Ok(copied(ready))
        },
        thin: 3,
        ..PLAIN
    },
    Flow {
        name: "pull-tls",
        run: pull,
        tls: true,
        pulls: true,
        thin: 4,
        ..PLAIN
    },
    Flow {
        name: "push-tls",
        run: |ready| push(ready, Some(&sha256(&WORLD.fresh)), &bytes(), None),
        tls: true,
        thin: 4,
        ..PLAIN
    },
];

fn pull(ready: &Ready) -> Result<Vec<u8>> {
    let mut manifest = ready.home.manifest_get("v1", None)?;
    let mut seen = manifest.take_body()?;
    let image = &WORLD.image;
    for blob in [&image.config].into_iter().chain(&image.layers) {
        seen.extend(ready.home.blob_get(&blob.digest, None)?.take_body()?);
    }
    Ok(seen)
}

fn save(ready: &Ready) -> Result<Vec<u8>> {
    ready.home.blob_save(&WORLD.big, &ready.target(), None)?;
    std::fs::read(ready.target()).map_err(|e| gone(&e))
}

/// Success was told, but the file is not there.
fn gone(e: &std::io::Error) -> Error {
    Error::new(
        registry_transport::error::ErrorKind::Internal,
        format!("the saved file cannot be read: {e}"),
    )
}

fn part(ready: &Ready, data: &[u8]) {
    std::fs::write(ready.partial(&WORLD.big), data).expect("a partial download");
}

fn bytes() -> Source {
    Source::bytes(WORLD.fresh.as_slice())
}

fn push(
    ready: &Ready,
    digest: Option<&str>,
    source: &Source,
    from: Option<&str>,
) -> Result<Vec<u8>> {
    let done = ready.home.blob_put(digest, source, from, None)?;
    Ok(pushed(ready, 0, "a/b", &done))
}

/// What the answer tells and what the registry has.
fn pushed(
    ready: &Ready,
    place: usize,
    repository: &str,
    done: &registry_transport::response::Response,
) -> Vec<u8> {
    let digest = done.digest().map(ToString::to_string).unwrap_or_default();
    let there = ready.run.registry(place).blob(repository, &digest);
    let right = there.is_some_and(|blob| *blob == WORLD.fresh);
    format!("{digest} {right}").into_bytes()
}

fn copied(ready: &Ready) -> Vec<u8> {
    let registry = ready.run.registry(1);
    let image = &WORLD.image;
    let blobs = [&image.config].into_iter().chain(&image.layers);
    let mut right = blobs
        .into_iter()
        .filter(|blob| {
            let there = registry.blob("c/d", &blob.digest);
            there.is_some_and(|there| sha256(&there) == blob.digest)
        })
        .count();
    let manifest = registry.manifest("c/d", "copied");
    right += usize::from(manifest.is_some_and(|(_, m)| sha256(&m) == image.manifest.digest));
    format!("{right} parts").into_bytes()
}

/// Bytes whose number is not known before they are read, in odd pieces.
fn stream() -> Source {
    struct Odd {
        at: usize,
    }
    impl ReadBytes for Odd {
        fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
            let rest = &WORLD.fresh[self.at..];
            let n = rest.len().min(buf.len()).min(1777);
            buf[..n].copy_from_slice(&rest[..n]);
            self.at += n;
            Ok(n)
        }

        fn rewind(&mut self) -> bool {
            self.at = 0;
            true
        }
    }
    Source::reader(Box::new(Odd { at: 0 }), None)
}

//! Manifests: small, typed, and checked before anybody reads them (distribution-spec, "Pulling manifests",
//! "Pushing Manifests").

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::value::RawValue;
use ureq::http::header::{self, HeaderValue};

use crate::digest::{self, Algorithm, Digest};
use crate::endpoint::Ask;
use crate::error::{Error, Result};
use crate::failover::Wanted;
use crate::media_type;
use crate::name::TagOrDigest;
use crate::net::call::Call;
use crate::net::text_value;
use crate::op::Op;
use crate::options::Number;
use crate::referrers;
use crate::response::{Parts, Response, check_told, content_type};
use crate::retry::Budget;
use crate::send::{Answer, Payload};
use crate::source::Source;
use crate::transport::{At, Pull, Transport};

/// A manifest, checked.
pub(crate) struct Manifest {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) data: Vec<u8>,
}

/// A manifest as it came, checked.
struct Got {
    answer: Answer,
    body: Vec<u8>,
    digest: Digest,
}

fn wanted(reference: &TagOrDigest) -> Wanted {
    match reference {
        TagOrDigest::Tag(_) => Wanted::Tag,
        TagOrDigest::Digest(_) => Wanted::Digest,
    }
}

fn manifest_question<'a>(method: &'a str, reference: &TagOrDigest) -> Pull<'a> {
    let types = HeaderValue::from_static(ACCEPT);
    Pull::new(method, path(reference), wanted(reference)).header(header::ACCEPT, types)
}

fn path(reference: &TagOrDigest) -> String {
    format!("manifests/{reference}")
}

/// All manifest types.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json,application/vnd.oci.image.index.v1+json,\
    application/vnd.docker.distribution.manifest.v2+json,application/vnd.docker.distribution.manifest.list.v2+json";

impl Transport {
    /// Gets a manifest by tag or digest, accepting OCI and Docker manifests and indexes. Its digest is checked
    /// before the body can be read.
    ///
    /// # Errors
    /// [`Digest`](crate::error::ErrorKind::Digest) when the bytes are not those asked for or not those the
    /// registry announces, [`MediaType`](crate::error::ErrorKind::MediaType) when they are no manifest,
    /// [`Limit`](crate::error::ErrorKind::Limit) beyond `max-manifest-bytes`, and those of
    /// [`request`](Transport::request).
    pub fn manifest_get(&self, tag_or_digest: &str, op: Option<&Op>) -> Result<Response> {
        let reference = TagOrDigest::parse(tag_or_digest)?;
        let call = self.call(op)?;
        let got = self.manifest_ask(&reference, &call)?;
        self.manifest_response(got, &call)
    }

    /// The same of the registry itself, not of a mirror, which may have an older one.
    pub(crate) fn manifest_get_at_home(&self, tag: &str, call: &Arc<Call>) -> Result<Response> {
        let reference = TagOrDigest::parse(tag)?;
        let at = self.home_at(call)?;
        self.check_path(&path(&reference))?;
        let got = self.manifest_at(&at, &reference, call, &mut self.budget())?;
        self.manifest_response(got, call)
    }

    fn manifest_response(&self, got: Got, call: &Arc<Call>) -> Result<Response> {
        if let Some(op) = call.progress() {
            op.begin(Some(got.body.len() as u64));
            op.advance(got.body.len() as u64)?;
        }
        let parts = Parts {
            status: got.answer.status,
            headers: got.answer.headers,
            url: got.answer.url,
            host: got.answer.host,
            digest: Some(got.digest),
        };
        Ok(Response::in_memory(parts, got.body, self))
    }

    /// Asks for a manifest without its content: digest, media type and length are in the headers.
    ///
    /// # Errors
    /// [`Digest`](crate::error::ErrorKind::Digest) when the registry tells of another digest than the one asked for, and
    /// those of [`request`](Transport::request).
    pub fn manifest_head(&self, tag_or_digest: &str, op: Option<&Op>) -> Result<Response> {
        let reference = TagOrDigest::parse(tag_or_digest)?;
        let call = self.call(op)?;
        let pull = manifest_question("HEAD", &reference);
        self.check_path(&pull.path)?;
        let budget = self.budget();
        self.over_hosts(pull.wanted, None, &call, &budget, |at, budget| {
            let answer = at.ask(&pull.ask(at.endpoint)?, &call, budget)?;
            if answer.refuses_head() || told_type(&answer).is_some_and(|t| is_of_files(&t)) {
                answer.body.discard();
                let got = self.manifest_at(at, &reference, &call, budget)?;
                return self.manifest_response(got, &call);
            }
            if !(200..300).contains(&answer.status) {
                return Err(self.refusal("HEAD", answer));
            }
            check_type(&answer, &[])?;
            if let TagOrDigest::Digest(digest) = &reference {
                check_told(&answer, digest)?;
            }
            Ok(self.stream(answer, &call))
        })
    }

    /// Deletes a manifest, or a tag where the registry can (distribution-spec, "Deleting manifests"). Under a referrers
    /// tag it stays listed.
    ///
    /// # Errors
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) when the registry does not delete, and those of
    /// [`request`](Transport::request).
    pub fn manifest_delete(&self, tag_or_digest: &str, op: Option<&Op>) -> Result<()> {
        let reference = TagOrDigest::parse(tag_or_digest)?;
        let call = self.call(op)?;
        let url = self.repository_url(&format!("manifests/{reference}"), &call)?;
        let answer = self.ask(&Ask::new("DELETE", url), &call, &mut self.budget())?;
        match answer.status {
            200..=299 => {
                answer.body.discard();
                Ok(())
            }
            400 | 405 => {
                let refusal = self.refusal("DELETE", answer);
                Err(Error::unsupported(format!(
                    "the registry does not delete this: {}",
                    refusal.message()
                ))
                .with_http_status(refusal.http_status().unwrap_or_default())
                .with_diagnostics(refusal.diagnostics().to_vec()))
            }
            _ => Err(self.refusal("DELETE", answer)),
        }
    }

    fn manifest_ask(&self, reference: &TagOrDigest, call: &Arc<Call>) -> Result<Got> {
        self.check_path(&path(reference))?;
        let budget = self.budget();
        self.over_hosts(wanted(reference), None, call, &budget, |at, budget| {
            self.manifest_at(at, reference, call, budget)
        })
    }

    /// Gets a manifest of one host and checks it.
    fn manifest_at(
        &self,
        at: &At<'_>,
        reference: &TagOrDigest,
        call: &Arc<Call>,
        budget: &mut Budget,
    ) -> Result<Got> {
        let most = self.options().size(Number::MaxManifest);
        let ask = manifest_question("GET", reference).ask(at.endpoint)?;
        let (answer, body) = self.ask_whole(at, &ask, most, "max-manifest-bytes", call, budget)?;
        let named = match reference {
            TagOrDigest::Digest(digest) => Some(digest.clone()),
            TagOrDigest::Tag(_) => None,
        };
        let digest = check_digest(&answer, &body, named)?;
        check_type(&answer, &body)?;
        check_coding(&answer, &body)?;
        Ok(Got {
            answer,
            body,
            digest,
        })
    }

    /// A checked manifest, in the course of a call.
    pub(crate) fn manifest_fetch(
        &self,
        reference: &TagOrDigest,
        call: &Arc<Call>,
    ) -> Result<Manifest> {
        let got = self.manifest_ask(reference, call)?;
        let told = content_type(&got.answer.headers).map(media_type::essence);
        let media_type = own_type(&got.body)
            .map(Cow::into_owned)
            .or(told)
            .unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
        Ok(Manifest {
            digest: got.digest,
            media_type,
            data: got.body,
        })
    }

    /// Stores a manifest under a tag or digest. The digest is that of the response.
    ///
    /// # Errors
    /// [`MediaType`](crate::error::ErrorKind::MediaType) when `media_type` is not the `mediaType` in the body,
    /// [`Digest`](crate::error::ErrorKind::Digest) when the bytes do not have the digest named or the registry
    /// reports another, [`Limit`](crate::error::ErrorKind::Limit) beyond `max-manifest-bytes`, and those of
    /// [`request`](Transport::request).
    pub fn manifest_put(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        data: &[u8],
        op: Option<&Op>,
    ) -> Result<Response> {
        let reference = TagOrDigest::parse(tag_or_digest)?;
        let call = self.call(op)?;
        self.manifest_publish(&reference, media_type, data, &call)
    }

    /// Stores a manifest, in the course of a call, and enters it among the referrers of its subject if the registry
    /// does not.
    pub(crate) fn manifest_publish(
        &self,
        reference: &TagOrDigest,
        media_type: &str,
        data: &[u8],
        call: &Arc<Call>,
    ) -> Result<Response> {
        let response = self.manifest_store(reference, media_type, data, call)?;
        if response.header("oci-subject").is_none() {
            if let Some(digest) = response.digest() {
                referrers::enter(self, data, media_type, digest, call)?;
            }
        }
        Ok(response)
    }

    /// Stores a manifest and nothing else.
    pub(crate) fn manifest_store(
        &self,
        reference: &TagOrDigest,
        media_type: &str,
        data: &[u8],
        call: &Arc<Call>,
    ) -> Result<Response> {
        let most = self.options().size(Number::MaxManifest);
        if data.len() > most {
            return Err(Error::limit(format!(
                "the manifest has {} bytes, more than {most}; option max-manifest-bytes sets the limit",
                data.len()
            )));
        }
        if let Some(inside) = own_type(data) {
            if !media_type::same(&inside, media_type) {
                return Err(Error::media_type(format!(
                    "the manifest says it is {inside:.128}, but was given as {media_type:.128}"
                )));
            }
        }
        let digest = match reference {
            TagOrDigest::Digest(named) => {
                let digest = Digest::of(named.algorithm(), data);
                if digest != *named {
                    return Err(Error::digest(format!(
                        "the manifest has digest {digest}, not {named}"
                    )));
                }
                digest
            }
            TagOrDigest::Tag(_) => Digest::of(Algorithm::Sha256, data),
        };
        let source = Source::bytes(data);
        let length = Some(data.len() as u64);
        if let Some(op) = call.progress() {
            op.begin(length);
        }
        let url = self.repository_url(&format!("manifests/{reference}"), call)?;
        let mut ask = Ask::new("PUT", url).header(header::CONTENT_TYPE, text_value(media_type)?);
        ask.body = Some(Payload {
            source: &source,
            offset: 0,
            length,
            counted: true,
        });
        let answer = self.ask(&ask, call, &mut self.budget())?;
        if !(200..300).contains(&answer.status) {
            return Err(self.refusal("PUT", answer));
        }
        check_told(&answer, &digest)?;
        let Answer {
            status,
            headers,
            url,
            body,
            host,
            ..
        } = answer;
        body.discard();
        let parts = Parts {
            status,
            headers,
            url,
            host,
            digest: Some(digest),
        };
        Ok(Response::in_memory(parts, Vec::new(), self))
    }
}

/// The digest of the bytes, when it is the one wanted and the one announced.
fn check_digest(answer: &Answer, body: &[u8], wanted: Option<Digest>) -> Result<Digest> {
    let announced = match answer.headers.get("docker-content-digest") {
        None => None,
        Some(value) => {
            let value = value.to_str().unwrap_or_default().trim();
            match value.parse::<Digest>() {
                Ok(announced) => Some(announced),
                // One that cannot be checked changes nothing about what was asked for by a digest that can; one that is
                // not there, or by an algorithm that is not known here, may be passed over.
                Err(_) if wanted.is_some() || value.is_empty() || digest::is_foreign(value) => None,
                Err(_) => {
                    return Err(Error::protocol(format!(
                        "{} sent a Docker-Content-Digest that is no digest",
                        answer.url
                    )));
                }
            }
        }
    };
    let mismatch = |got: &Digest, want: &Digest, who: &str| {
        Error::digest(format!(
            "{} sent a manifest with digest {got}, {who} {want}",
            answer.url
        ))
        .with_http_status(answer.status)
    };
    if let Some(want) = &announced {
        let got = Digest::of(want.algorithm(), body);
        if got != *want {
            return Err(mismatch(&got, want, "but announced"));
        }
    }
    match wanted {
        Some(want) => {
            let got = announced
                .filter(|announced| announced.algorithm() == want.algorithm())
                .unwrap_or_else(|| Digest::of(want.algorithm(), body));
            if got == want {
                Ok(got)
            } else {
                Err(mismatch(&got, &want, "where it was asked for"))
            }
        }
        None => Ok(announced.unwrap_or_else(|| Digest::of(Algorithm::Sha256, body))),
    }
}

/// No coding was asked for. Some answers name one that they do not have.
fn check_coding(answer: &Answer, body: &[u8]) -> Result<()> {
    let Some(coding) = answer.headers.get(header::CONTENT_ENCODING) else {
        return Ok(());
    };
    if body.trim_ascii_start().starts_with(b"{") {
        return Ok(());
    }
    let coding = answer.body.secrets().quote(coding.as_bytes(), 128);
    let message = format!(
        "{} sent a manifest in the coding {coding}, which was not asked for",
        answer.url
    );
    Err(Error::protocol(message).with_http_status(answer.status))
}

/// A manifest is of a type asked for, and says the same of itself: a document must not be taken for one
/// thing by its header and for another by its content.
fn check_type(answer: &Answer, body: &[u8]) -> Result<()> {
    let Some(told) = told_type(answer) else {
        return Ok(());
    };
    let inside = own_type(body);
    let told = match &inside {
        Some(inside) if !media_type::is_accepted(&told) && is_of_files(&told) => inside,
        _ => &*told,
    };
    let quote = |text: &str| answer.body.secrets().quote(text.as_bytes(), 128);
    let refuse = |why: String| {
        Err(Error::media_type(format!("{} {why}", answer.url)).with_http_status(answer.status))
    };
    if !media_type::is_accepted(told) {
        return refuse(format!(
            "answered with media type {}, which is no manifest or index that is accepted",
            quote(told)
        ));
    }
    match &inside {
        Some(inside) if !media_type::same(inside, told) => refuse(format!(
            "sent a manifest as {} that says it is {}",
            quote(told),
            quote(inside)
        )),
        _ => Ok(()),
    }
}

fn told_type(answer: &Answer) -> Option<Cow<'_, str>> {
    let told = answer.headers.get(header::CONTENT_TYPE)?.as_bytes();
    (!told.trim_ascii().is_empty()).then(|| String::from_utf8_lossy(told))
}

/// What servers of plain files say of a manifest. What it is, it must say itself then.
fn is_of_files(told: &str) -> bool {
    ["application/json", "text/plain", "application/octet-stream"]
        .iter()
        .any(|t| media_type::same(t, told))
}

/// The `mediaType` a manifest states of itself.
fn own_type(body: &[u8]) -> Option<Cow<'_, str>> {
    // What else is in it is only passed over. Names and values are rarely escaped, and then not copied.
    let stated = match serde_json::from_slice::<BTreeMap<&str, &RawValue>>(body) {
        Ok(manifest) => *manifest.get("mediaType")?,
        Err(_) => {
            let manifest: BTreeMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
            *manifest.get("mediaType")?
        }
    };
    serde_json::from_str(stated.get())
        .map(Cow::Borrowed)
        .or_else(|_| serde_json::from_str(stated.get()).map(Cow::Owned))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_are_accepted() {
        assert_eq!(ACCEPT, media_type::MANIFEST_TYPES.join(","));
    }

    #[test]
    fn what_a_manifest_says_it_is() {
        for (text, want) in [
            (
                r#"{"layers":[{"mediaType":"b"}],"mediaType":"a"}"#,
                Some("a"),
            ),
            (r#"{"mediaType":"a","mediaType":"b"}"#, Some("b")),
            (r#"{"mediaType":"\u0061"}"#, Some("a")),
            (r#"{"media\u0054ype":"a"}"#, Some("a")),
            (r#"{"mediaType":1}"#, None),
            (r#"{"mediaType":null}"#, None),
            (r#"{"layers":[{"mediaType":"b"}]}"#, None),
            (r#"["mediaType"]"#, None),
            (r#"{"mediaType":"a""#, None),
            ("", None),
        ] {
            assert_eq!(own_type(text.as_bytes()).as_deref(), want, "{text}");
        }
    }
}

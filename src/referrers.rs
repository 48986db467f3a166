//! Referrers: what points at a manifest with its `subject` (distribution-spec, "Listing Referrers" and
//! "Referrers Tag Schema").

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::digest::{Digest, referrers_tag};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::media_type;
use crate::name::TagOrDigest;
use crate::net::call::Call;
use crate::op::Op;
use crate::options::Number;
use crate::pages::Pages;
use crate::request::Request;
use crate::transport::Transport;
use crate::url::form_encode;

/// A cursor over the descriptors of what refers to a manifest.
#[derive(Debug)]
pub struct Referrers {
    transport: Transport,
    digest: Digest,
    artifact_type: Option<String>,
    pages: Pages,
    ready: VecDeque<String>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No page was asked for yet.
    New,
    /// The registry has the referrers API.
    Api,
    /// It has not; the index under the referrers tag is all there is.
    Tag,
    /// All is in `ready`.
    Last,
}

impl Referrers {
    /// Starts a listing of what refers to `digest`, of one artifact type or of all.
    ///
    /// # Errors
    /// [`Syntax`](crate::error::ErrorKind::Syntax) for the digest.
    pub fn new(transport: &Transport, digest: &str, artifact_type: Option<&str>) -> Result<Self> {
        let digest: Digest = digest.parse()?;
        let filter =
            artifact_type.map_or_else(String::new, |t| format!("?artifactType={}", form_encode(t)));
        let mut request = Request::new(None, &format!("./referrers/{digest}{filter}"));
        request.accept_type(media_type::OCI_INDEX);
        // "See other" is a web page, not followed; what else redirects may lead to the API.
        request.accept_status(200).accept_status(303);
        Ok(Self {
            pages: Pages::new(transport, &request),
            transport: transport.clone(),
            digest,
            artifact_type: artifact_type.map(str::to_owned),
            ready: VecDeque::new(),
            state: State::New,
        })
    }

    /// The next descriptor as JSON text, or `None` after the last.
    ///
    /// # Errors
    /// Those of [`Pages::next_page`], and [`Protocol`](crate::error::ErrorKind::Protocol) for an answer that is
    /// no index.
    pub fn next_referrer(&mut self, op: Option<&Op>) -> Result<Option<String>> {
        if let Some(descriptor) = self.ready.pop_front() {
            return Ok(Some(descriptor));
        }
        // The API and the tag in its place are asked within the limits of one call.
        let call = self.transport.call(op)?;
        loop {
            if let Some(descriptor) = self.ready.pop_front() {
                return Ok(Some(descriptor));
            }
            if self.state == State::Last {
                return Ok(None);
            }
            if self.state == State::Tag {
                let index = tagged_index(&self.transport, &self.digest, &call)?;
                self.state = State::Last;
                self.keep(index.as_ref().map(listed).unwrap_or_default());
                continue;
            }
            let is_first = self.state == State::New;
            let page = self.pages.next_parsed(&call, |page| match page.status() {
                303 if is_first => Ok(None),
                // The API says what it sends.
                200 if is_first && page.header("content-type").is_none() => Ok(None),
                303 => Err(Error::protocol(format!(
                    "{} sends readers of the referrers elsewhere",
                    page.url()
                ))
                .with_http_status(303)),
                _ => descriptors(page.body_up_to(Number::MaxPage)?)
                    .map(Some)
                    .ok_or_else(|| no_index(&self.digest)),
            });
            self.state = match page {
                Ok(Some(Some(found))) => {
                    self.keep(found);
                    State::Api
                }
                Ok(Some(None)) => State::Tag,
                Ok(None) => State::Last,
                Err(e) if is_first && is_missing_api(&e) => State::Tag,
                Err(e) => return Err(e),
            };
        }
    }

    /// Keeps those of the artifact type that is asked for: a registry may leave the filter to the client, and one that
    /// applied it loses nothing.
    fn keep(&mut self, found: Vec<Value>) {
        let wanted = self.artifact_type.as_deref();
        let kind = |d: &Value| {
            d.get("artifactType")
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        self.ready.extend(
            found
                .into_iter()
                .filter(|d| wanted.is_none() || kind(d).as_deref() == wanted)
                .map(|d| d.to_string()),
        );
    }
}

/// Whether an answer says that there is no referrers API: what registries without it send.
fn is_missing_api(e: &Error) -> bool {
    match e.kind() {
        ErrorKind::MediaType => true,
        ErrorKind::Status | ErrorKind::Protocol => {
            matches!(
                e.http_status(),
                Some(300..=399 | 400 | 404 | 405 | 406 | 501)
            )
        }
        _ => false,
    }
}

fn no_index(digest: &Digest) -> Error {
    Error::protocol(format!(
        "the referrers of {digest} came as something that is no index"
    ))
}

/// The descriptors that an index lists.
fn descriptors(body: &[u8]) -> Option<Vec<Value>> {
    index(body).map(|index| listed(&index))
}

/// An index, which lists what it refers to, or nothing.
fn index(body: &[u8]) -> Option<Map<String, Value>> {
    match json::value(body) {
        Ok(Value::Object(index)) => match index.get("manifests") {
            None | Some(Value::Null | Value::Array(_)) => Some(index),
            Some(_) => None,
        },
        _ => None,
    }
}

fn listed(index: &Map<String, Value>) -> Vec<Value> {
    let all = index.get("manifests").and_then(Value::as_array);
    let all = all.into_iter().flatten();
    all.filter(|d| d.is_object()).cloned().collect()
}

/// The index under the referrers tag, or `None` if there is none. Anything else under that tag is an error: it is not
/// ours to replace.
fn tagged_index(
    transport: &Transport,
    digest: &Digest,
    call: &Arc<Call>,
) -> Result<Option<Map<String, Value>>> {
    let mut response = match transport.manifest_get_at_home(&referrers_tag(digest), call) {
        Ok(response) => response,
        Err(e) if e.http_status() == Some(404) => return Ok(None),
        Err(e) => return Err(e),
    };
    let body = response.take_body()?;
    let index = index(&body).ok_or_else(|| no_index(digest))?;
    // Where both are there, they are the same.
    let own = index.get("mediaType").and_then(Value::as_str);
    let told = response.header("content-type");
    match told.filter(|told| !told.is_empty()).or(own) {
        Some(told) if !media_type::same(told, media_type::OCI_INDEX) => Err(no_index(digest)),
        _ => Ok(Some(index)),
    }
}

/// Enters a manifest with a `subject` into the index under the referrers tag, for registries that do not do
/// it themselves.
pub(crate) fn enter(
    transport: &Transport,
    manifest: &[u8],
    media_type: &str,
    digest: &Digest,
    call: &Arc<Call>,
) -> Result<()> {
    let Ok(manifest_json) = json::value(manifest) else {
        return Ok(());
    };
    let subject = manifest_json
        .get("subject")
        .and_then(|s| s.get("digest"))
        .and_then(Value::as_str);
    let Some(Ok(subject)) = subject.map(str::parse::<Digest>) else {
        return Ok(());
    };
    let mut index = tagged_index(transport, &subject, call)?.unwrap_or_default();
    let mut all = listed(&index);
    let own = digest.as_str();
    if all
        .iter()
        .any(|d| d.get("digest").and_then(Value::as_str) == Some(own))
    {
        return Ok(());
    }
    let mut descriptor = serde_json::Map::new();
    descriptor.insert("mediaType".to_owned(), media_type.into());
    descriptor.insert("digest".to_owned(), own.into());
    descriptor.insert("size".to_owned(), manifest.len().into());
    let config_type = manifest_json.get("config").and_then(|c| c.get("mediaType"));
    let mut types = manifest_json
        .get("artifactType")
        .into_iter()
        .chain(config_type);
    // An empty one is as good as none.
    if let Some(kind) = types.find(|kind| kind.as_str().is_some_and(|kind| !kind.is_empty())) {
        descriptor.insert("artifactType".to_owned(), kind.clone());
    }
    if let Some(annotations) = manifest_json.get("annotations") {
        descriptor.insert("annotations".to_owned(), annotations.clone());
    }
    all.push(Value::Object(descriptor));
    // What else the index says stays.
    index.insert("schemaVersion".to_owned(), 2.into());
    index.insert("mediaType".to_owned(), media_type::OCI_INDEX.into());
    index.insert("manifests".to_owned(), all.into());
    let index = Value::Object(index).to_string();
    let tag = TagOrDigest::parse(&referrers_tag(&subject))?;
    transport
        .manifest_store(&tag, media_type::OCI_INDEX, index.as_bytes(), call)
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_the_api() {
        for (kind, status, want) in [
            (ErrorKind::Status, Some(404), true),
            (ErrorKind::Status, Some(400), true),
            (ErrorKind::Status, Some(406), true),
            (ErrorKind::Protocol, Some(303), true),
            (ErrorKind::MediaType, Some(200), true),
            (ErrorKind::Status, Some(500), false),
            (ErrorKind::Auth, Some(401), false),
            (ErrorKind::Network, None, false),
        ] {
            let mut error = Error::new(kind, "x");
            if let Some(status) = status {
                error = error.with_http_status(status);
            }
            assert_eq!(is_missing_api(&error), want, "{kind:?} {status:?}");
        }
    }

    #[test]
    fn indexes() {
        assert_eq!(
            descriptors(br#"{"manifests":[{"digest":"x"},1]}"#)
                .unwrap()
                .len(),
            1
        );
        assert_eq!(descriptors(br#"{"manifests":null}"#).unwrap().len(), 0);
        assert!(descriptors(br#"{"manifests":"x"}"#).is_none());
        assert!(descriptors(b"<html>").is_none());
    }
}

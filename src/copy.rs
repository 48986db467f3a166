//! An image, or an index with all its images, from one transport to another.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::blob::Place;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::manifest::Manifest;
use crate::media_type;
use crate::name::TagOrDigest;
use crate::net::call::{Call, SLICE};
use crate::op::Op;
use crate::options::Number;
use crate::response::Response;
use crate::retry::Budget;
use crate::source::{ReadBytes, Source};
use crate::transport::Transport;

/// Most manifests one copy may consist of, and their bytes in all, which are kept until the blobs are there.
const MAX_MANIFESTS: usize = 10_000;
const MAX_BYTES: usize = 64 << 20;

/// Copies what `reference` (a tag or digest) names at `src`, with everything it refers to, to `dst` under
/// `dst_reference`. Blobs are mounted when both are repositories of one registry, else streamed, as many at once
/// as option `parallel` of `dst` says; nothing touches the disk.
///
/// # Errors
/// Those of [`Transport::manifest_get`], [`Transport::blob_get`], [`Transport::blob_put`] and
/// [`Transport::manifest_put`]; [`Limit`](ErrorKind::Limit) for an image of more than 10,000 manifests or 64 MiB of
/// them. What was copied before a failure stays.
pub fn copy(
    src: &Transport,
    reference: &str,
    dst: &Transport,
    dst_reference: &str,
    op: Option<&Op>,
) -> Result<()> {
    let target = TagOrDigest::parse(dst_reference)?;
    let (src_call, dst_call) = (src.call(op)?, dst.call(op)?);
    let plan = Plan::of(src, reference, &src_call)?;
    if let Some(op) = op {
        // The sizes are what manifests say.
        let sizes = plan.blobs.iter().map(|b| b.size);
        op.begin(Some(sizes.fold(0, u64::saturating_add)));
    }
    // The progress is that of the whole; its parts do not count for themselves.
    let (src_call, dst_call) = (src_call.uncounted(), dst_call.uncounted());
    let route = Route {
        src,
        dst,
        src_call,
        dst_call: Arc::clone(&dst_call),
    };
    copy_blobs(&route, plan.blobs)?;
    let last = plan.manifests.len().saturating_sub(1);
    for (i, manifest) in plan.manifests.iter().enumerate() {
        let reference = if i == last {
            target.clone()
        } else {
            TagOrDigest::Digest(manifest.digest.clone())
        };
        dst.manifest_publish(&reference, &manifest.media_type, &manifest.data, &dst_call)?;
    }
    Ok(())
}

/// What has to be copied, in order: blobs, then manifests, children before parents.
#[derive(Default)]
struct Plan {
    blobs: Vec<BlobRef>,
    manifests: Vec<Manifest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct BlobRef {
    digest: Digest,
    size: u64,
    /// Kept elsewhere by its publisher; a registry need not have it.
    foreign: bool,
}

impl Plan {
    fn of(src: &Transport, reference: &str, call: &Arc<Call>) -> Result<Self> {
        let mut plan = Self::default();
        let mut seen = HashSet::new();
        let (mut count, mut bytes) = (0, 0);
        let mut fetch = |reference: &TagOrDigest| {
            let manifest = src.manifest_fetch(reference, call)?;
            count += 1;
            bytes += manifest.data.len();
            if count > MAX_MANIFESTS || bytes > MAX_BYTES {
                return Err(Error::limit(format!(
                    "an image of more than {MAX_MANIFESTS} manifests or {MAX_BYTES} bytes of them is not copied"
                )));
            }
            Ok(manifest)
        };
        let top = fetch(&TagOrDigest::parse(reference)?)?;
        // Depth first; a manifest is entered behind its children.
        let mut stack = vec![(top, false)];
        while let Some((manifest, expanded)) = stack.pop() {
            if expanded {
                plan.manifests.push(manifest);
                continue;
            }
            let refers = References::of(&manifest)?;
            for blob in refers.blobs {
                if seen.insert(blob.digest.clone()) {
                    plan.blobs.push(blob);
                }
            }
            stack.push((manifest, true));
            for child in refers.manifests {
                if seen.insert(child.clone()) {
                    stack.push((fetch(&TagOrDigest::Digest(child))?, false));
                }
            }
        }
        Ok(plan)
    }
}

/// What a manifest or index refers to.
struct References {
    blobs: Vec<BlobRef>,
    manifests: Vec<Digest>,
}

impl References {
    fn of(manifest: &Manifest) -> Result<Self> {
        let bad = |why: &str| Error::protocol(format!("manifest {}: {why}", manifest.digest));
        let json = json::value(&manifest.data).map_err(|_| bad("it is not JSON"))?;
        let digest = |d: &Value| -> Result<Digest> {
            let text = d
                .get("digest")
                .and_then(Value::as_str)
                .ok_or_else(|| bad("a descriptor has no digest"))?;
            text.parse()
                .map_err(|_| bad("a descriptor has a malformed digest"))
        };
        let list = |name: &str| {
            let list = json.get(name).and_then(Value::as_array);
            list.map_or(&[][..], Vec::as_slice)
        };
        let config = json.get("config").map_or(&[][..], std::slice::from_ref);
        let (mut blobs, mut manifests) = (Vec::new(), Vec::new());
        for (descriptors, of_index) in [
            (config, false),
            (list("layers"), false),
            (list("blobs"), false),
            (list("manifests"), true),
        ] {
            for descriptor in descriptors {
                let kind = descriptor.get("mediaType").and_then(Value::as_str);
                // What an index lists may also be blobs, as in caches of builds.
                if of_index && kind.is_none_or(media_type::is_manifest) {
                    manifests.push(digest(descriptor)?);
                    continue;
                }
                let size = descriptor
                    .get("size")
                    .and_then(Value::as_u64)
                    .ok_or_else(|| bad("a descriptor has no size"))?;
                let urls = descriptor.get("urls").and_then(Value::as_array);
                let foreign = urls.is_some_and(|urls| !urls.is_empty())
                    || kind.is_some_and(media_type::is_foreign);
                blobs.push(BlobRef {
                    digest: digest(descriptor)?,
                    size,
                    foreign,
                });
            }
        }
        Ok(Self { blobs, manifests })
    }
}

/// From where to where, and under which calls.
struct Route<'a> {
    src: &'a Transport,
    dst: &'a Transport,
    src_call: Arc<Call>,
    dst_call: Arc<Call>,
}

fn copy_blobs(route: &Route<'_>, mut blobs: Vec<BlobRef>) -> Result<()> {
    let moved = AtomicU64::new(0);
    // The first, which is mostly small, by the thread of the call: it may ask the program for credentials.
    if !blobs.is_empty() {
        copy_blob(route, &blobs.remove(0), &moved)?;
        report(route, &moved)?;
    }
    let at_once = route.dst.options().size(Number::Parallel).min(blobs.len());
    if at_once < 2 {
        return blobs.iter().try_for_each(|blob| {
            copy_blob(route, blob, &moved)?;
            report(route, &moved)
        });
    }
    let queue = Mutex::new(VecDeque::from(blobs));
    let failed = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once)
            .map_while(|_| {
                let helper = Route {
                    src: route.src,
                    dst: route.dst,
                    src_call: route.src_call.quiet(),
                    dst_call: route.dst_call.quiet(),
                };
                let (queue, failed, moved, stop) = (&queue, &failed, &moved, &stop);
                let thread = std::thread::Builder::new().name("rt-copy".to_owned());
                let work = move || {
                    while !stop.load(Ordering::Relaxed) {
                        let next = queue
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .pop_front();
                        let Some(blob) = next else { return };
                        if copy_blob(&helper, &blob, moved).is_err() {
                            // The thread of the call tries again: it may ask the program for credentials.
                            failed
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(blob);
                        }
                    }
                };
                // Where the system gives no more threads, fewer do the work.
                thread.spawn_scoped(scope, work).ok()
            })
            .collect();
        let result = loop {
            let mut next = failed.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if next.is_none() && threads.is_empty() {
                next = queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
            }
            let step = match next {
                Some(blob) => copy_blob(route, &blob, &moved).and_then(|()| report(route, &moved)),
                None if threads
                    .iter()
                    .all(std::thread::ScopedJoinHandle::is_finished) =>
                {
                    if failed
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .is_empty()
                    {
                        break report(route, &moved);
                    }
                    Ok(())
                }
                None => {
                    std::thread::sleep(SLICE / 5);
                    report(route, &moved)
                }
            };
            if step.is_err() {
                break step;
            }
        };
        stop.store(true, Ordering::Relaxed);
        if result.is_err() {
            route.src_call.abandon_quiet();
            route.dst_call.abandon_quiet();
        }
        result
    })
}

/// Tells the progress, on the thread of the call.
fn report(route: &Route<'_>, moved: &AtomicU64) -> Result<()> {
    route.dst_call.check()?;
    match route.dst_call.op() {
        Some(op) => op.advance(moved.swap(0, Ordering::Relaxed)),
        None => Ok(()),
    }
}

fn copy_blob(route: &Route<'_>, blob: &BlobRef, moved: &AtomicU64) -> Result<()> {
    let from = (route.src.registry() == route.dst.registry())
        .then(|| route.src.repository())
        .flatten();
    let place = Place::new(route.src, blob.digest.clone())?;
    let reader = Fetch {
        place,
        call: Arc::clone(&route.src_call),
        response: None,
        left: blob.size,
        size: blob.size,
        missing: Arc::default(),
    };
    let missing = Arc::clone(&reader.missing);
    let source = Source::reader(Box::new(reader), Some(blob.size));
    match route
        .dst
        .blob_store(Some(&blob.digest), &source, from, &route.dst_call)
    {
        Err(_) if blob.foreign && missing.load(Ordering::Relaxed) => {}
        other => {
            other?;
        }
    }
    moved.fetch_add(blob.size, Ordering::Relaxed);
    Budget::give_back(&route.dst_call);
    Budget::give_back(&route.src_call);
    Ok(())
}

/// Reads a blob from its registry when it is wanted, and again from the start when it has to be sent again.
struct Fetch {
    place: Place,
    call: Arc<Call>,
    response: Option<Response>,
    /// What is to come of the size that its descriptor tells.
    left: u64,
    size: u64,
    missing: Arc<AtomicBool>,
}

impl ReadBytes for Fetch {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let response = match &mut self.response {
            Some(response) => response,
            None => match self.place.clone().whole(&self.call) {
                Ok(response) => self.response.insert(response),
                Err(e) => {
                    self.missing.store(
                        e.kind() == ErrorKind::Status && e.http_status() == Some(404),
                        Ordering::Relaxed,
                    );
                    return Err(e);
                }
            },
        };
        let n = response.read(buf)?;
        if n == 0 && self.left > 0 && !buf.is_empty() {
            return Err(Error::digest(format!(
                "{} has {} bytes, not {} as its descriptor says",
                self.place,
                self.size - self.left,
                self.size
            )));
        }
        self.left = self.left.saturating_sub(n as u64);
        Ok(n)
    }

    fn rewind(&mut self) -> bool {
        self.response = None;
        self.left = self.size;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn what_a_manifest_refers_to() {
        let d = |n: &str| Digest::of(Algorithm::Sha256, n.as_bytes());
        let manifest = |json: String| Manifest {
            digest: Digest::of(Algorithm::Sha256, json.as_bytes()),
            media_type: String::new(),
            data: json.into_bytes(),
        };
        let image = format!(
            r#"{{"config":{{"digest":"{}","size":2}},"layers":[{{"digest":"{}","size":3,"mediaType":"{}"}}]}}"#,
            d("c"),
            d("l"),
            media_type::DOCKER_FOREIGN_LAYER
        );
        let refers = References::of(&manifest(image)).unwrap();
        assert_eq!(
            refers
                .blobs
                .iter()
                .map(|b| (b.size, b.foreign))
                .collect::<Vec<_>>(),
            [(2, false), (3, true)]
        );
        let index = format!(
            r#"{{"manifests":[{{"digest":"{}","size":1}},{{"digest":"{}","size":4,"mediaType":"{}"}}]}}"#,
            d("m"),
            d("l"),
            media_type::OCI_LAYER
        );
        let refers = References::of(&manifest(index)).unwrap();
        assert_eq!(refers.manifests, [d("m")]);
        assert_eq!((refers.blobs.len(), refers.blobs[0].size), (1, 4));
        for bad in [
            "[",
            r#"{"layers":[{"digest":"x","size":1}]}"#,
            r#"{"layers":[{"size":1}]}"#,
            r#"{"config":{"digest":"sha256:../../x","size":1}}"#,
        ] {
            assert!(References::of(&manifest(bad.to_owned())).is_err(), "{bad}");
        }
    }
}

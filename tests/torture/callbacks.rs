//! Callbacks that fail, cancel or close at each of the times they are called.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use registry_transport::creds::Creds;
use registry_transport::error::{Error, ErrorKind, Result};
use registry_transport::op::Op;
use registry_transport::source::{ReadBytes, Source};
use registry_transport::transport::Transport;

use super::PATIENT;
use super::disk::Outcome;
use super::flows::FLOWS;
use super::scene::{PASSWORD, Ready, Scene, USER, WORLD, scratch};
use super::support::registry::sha256;
use super::support::server::lock;

/// What a callback does at its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Fail,
    Cancel,
    Close,
}

/// Counts the calls of all callbacks of a run, and does the deed at one of them.
struct Turns {
    count: AtomicUsize,
    at: usize,
    deed: Deed,
    op: Op,
    transport: Mutex<Option<Transport>>,
}

impl Turns {
    /// Whether this call is to fail.
    fn next(&self) -> bool {
        if self.count.fetch_add(1, Ordering::SeqCst) != self.at {
            return false;
        }
        match self.deed {
            Deed::Fail => return true,
            Deed::Cancel => self.op.cancel(),
            Deed::Close => {
                if let Some(transport) = &*lock(&self.transport) {
                    transport.close();
                }
            }
        }
        false
    }
}

struct Reader {
    at: usize,
    turns: Arc<Turns>,
}

impl ReadBytes for Reader {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        if self.turns.next() {
            return Err(Error::new(ErrorKind::Cancelled, "the reader failed"));
        }
        let rest = &WORLD.fresh[self.at..];
        let n = rest.len().min(buf.len()).min(1300);
        buf[..n].copy_from_slice(&rest[..n]);
        self.at += n;
        Ok(n)
    }

    fn rewind(&mut self) -> bool {
        self.at = 0;
        !self.turns.next()
    }
}

/// What the program does in a run, and whether the right bytes came of it.
type Work = fn(&Ready, &Transport, &Arc<Turns>) -> Result<bool>;

const WORKS: [(&str, Work); 3] = [
    ("upload", |ready, transport, turns| {
        let reader = Reader {
            at: 0,
            turns: Arc::clone(turns),
        };
        let size = WORLD.fresh.len() as u64;
        let source = Source::reader(Box::new(reader), Some(size));
        let digest = sha256(&WORLD.fresh);
        transport.blob_put(Some(&digest), &source, None, Some(&turns.op))?;
        let there = ready.run.registry(0).blob("a/b", &digest);
        Ok(there.is_some_and(|blob| *blob == WORLD.fresh))
    }),
    ("drain", |_, transport, turns| {
        let mut response = transport.blob_get(&WORLD.big, Some(&turns.op))?;
        let mut seen = Vec::new();
        response.drain(&mut |piece| {
            seen.extend(piece);
            !turns.next()
        })?;
        Ok(sha256(&seen) == WORLD.big)
    }),
    ("save", |ready, transport, turns| {
        transport.blob_save(&WORLD.big, &ready.target(), Some(&turns.op))?;
        let seen = std::fs::read(ready.target()).unwrap_or_default();
        Ok(sha256(&seen) == WORLD.big)
    }),
];

/// All callbacks at all their turns.
pub fn torture() -> Outcome {
    let mut outcome = Outcome::default();
    let scene = Scene::new(false);
    for (name, work) in WORKS {
        let count = match run(&scene, work, Deed::Fail, usize::MAX) {
            Ok((_, count)) => count,
            Err(why) => {
                outcome.failures.push((name.to_owned(), why));
                continue;
            }
        };
        for at in 0..count {
            for deed in [Deed::Fail, Deed::Cancel, Deed::Close] {
                outcome.runs += 1;
                match run(&scene, work, deed, at) {
                    Ok((is_right, _)) => outcome.right += usize::from(is_right),
                    Err(why) => outcome
                        .failures
                        .push((format!("{name}, callback {at}, {deed:?}"), why)),
                }
            }
        }
    }
    outcome
}

/// Whether the run was right in spite of it, and how many callbacks there were.
fn run(
    scene: &Scene,
    work: Work,
    deed: Deed,
    at: usize,
) -> std::result::Result<(bool, usize), String> {
    let flow = FLOWS.iter().find(|flow| flow.name == "push-chunked");
    let flow = flow.ok_or("there is no such flow")?;
    let turns = |at| {
        Arc::new(Turns {
            count: AtomicUsize::new(0),
            at,
            deed,
            op: Op::new(),
            transport: Mutex::default(),
        })
    };
    let first = turns(at);
    let asked = Arc::clone(&first);
    let creds = Creds::callback(Arc::new(move |_, _| {
        if asked.next() {
            return Err(Error::new(ErrorKind::Auth, "no credentials are given out"));
        }
        Creds::basic(USER, PASSWORD)
    }));
    let ready = scene.set_in(flow, None, PATIENT, &scratch(), Some(&creds));
    let watch = |turns: &Arc<Turns>| {
        let own = Arc::downgrade(turns);
        let progress = move |_: u64, _: Option<u64>| own.upgrade().is_none_or(|t| !t.next());
        turns.op.set_progress(Some(Arc::new(progress)));
        *lock(&turns.transport) = Some(ready.home.clone());
    };
    watch(&first);
    let result = work(&ready, &ready.home, &first);
    // The handle and what it is called with hold each other.
    *lock(&first.transport) = None;
    let count = first.count.load(Ordering::SeqCst);
    let is_right = match result {
        Ok(true) if at == usize::MAX || deed != Deed::Fail => true,
        Ok(true) => return Err("the failure was not told".to_owned()),
        Ok(false) => return Err("success, but with something else".to_owned()),
        Err(e) => {
            let is_it = match deed {
                Deed::Fail => matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::Auth),
                _ => e.kind() == ErrorKind::Cancelled,
            };
            if !is_it || at == usize::MAX {
                return Err(format!("{:?}: {e}", e.kind()));
            }
            false
        }
    };
    ready.run.renew();
    let second = turns(usize::MAX);
    watch(&second);
    let again = work(&ready, &ready.home, &second);
    *lock(&second.transport) = None;
    match again {
        Ok(true) => Ok((is_right, count)),
        Ok(false) => Err("the run after it saw something else".to_owned()),
        Err(e) => Err(format!("the run after it failed: {:?}: {e}", e.kind())),
    }
}

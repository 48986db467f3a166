//! Callbacks of the C API that fail, lie, cancel or close at each of the times they are called: readers, writers,
//! credentials, progress, log. Each must end the call in the way the header says, and be given back once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr::null_mut;

use super::PATIENT;
use super::disk::Outcome;
use super::flows::FLOWS;
use super::scene::{PASSWORD, Ready, Scene, USER, WORLD, scratch};
use super::support::registry::{OCI_MANIFEST, sha256};

type Handle = *mut c_void;
type Log = extern "C" fn(*mut c_void, i32, *const c_char);
type Drop = extern "C" fn(*mut c_void);
type Ask = extern "C" fn(*mut c_void, *const c_char, *const c_char, *mut i32) -> Handle;
type Progress = extern "C" fn(*mut c_void, i64, i64) -> i32;
type Read = extern "C" fn(*mut c_void, *mut c_void, usize) -> i64;
type Rewind = extern "C" fn(*mut c_void) -> i32;
type Write = extern "C" fn(*mut c_void, *const c_void, usize) -> i32;

// As the header declares them; handles of all types are pointers.
unsafe extern "C" {
    fn rt_options_new() -> Handle;
    fn rt_options_set_int(options: Handle, key: *const c_char, value: i64) -> i32;
    fn rt_options_set_log(
        options: Handle,
        level: i32,
        log: Log,
        user: *const c_void,
        drop: Drop,
    ) -> i32;
    fn rt_creds_callback(ask: Ask, user: *const c_void, drop: Drop) -> Handle;
    fn rt_creds_basic(user: *const c_char, password: *const c_char) -> Handle;
    fn rt_transport_new(
        name: *const c_char,
        actions: u32,
        creds: Handle,
        options: Handle,
        out: *mut Handle,
        err: *mut Handle,
    ) -> i32;
    fn rt_transport_close(transport: Handle);
    fn rt_op_new() -> Handle;
    fn rt_op_set_progress(op: Handle, f: Progress, user: *const c_void, drop: Drop) -> i32;
    fn rt_op_cancel(op: Handle);
    fn rt_source_reader(
        read: Read,
        rewind: Rewind,
        size: i64,
        user: *const c_void,
        drop: Drop,
    ) -> Handle;
    fn rt_req_new(method: *const c_char, path: *const c_char) -> Handle;
    fn rt_req_header(request: Handle, name: *const c_char, value: *const c_char) -> i32;
    fn rt_req_source(request: Handle, body: Handle) -> i32;
    fn rt_request(
        transport: Handle,
        request: Handle,
        op: Handle,
        out: *mut Handle,
        err: *mut Handle,
    ) -> i32;
    fn rt_blob_put(
        transport: Handle,
        digest: *const c_char,
        body: Handle,
        from: *const c_char,
        op: Handle,
        out: *mut Handle,
        err: *mut Handle,
    ) -> i32;
    fn rt_blob_get(
        transport: Handle,
        digest: *const c_char,
        op: Handle,
        out: *mut Handle,
        err: *mut Handle,
    ) -> i32;
    fn rt_response_drain(response: Handle, f: Write, user: *const c_void, err: *mut Handle) -> i32;
    fn rt_blob_save(
        transport: Handle,
        digest: *const c_char,
        path: *const c_char,
        op: Handle,
        err: *mut Handle,
    ) -> i32;
    fn rt_copy(
        from: Handle,
        reference: *const c_char,
        to: Handle,
        name: *const c_char,
        op: Handle,
        err: *mut Handle,
    ) -> i32;
    fn rt_error_code(err: Handle) -> i32;
    fn rt_error_message(err: Handle) -> *const c_char;
    fn rt_free(handle: Handle);
}

const RT_OK: i32 = 0;
const RT_E_ARG: i32 = 1;
const RT_E_CANCELLED: i32 = 7;
const RT_E_AUTH: i32 = 8;
const RT_E_STATE: i32 = 15;
const RT_PUSH: u32 = 2;
const RT_LOG_DEBUG: i32 = 4;

/// What a callback does at its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Fail,
    /// Returns something that is no answer, or none.
    Lie,
    Cancel,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Callback {
    Log,
    Ask,
    Progress,
    Read,
    Rewind,
    Write,
}

const CALLBACKS: usize = 6;

impl Callback {
    /// What the header says of a call that this ends.
    fn failure(self, deed: Deed) -> Option<i32> {
        match (self, deed) {
            (Self::Log, _) => None,
            (Self::Ask, _) => Some(RT_E_AUTH),
            (Self::Read, Deed::Lie) => Some(RT_E_ARG),
            (Self::Rewind, _) => Some(RT_E_STATE),
            _ => Some(RT_E_CANCELLED),
        }
    }
}

/// What all callbacks of a run know. They run on the thread of the call, which is the one that has this.
struct Turns {
    at: usize,
    deed: Deed,
    count: Cell<usize>,
    struck: Cell<Option<Callback>>,
    given: Cell<usize>,
    dropped: Cell<usize>,
    op: Cell<Handle>,
    transport: Cell<Handle>,
    body: Vec<u8>,
    position: Cell<usize>,
    written: RefCell<Vec<u8>>,
}

impl Turns {
    fn new(at: usize, deed: Deed) -> Self {
        Self {
            at,
            deed,
            count: Cell::new(0),
            struck: Cell::new(None),
            given: Cell::new(0),
            dropped: Cell::new(0),
            op: Cell::new(null_mut()),
            transport: Cell::new(null_mut()),
            body: Vec::new(),
            position: Cell::new(0),
            written: RefCell::default(),
        }
    }

    /// A user pointer, which comes back by [`dropped`].
    fn user(&self) -> *const c_void {
        self.given.set(self.given.get() + 1);
        std::ptr::from_ref(self).cast()
    }

    /// Counts a call, does what there is to do, and tells what is to be returned.
    fn next(&self, callback: Callback) -> Option<Deed> {
        let number = self.count.get();
        self.count.set(number + 1);
        if number != self.at {
            return None;
        }
        self.struck.set(Some(callback));
        // SAFETY: both are handles, and may be used in callbacks.
        unsafe {
            match self.deed {
                Deed::Cancel => rt_op_cancel(self.op.get()),
                Deed::Close => rt_transport_close(self.transport.get()),
                deed => return Some(deed),
            }
        }
        None
    }
}

/// The turns behind a user pointer.
fn turns<'a>(user: *mut c_void) -> &'a Turns {
    // SAFETY: it was made by `Turns::user`, and a run outlives its handles.
    unsafe { &*user.cast::<Turns>() }
}

extern "C" fn dropped(user: *mut c_void) {
    let turns = turns(user);
    turns.dropped.set(turns.dropped.get() + 1);
}

extern "C" fn log(user: *mut c_void, _: i32, line: *const c_char) {
    // SAFETY: the header promises a text.
    let line = unsafe { CStr::from_ptr(line) };
    assert!(!line.is_empty() && line.to_str().is_ok());
    turns(user).next(Callback::Log);
}

extern "C" fn ask(
    user: *mut c_void,
    registry: *const c_char,
    _: *const c_char,
    fail: *mut i32,
) -> Handle {
    assert!(!registry.is_null());
    match turns(user).next(Callback::Ask) {
        // SAFETY: the header promises a place for it.
        Some(Deed::Fail) => unsafe { *fail = 1 },
        Some(_) => {}
        None => {
            let (name, password) = (text(USER), text(PASSWORD));
            // SAFETY: texts.
            return unsafe { rt_creds_basic(name.as_ptr(), password.as_ptr()) };
        }
    }
    null_mut()
}

extern "C" fn progress(user: *mut c_void, done: i64, total: i64) -> i32 {
    assert!(done >= 0 && (total == -1 || done <= total));
    match turns(user).next(Callback::Progress) {
        None => 0,
        Some(Deed::Fail) => 1,
        Some(_) => i32::MIN,
    }
}

extern "C" fn read(user: *mut c_void, buf: *mut c_void, cap: usize) -> i64 {
    let turns = turns(user);
    match turns.next(Callback::Read) {
        None => {}
        Some(Deed::Fail) => return -1,
        Some(_) => return i64::try_from(cap).unwrap_or(i64::MAX - 1) + 1,
    }
    let rest = &turns.body[turns.position.get()..];
    let n = rest.len().min(cap).min(1300);
    // SAFETY: the header promises so much room.
    unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), buf.cast(), n) };
    turns.position.set(turns.position.get() + n);
    n as i64
}

extern "C" fn rewind(user: *mut c_void) -> i32 {
    let turns = turns(user);
    turns.position.set(0);
    match turns.next(Callback::Rewind) {
        None => 0,
        Some(Deed::Fail) => 1,
        Some(_) => i32::MIN,
    }
}

extern "C" fn write(user: *mut c_void, data: *const c_void, len: usize) -> i32 {
    let turns = turns(user);
    match turns.next(Callback::Write) {
        None => {}
        Some(Deed::Fail) => return 1,
        Some(_) => return i32::MIN,
    }
    // SAFETY: the header promises so many bytes.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
    turns.written.borrow_mut().extend_from_slice(data);
    0
}

fn text(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Owns a handle.
struct Owned(Handle);

impl std::ops::Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: given back once, here.
        unsafe { rt_free(self.0) };
    }
}

/// What a call fills in.
struct Place(Handle);

impl Place {
    fn empty() -> Self {
        Self(null_mut())
    }

    fn taken(self) -> Owned {
        Owned(self.0)
    }
}

/// What the program does in a run: the status of the call, its error, and whether the right bytes came of it.
type Work = fn(&Ready, Handle, Handle, &Turns) -> (i32, Owned, bool);

const WORKS: [(&str, Work); 5] = [
    ("blob put", |ready, transport, op, turns| {
        let digest = sha256(&WORLD.fresh);
        let name = text(digest.as_str());
        let (mut out, mut err) = (Place::empty(), Place::empty());
        let body = source(turns);
        // SAFETY: handles and texts, as the header wants them.
        let status = unsafe {
            rt_blob_put(
                transport,
                name.as_ptr(),
                body.0,
                std::ptr::null(),
                op,
                &raw mut out.0,
                &raw mut err.0,
            )
        };
        drop(out.taken());
        let there = ready.run.registry(0).blob("a/b", &digest);
        (
            status,
            err.taken(),
            there.is_some_and(|blob| *blob == WORLD.fresh),
        )
    }),
    ("request", |ready, transport, op, turns| {
        let (method, path) = (text("PUT"), text("./manifests/again"));
        let (name, value) = (text("Content-Type"), text(OCI_MANIFEST));
        let (mut out, mut err) = (Place::empty(), Place::empty());
        let body = source(turns);
        // SAFETY: handles and texts, as the header wants them.
        let status = unsafe {
            let request = Owned(rt_req_new(method.as_ptr(), path.as_ptr()));
            rt_req_header(request.0, name.as_ptr(), value.as_ptr());
            rt_req_source(request.0, body.0);
            rt_request(transport, request.0, op, &raw mut out.0, &raw mut err.0)
        };
        drop(out.taken());
        let there = ready.run.registry(0).manifest("a/b", "again");
        (
            status,
            err.taken(),
            there.is_some_and(|(_, bytes)| *bytes == turns.body),
        )
    }),
    ("drain", |_, transport, op, turns| {
        let digest = text(WORLD.big.as_str());
        let (mut out, mut err) = (Place::empty(), Place::empty());
        // SAFETY: handles and texts, as the header wants them.
        let status = unsafe {
            let status = rt_blob_get(
                transport,
                digest.as_ptr(),
                op,
                &raw mut out.0,
                &raw mut err.0,
            );
            match status {
                RT_OK => rt_response_drain(
                    out.0,
                    write,
                    std::ptr::from_ref(turns).cast(),
                    &raw mut err.0,
                ),
                failed => failed,
            }
        };
        drop(out.taken());
        (
            status,
            err.taken(),
            sha256(&turns.written.borrow()) == WORLD.big,
        )
    }),
    ("save", |ready, transport, op, _| {
        let (digest, path) = (text(WORLD.big.as_str()), ready.target());
        let path = text(path.as_os_str().as_bytes());
        let mut err = Place::empty();
        // SAFETY: handles and texts, as the header wants them.
        let status = unsafe {
            rt_blob_save(
                transport,
                digest.as_ptr(),
                path.as_ptr(),
                op,
                &raw mut err.0,
            )
        };
        let seen = std::fs::read(ready.target()).unwrap_or_default();
        (status, err.taken(), sha256(&seen) == WORLD.big)
    }),
    ("copy", |ready, transport, op, _| {
        let (from, to) = (text("v1"), text("copied"));
        let mut err = Place::empty();
        // SAFETY: handles and texts, as the header wants them.
        let status = unsafe {
            rt_copy(
                transport,
                from.as_ptr(),
                transport,
                to.as_ptr(),
                op,
                &raw mut err.0,
            )
        };
        let registry = ready.run.registry(0);
        let right = registry.manifest("a/b", "v1") == registry.manifest("a/b", "copied");
        (status, err.taken(), right)
    }),
];

fn source(turns: &Turns) -> Owned {
    let size = i64::try_from(turns.body.len()).unwrap_or(-1);
    turns.position.set(0);
    // SAFETY: functions of the types of the header.
    Owned(unsafe { rt_source_reader(read, rewind, size, turns.user(), dropped) })
}

/// All callbacks at all their turns.
pub fn torture() -> Outcome {
    let mut outcome = Outcome::default();
    let scene = Scene::new(false);
    let mut struck = BTreeSet::new();
    for (name, work) in WORKS {
        let count = match run(&scene, name, work, Deed::Fail, usize::MAX) {
            Ok(good) => good.count,
            Err(why) => {
                outcome.failures.push((name.to_owned(), why));
                continue;
            }
        };
        for at in 0..count {
            for deed in [Deed::Fail, Deed::Lie, Deed::Cancel, Deed::Close] {
                outcome.runs += 1;
                match run(&scene, name, work, deed, at) {
                    Ok(told) => {
                        outcome.right += usize::from(told.is_right);
                        struck.extend(told.struck);
                    }
                    Err(why) => outcome
                        .failures
                        .push((format!("{name} of C, callback {at}, {deed:?}"), why)),
                }
            }
        }
    }
    if struck.len() < CALLBACKS {
        let why = format!("only {struck:?} were called at all");
        outcome.failures.push(("callbacks of C".to_owned(), why));
    }
    outcome
}

/// A run that was as it should be.
struct Told {
    /// As if nothing had happened.
    is_right: bool,
    struck: Option<Callback>,
    /// How many callbacks there were.
    count: usize,
}

fn run(scene: &Scene, name: &str, work: Work, deed: Deed, at: usize) -> Result<Told, String> {
    let flow = FLOWS.iter().find(|flow| flow.name == "push-chunked");
    let flow = flow.ok_or("there is no such flow")?;
    let ready = scene.set_in(flow, None, PATIENT, &scratch(), None);
    let mut first = Turns::new(at, deed);
    first.body = match name {
        "request" => ready
            .run
            .registry(0)
            .manifest("a/b", "v1")
            .map(|(_, bytes)| bytes.to_vec()),
        _ => Some(WORLD.fresh.clone()),
    }
    .ok_or("there is no such manifest")?;
    let mut second = Turns::new(usize::MAX, deed);
    second.body.clone_from(&first.body);
    let result = {
        let transport = transport(&ready, &first)?;
        first.transport.set(transport.0);
        let told = attempt(&ready, &transport, work, &first);
        let count = first.count.get();
        // Callbacks of the transport and its credentials stay those of the first run.
        first.op.set(null_mut());
        told.and_then(|is_right| {
            ready.run.renew();
            match attempt(&ready, &transport, work, &second) {
                Ok(true) => Ok(Told {
                    is_right,
                    struck: first.struck.get(),
                    count,
                }),
                Ok(false) => Err("the run after it failed".to_owned()),
                Err(why) => Err(format!("the run after it: {why}")),
            }
        })
    };
    for turns in [&first, &second] {
        let (given, dropped) = (turns.given.get(), turns.dropped.get());
        if given != dropped {
            return Err(format!("{given} user pointers, {dropped} given back"));
        }
    }
    result
}

/// One call; whether it succeeded, which it must unless something was done to it.
fn attempt(ready: &Ready, transport: &Owned, work: Work, turns: &Turns) -> Result<bool, String> {
    // SAFETY: a new handle, and functions of the types of the header.
    let op = unsafe {
        let op = Owned(rt_op_new());
        rt_op_set_progress(op.0, progress, turns.user(), dropped);
        op
    };
    turns.op.set(op.0);
    let (status, err, is_right) = work(ready, transport.0, op.0, turns);
    let (code, message) = told(&err);
    let wanted = match (turns.struck.get(), turns.deed) {
        (None, _) => None,
        (Some(_), Deed::Cancel | Deed::Close) => Some(RT_E_CANCELLED),
        (Some(callback), deed) => callback.failure(deed),
    };
    match (status, wanted) {
        (RT_OK, _) if !is_right => Err("success, but with something else".to_owned()),
        (RT_OK, None) => Ok(true),
        // What comes after the last byte stops nothing.
        (RT_OK, Some(RT_E_CANCELLED)) if matches!(turns.deed, Deed::Cancel | Deed::Close) => {
            Ok(true)
        }
        (RT_OK, Some(_)) => Err(format!(
            "the failure of {:?} was not told",
            turns.struck.get()
        )),
        (_, Some(wanted)) if status == wanted && code == status && !message.is_empty() => Ok(false),
        _ => Err(format!(
            "{:?}: status {status}, error {code}: {message}",
            turns.struck.get()
        )),
    }
}

/// What an error says; of none, [`RT_OK`] and nothing.
fn told(err: &Owned) -> (i32, String) {
    if err.0.is_null() {
        return (RT_OK, String::new());
    }
    // SAFETY: an error, whose message lives as long as it does.
    unsafe {
        let message = CStr::from_ptr(rt_error_message(err.0));
        (rt_error_code(err.0), message.to_string_lossy().into_owned())
    }
}

fn transport(ready: &Ready, turns: &Turns) -> Result<Owned, String> {
    let name = text(format!("{}/a/b", ready.home.registry()));
    let mut out = Place::empty();
    // SAFETY: handles and texts, as the header wants them.
    unsafe {
        let options = Owned(rt_options_new());
        for (key, value) in [
            ("environment", 0),
            ("share-tokens", 0),
            ("retry-delay-ms", 1),
            ("upload-chunk-bytes", 4000),
        ] {
            rt_options_set_int(options.0, text(key).as_ptr(), value);
        }
        rt_options_set_log(options.0, RT_LOG_DEBUG, log, turns.user(), dropped);
        let creds = Owned(rt_creds_callback(ask, turns.user(), dropped));
        match rt_transport_new(
            name.as_ptr(),
            RT_PUSH,
            creds.0,
            options.0,
            &raw mut out.0,
            null_mut(),
        ) {
            RT_OK => Ok(out.taken()),
            status => Err(format!("no transport: {status}")),
        }
    }
}

//! The C API: any function of the header, in any order, with any handle in any place, against a registry that
//! answers anything, with callbacks that call any function again.
//!
//! What the contract of the header leaves undefined is left out: handles that were given back, and pointers that
//! are neither NULL nor valid.
#![no_main]

#[path = "../folder.rs"]
mod folder;

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::{Mutex, PoisonError};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use registry_transport::fuzzing::Network;
use registry_transport::options::KEYS;

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Handle(&'static str),
    Freed,
    Out(&'static str),
    Err,
    Text,
    TextOut,
    Bytes,
    DataOut,
    Buffer,
    User,
    NumberOut,
    Number,
    Size,
    Index,
    Function(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returns {
    Nothing,
    Status,
    Text,
    Number,
    Handle(&'static str),
}

struct Function {
    name: &'static str,
    address: usize,
    returns: Returns,
    takes: &'static [(&'static str, Kind)],
}

include!(concat!(env!("OUT_DIR"), "/api.rs"));

static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(functions);

/// Calls a function of any type. Every parameter of the API is an integer or a pointer, and those are passed alike
/// on the machines this is built for; what is narrower than a register gets rubbish in its upper half, which a
/// function must not look at.
unsafe fn call(address: usize, a: &[usize]) -> usize {
    macro_rules! with {
        ($($i:literal)*) => {{
            // SAFETY: see above; the caller gives as many arguments as the function takes.
            unsafe {
                let f: unsafe extern "C" fn($(with!(@ $i)),*) -> usize = std::mem::transmute(address);
                f($(a[$i]),*)
            }
        }};
        (@ $i:literal) => { usize };
    }
    match a.len() {
        0 => with!(),
        1 => with!(0),
        2 => with!(0 1),
        3 => with!(0 1 2),
        4 => with!(0 1 2 3),
        5 => with!(0 1 2 3 4),
        6 => with!(0 1 2 3 4 5),
        7 => with!(0 1 2 3 4 5 6),
        8 => with!(0 1 2 3 4 5 6 7),
        9 => with!(0 1 2 3 4 5 6 7 8),
        _ => panic!("a function with more parameters than that"),
    }
}

fn function(name: &str) -> &'static Function {
    FUNCTIONS
        .iter()
        .find(|f| f.name == name)
        .expect("a function of the header")
}

unsafe fn plain(name: &str, arguments: &[usize]) -> usize {
    // SAFETY: as `call`.
    unsafe { call(function(name).address, arguments) }
}

/// What the calls of one run share.
#[derive(Default)]
struct World {
    data: Vec<u8>,
    at: usize,
    /// Live handles, and of which type they are.
    handles: Vec<(&'static str, usize)>,
    /// For each user pointer that was given with a finaliser, how often that ran.
    dropped: Vec<u32>,
    depth: u32,
    thread: Option<std::thread::ThreadId>,
}

impl World {
    fn draw<T: for<'a> Arbitrary<'a>>(&mut self) -> T {
        let mut rest = Unstructured::new(self.data.get(self.at..).unwrap_or_default());
        let before = rest.len();
        let value = rest.arbitrary().expect("there is always a value");
        self.at += before - rest.len();
        value
    }

    fn byte(&mut self) -> usize {
        usize::from(self.draw::<u8>())
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.byte() % all.len()]
    }

    fn is_over(&self) -> bool {
        self.at >= self.data.len()
    }
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

fn world<T>(f: impl FnOnce(&mut World) -> T) -> T {
    f(WORLD
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default())
}

static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| folder::make("capi"));

const NAMES: [&str; 8] = [
    "r.example/a/b",
    "r.example",
    "r.example/c",
    "localhost:5000/a/b",
    "127.0.0.1/a",
    "docker.io/library/a",
    "r.example/A",
    "",
];
const DIGESTS: [&str; 4] = [
    "sha256:9fb7bbbb8a6a3c9d8b6e4d1c8c0bb6a2ddd2ee5e6cbe2f2be2c4a9a6f3f3d4a1",
    "sha256:12998c017066eb0d2a70b94e6ed3192985855ce390f321bbdb832022888bd251",
    "latest",
    "sha512:00",
];
const WORDS: [&str; 24] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "/v2/",
    "./tags/list",
    "./x?y=z",
    "https://r.example/v2/x",
    "http://r.example/",
    "//x",
    "Accept",
    "Authorization",
    "Content-Length",
    "X-A",
    "application/json",
    "a/b",
    "1",
    "0",
    "http",
    "https",
    "http://user:pass@proxy.example:3128",
    "socks5://proxy.example",
    "localhost,10.0.0.0/8",
    "a\r\nb: c",
];

/// A text for the parameter of that name; kept alive by the caller. `None` is NULL.
fn text(name: &str) -> Option<CString> {
    world(|w| {
        let choice = w.byte();
        if choice == 255 {
            return None;
        }
        let known: Vec<u8> = match name {
            // Nothing outside of the folder may be written.
            "path" => {
                let file = w.pick(&["blob", "config.json", "none/blob", "."]);
                FOLDER.join(file).into_os_string().into_encoded_bytes()
            }
            _ if choice >= 224 => {
                let length = w.byte() % 40;
                (0..length).map(|_| w.draw::<u8>().max(1)).collect()
            }
            "key" => KEYS[w.byte() % KEYS.len()].name.into(),
            "name" => w.pick(&NAMES).into(),
            "digest" | "tag_or_digest" | "reference" | "dst_reference" => w.pick(&DIGESTS).into(),
            "state" => {
                let state = plain_state(w.byte());
                state.into()
            }
            _ => w.pick(&WORDS).into(),
        };
        CString::new(known).ok()
    })
}

/// What `rt_upload_state` may have said before.
fn plain_state(n: usize) -> String {
    let place = [
        "https://r.example/v2/a/b/blobs/uploads/1",
        "https://r.example/u?sig=1",
        "http://r.example/u",
    ][n % 3];
    format!("rt-upload/1 {place}")
}

fn number() -> i64 {
    world(|w| match w.byte() {
        n if n < 128 => w.pick(&[1, 2, 4, 8, 15, 0, -1, 16, 200, 404, 4096]),
        n if n < 160 => w.pick(&[i64::MIN, i64::MAX, 1 << 31, 1 << 32, -2]),
        n => i64::try_from(n).unwrap_or(0),
    })
}

/// A live handle, mostly of the right type, or NULL.
fn handle(wanted: &str) -> (usize, &'static str) {
    world(|w| {
        let choice = w.byte();
        if choice >= 240 {
            return (0, "");
        }
        let any_type = choice >= 224;
        let fitting: Vec<_> = w
            .handles
            .iter()
            .filter(|(kind, _)| any_type || *kind == wanted)
            .map(|(k, p)| (*p, *k))
            .collect();
        match fitting.len() {
            0 => (0, ""),
            n => fitting[choice % n],
        }
    })
}

fn is_live(pointer: usize) -> bool {
    world(|w| w.handles.iter().any(|(_, p)| *p == pointer))
}

fn keep(kind: &'static str, pointer: usize) {
    if pointer == 0 {
        return;
    }
    let many = world(|w| {
        assert!(
            w.handles.iter().all(|(_, p)| *p != pointer),
            "a handle was given out twice"
        );
        w.handles.push((kind, pointer));
        (w.handles.len() > 24).then(|| w.handles.remove(0).1)
    });
    if let Some(oldest) = many {
        // SAFETY: it is live and no longer in the table.
        unsafe { plain("rt_free", &[oldest]) };
    }
}

/// Reads all of a text that came back.
unsafe fn read_text(pointer: usize) {
    if pointer != 0 {
        // SAFETY: the library says that it is a text.
        let text = unsafe { CStr::from_ptr(pointer as *const c_char) };
        text.to_str().expect("UTF-8 comes back");
    }
}

/// An error must say what the status said, whatever is asked of it.
unsafe fn check_error(error: usize, status: usize) {
    // SAFETY: the library says that it is an error.
    unsafe {
        assert_eq!(plain("rt_error_code", &[error]) as i32, status as i32);
        let message = plain("rt_error_message", &[error]);
        assert_ne!(message, 0);
        read_text(message);
        assert_eq!(
            message,
            plain("rt_error_message", &[error]),
            "borrowed text stays"
        );
        let diagnostics = plain("rt_error_diag_count", &[error]);
        assert!(diagnostics <= 100);
        for i in 0..=diagnostics {
            for part in [
                "rt_error_diag_code",
                "rt_error_diag_message",
                "rt_error_diag_detail",
            ] {
                read_text(plain(part, &[error, i]));
            }
        }
        plain("rt_error_http_status", &[error]);
        plain("rt_error_os_code", &[error]);
        assert!(plain("rt_error_retry_after_ms", &[error]) as i64 >= -1);
    }
}

fn on_own_thread() {
    let own = world(|w| w.thread);
    assert_eq!(
        own,
        Some(std::thread::current().id()),
        "a callback on a thread of the library"
    );
}

/// A callback may call anything.
fn again() {
    on_own_thread();
    let go = world(|w| {
        let go = w.depth < 3 && !w.is_over() && w.byte() % 4 == 0;
        w.depth += u32::from(go);
        go
    });
    if go {
        step();
        world(|w| w.depth -= 1);
    }
}

/// A user pointer is a number; those with a finaliser count how often it ran.
fn is_in_use(user: *mut c_void) {
    let user = user as usize;
    if user > 1 {
        assert_eq!(
            world(|w| w.dropped[user - 2]),
            0,
            "used after it was dropped"
        );
    }
}

extern "C" fn on_drop(user: *mut c_void) {
    let times = world(|w| {
        let times = &mut w.dropped[user as usize - 2];
        *times += 1;
        *times
    });
    assert_eq!(times, 1, "dropped once");
}

extern "C" fn on_log(user: *mut c_void, level: i32, line: *const c_char) {
    is_in_use(user);
    assert!((1..=4).contains(&level));
    // SAFETY: the library says that it is a text.
    unsafe { read_text(line as usize) };
    again();
}

extern "C" fn on_creds(
    user: *mut c_void,
    registry: *const c_char,
    repository: *const c_char,
    fail: *mut i32,
) -> *mut c_void {
    is_in_use(user);
    // SAFETY: the library says that these are texts, and that it may be told of a failure.
    unsafe {
        read_text(registry as usize);
        read_text(repository as usize);
        again();
        let choice = world(World::byte);
        if choice >= 192 {
            fail.write(1);
        }
        let (a, b) = (c"user", c"password");
        let made = match choice % 5 {
            0 => plain(
                "rt_creds_basic",
                &[a.as_ptr() as usize, b.as_ptr() as usize],
            ),
            1 => plain("rt_creds_bearer", &[a.as_ptr() as usize]),
            2 => plain("rt_creds_refresh", &[a.as_ptr() as usize]),
            3 => plain("rt_creds_callback", &[on_creds as *const () as usize, 0, 0]),
            _ => 0,
        };
        made as *mut c_void
    }
}

extern "C" fn on_progress(user: *mut c_void, done: i64, total: i64) -> i32 {
    is_in_use(user);
    assert!(done >= 0 && total >= -1);
    again();
    i32::from(world(World::byte) >= 240)
}

extern "C" fn on_read(user: *mut c_void, buf: *mut c_void, cap: usize) -> i64 {
    is_in_use(user);
    again();
    let choice = world(World::byte);
    // SAFETY: the buffer is as long as it is said to be.
    unsafe { buf.cast::<u8>().write_bytes(b'x', cap) };
    match choice {
        0..64 => 0,
        64..224 => i64::try_from(cap.min(choice)).unwrap_or(0),
        // A lie.
        224..232 => i64::try_from(cap).unwrap_or(0).saturating_add(1),
        _ => -1,
    }
}

extern "C" fn on_rewind(user: *mut c_void) -> i32 {
    is_in_use(user);
    again();
    i32::from(world(World::byte) >= 128)
}

extern "C" fn on_write(user: *mut c_void, data: *const c_void, len: usize) -> i32 {
    is_in_use(user);
    // SAFETY: the data is as long as it is said to be.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
    std::hint::black_box(data.iter().fold(0, |sum: u8, b| sum.wrapping_add(*b)));
    again();
    i32::from(world(World::byte) >= 240)
}

fn callback(kind: &str) -> usize {
    match kind {
        "rt_log_fn" => on_log as *const () as usize,
        "rt_drop_fn" => on_drop as *const () as usize,
        "rt_creds_fn" => on_creds as *const () as usize,
        "rt_progress_fn" => on_progress as *const () as usize,
        "rt_read_fn" => on_read as *const () as usize,
        "rt_rewind_fn" => on_rewind as *const () as usize,
        "rt_write_fn" => on_write as *const () as usize,
        _ => panic!("a callback of type {kind} is not known here"),
    }
}

/// What outs hold before a call.
const RUBBISH: usize = 0x51;

/// One call of any function.
fn step() {
    let f = world(|w| w.byte() % FUNCTIONS.len());
    let f = &FUNCTIONS[f];
    let mut texts = Vec::new();
    let mut buffers: Vec<Vec<u8>> = Vec::new();
    let mut outs = [RUBBISH; 4];
    let mut used = Vec::new();
    let mut arguments: Vec<usize> = Vec::new();
    let (mut wrong, mut user, mut next_size, mut out) = (false, 0, 0, 0);
    let has_drop = f
        .takes
        .iter()
        .any(|(_, k)| *k == Kind::Function("rt_drop_fn"));
    for (name, kind) in f.takes {
        let argument = match *kind {
            Kind::Handle(wanted) => {
                let (pointer, is) = handle(wanted);
                wrong |= pointer != 0 && is != wanted;
                used.push(pointer);
                pointer
            }
            Kind::Freed => world(|w| {
                let n = w.handles.len();
                if n == 0 || w.byte() >= 240 {
                    0
                } else {
                    let at = w.byte() % n;
                    w.handles.remove(at).1
                }
            }),
            Kind::Out(_) | Kind::Err | Kind::TextOut | Kind::DataOut | Kind::NumberOut => {
                out += 1;
                let place = &raw mut outs[out - 1] as usize;
                if world(World::byte) >= 248 { 0 } else { place }
            }
            Kind::Text => {
                let made = text(name);
                let pointer = made.as_ref().map_or(0, |t| t.as_ptr() as usize);
                texts.push(made);
                pointer
            }
            Kind::Bytes | Kind::Buffer => {
                let choice = world(World::byte);
                next_size = choice % 100;
                if choice >= 250 {
                    next_size = choice % 2;
                    0
                } else {
                    buffers.push(vec![b'b'; next_size]);
                    buffers.last_mut().map_or(0, |b| b.as_mut_ptr() as usize)
                }
            }
            Kind::Size => next_size,
            Kind::Index => world(|w| w.pick(&[0, 1, 2, 99, usize::MAX])),
            Kind::Number => number() as usize,
            Kind::User => {
                user = if has_drop {
                    world(|w| {
                        w.dropped.push(0);
                        w.dropped.len() + 1
                    })
                } else {
                    1
                };
                user
            }
            Kind::Function("rt_drop_fn") if world(World::byte) >= 250 => {
                // Without a finaliser nobody learns when it ends.
                world(|w| w.dropped[user - 2] = u32::MAX);
                0
            }
            Kind::Function("rt_drop_fn") => callback("rt_drop_fn"),
            Kind::Function(kind) => {
                if world(World::byte) >= 240 {
                    0
                } else {
                    callback(kind)
                }
            }
        };
        arguments.push(argument);
    }
    // An index after the user pointer that has no finaliser would be used after its end, so it is none.
    if has_drop && arguments.last() == Some(&0) {
        for (argument, (_, kind)) in arguments.iter_mut().zip(f.takes) {
            if *kind == Kind::User {
                *argument = 1;
            }
        }
    }
    // SAFETY: the arguments are what the header asks for, or NULL.
    let returned = unsafe { call(f.address, &arguments) };
    let is_usable = used.iter().all(|p| *p == 0 || is_live(*p));
    let failed = match f.returns {
        Returns::Status if f.name != "rt_error_code" => {
            let status = returned as i32;
            assert!((0..=15).contains(&status), "{} returned {status}", f.name);
            assert!(
                !wrong || status != 0,
                "{} took a handle of another type",
                f.name
            );
            status != 0
        }
        Returns::Handle(kind) => {
            assert!(
                !wrong || returned == 0,
                "{} took a handle of another type",
                f.name
            );
            keep(kind, returned);
            false
        }
        Returns::Text if is_usable => {
            // SAFETY: what it was borrowed from is live.
            unsafe { read_text(returned) };
            false
        }
        _ => false,
    };
    let is_call = f.returns == Returns::Status && f.name != "rt_error_code";
    let mut size = usize::MAX;
    let mut data = 0;
    let mut out = 0;
    for ((_, kind), argument) in f.takes.iter().zip(&arguments) {
        let is_out = matches!(
            kind,
            Kind::Out(_) | Kind::Err | Kind::TextOut | Kind::DataOut | Kind::NumberOut
        );
        if !is_out {
            continue;
        }
        out += 1;
        let value = outs[out - 1];
        if *argument == 0 {
            assert_eq!(value, RUBBISH);
            continue;
        }
        if is_call {
            assert!(
                value != RUBBISH || *kind == Kind::NumberOut,
                "{} left an out as it was",
                f.name
            );
        }
        match *kind {
            Kind::Err => {
                assert_eq!(value != 0, failed, "{} and its error", f.name);
                if failed {
                    // SAFETY: the library says that it is an error.
                    unsafe { check_error(value, returned) };
                    keep("rt_error", value);
                }
            }
            Kind::Out(kind) => {
                assert!(!failed || value == 0, "{} failed and gave a handle", f.name);
                keep(kind, value);
            }
            Kind::TextOut => {
                assert!(!failed || value == 0);
                if is_usable && value != RUBBISH {
                    // SAFETY: what it was borrowed from is live.
                    unsafe { read_text(value) };
                }
            }
            Kind::DataOut => {
                assert!(!failed || value == 0);
                data = value;
            }
            _ => {
                assert!(!failed || value == 0);
                size = value;
            }
        }
    }
    if data != 0 && size != usize::MAX && is_usable {
        // SAFETY: the library says how long it is, and that a NUL follows.
        let bytes = unsafe { std::slice::from_raw_parts(data as *const u8, size + 1) };
        assert_eq!(bytes.last(), Some(&0));
    }
    if let Some(buffer) = buffers.first() {
        if f.takes.iter().any(|(_, k)| *k == Kind::Buffer) && size != usize::MAX {
            assert!(size <= buffer.len());
        }
    }
}

/// What the registry, or whoever else is asked, says on a connection.
fn answer() -> Option<Vec<u8>> {
    const OCI: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    const JSON: &str = "Content-Type: application/json\r\n";
    const UPLOAD: &str = "Location: /v2/a/b/blobs/uploads/1\r\n";
    let (choice, cut) = world(|w| (w.byte(), w.byte()));
    let (status, fields, body) = match choice % 24 {
        0 => ("200 OK", String::new(), "hello there"),
        1 => (
            "200 OK",
            OCI.to_owned(),
            r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#,
        ),
        2 => (
            "401 Unauthorized",
            "WWW-Authenticate: Bearer realm=\"https://r.example/token\",service=\"r\"\r\n"
                .to_owned(),
            "",
        ),
        3 => (
            "401 Unauthorized",
            "WWW-Authenticate: Basic realm=\"r\"\r\n".to_owned(),
            "",
        ),
        4 => (
            "200 OK",
            JSON.to_owned(),
            r#"{"token":"t","refresh_token":"r"}"#,
        ),
        5 => (
            "200 OK",
            JSON.to_owned(),
            r#"{"name":"a/b","tags":["one","two"],"repositories":["a/b"],"manifests":[{"a":1}]}"#,
        ),
        6 => (
            "200 OK",
            format!("{JSON}Link: </v2/a/b/tags/list?last=x>; rel=\"next\"\r\n"),
            r#"{"name":"a/b","tags":["one"],"repositories":["c"]}"#,
        ),
        7 => (
            "307 Temporary Redirect",
            "Location: https://cdn.example/x\r\n".to_owned(),
            "",
        ),
        8 => (
            "302 Found",
            "Location: http://localhost/x\r\n".to_owned(),
            "",
        ),
        9 => (
            "404 Not Found",
            JSON.to_owned(),
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no","detail":{}},{"code":null}]}"#,
        ),
        10 => (
            "429 Too Many Requests",
            "Retry-After: 1\r\n".to_owned(),
            "slow",
        ),
        11 => ("503 Service Unavailable", String::new(), ""),
        12 => ("202 Accepted", UPLOAD.to_owned(), ""),
        13 => ("202 Accepted", format!("{UPLOAD}Range: 0-10\r\n"), ""),
        14 => ("201 Created", "Location: /x\r\n".to_owned(), ""),
        15 => (
            "206 Partial Content",
            "Content-Range: bytes 0-10/11\r\n".to_owned(),
            "hello there",
        ),
        16 => (
            "416 Range Not Satisfiable",
            format!("{UPLOAD}Range: 0-3\r\n"),
            "",
        ),
        17 => ("204 No Content", format!("{UPLOAD}Range: 0-99\r\n"), ""),
        18 => ("405 Method Not Allowed", String::new(), ""),
        19 => (
            "200 OK",
            "Content-Type: application/vnd.oci.image.index.v1+json\r\n".to_owned(),
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"artifactType":"x"}]}"#,
        ),
        20 => ("100 Continue", String::new(), "HTTP/1.1 200 OK\r\n\r\nx"),
        21 => (
            "200 OK",
            "Transfer-Encoding: chunked\r\n".to_owned(),
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        22 => return Some(world(|w| (0..w.byte()).map(|_| w.draw::<u8>()).collect())),
        _ => return None,
    };
    let length = if fields.contains("chunked") || status.starts_with('1') {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let mut stream = format!("HTTP/1.1 {status}\r\n{fields}{length}\r\n{body}").into_bytes();
    if cut >= 200 {
        stream.truncate(stream.len() * (cut - 200) / 56);
    }
    Some(stream)
}

fuzz_target!(
    init: {
        // Helpers and files are looked for nowhere else.
        for (name, _) in std::env::vars_os() {
            // SAFETY: the only thread.
            unsafe { std::env::remove_var(name) };
        }
        for name in ["HOME", "PATH", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, &*FOLDER) };
        }
    },
    |data: &[u8]| {
        std::fs::write(FOLDER.join("config.json"), r#"{"auths":{"r.example":{"auth":"dTpw"}},"credHelpers":{"localhost:5000":"x"}}"#)
            .expect("a file");
        let _ = std::fs::remove_file(FOLDER.join("blob"));
        world(|w| {
            *w = World { data: data.to_vec(), thread: Some(std::thread::current().id()), ..World::default() }
        });
        let mut connections = 0;
        let network = Network::new(move |_, _| {
            connections += 1;
            if connections > 64 { None } else { answer() }
        });
        for _ in 0..200 {
            if world(|w| w.is_over()) {
                break;
            }
            step();
        }
        // Whatever is left goes, in any order.
        while let Some(pointer) = world(|w| {
            let n = w.handles.len();
            (n > 0).then(|| { let at = w.byte() % n; w.handles.swap_remove(at).1 })
        }) {
            // SAFETY: it is live and no longer in the table.
            unsafe { plain("rt_free", &[pointer]) };
        }
        drop(network.connections());
        world(|w| {
            for (user, times) in w.dropped.iter().enumerate() {
                assert!(*times == 1 || *times == u32::MAX, "user pointer {user} was dropped {times} times");
            }
        });
    }
);

//! File operations that fail. The functions of libc by which files are used are defined here, in front of the
//! real ones: they pass everything on but the one call of this thread, in the folder of the run, that is to fail.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The disk is broken, this once.
    Eio,
    /// The disk is full, this once.
    Enospc,
    /// The disk is full from here on.
    Full,
    /// A signal came.
    Eintr,
    /// Half of the bytes.
    Short,
}

pub const ALL: [How; 5] = [How::Eio, How::Enospc, How::Full, How::Eintr, How::Short];

impl How {
    pub fn name(self) -> &'static str {
        match self {
            Self::Eio => "eio",
            Self::Enospc => "enospc",
            Self::Full => "full",
            Self::Eintr => "eintr",
            Self::Short => "short",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|how| how.name() == name)
    }

    /// Whether this operation can fail this way.
    pub fn befalls(self, operation: &str) -> bool {
        match self {
            Self::Eio => true,
            Self::Enospc => matches!(operation, "open" | "write" | "fsync" | "rename"),
            Self::Full => operation == "write",
            Self::Eintr => matches!(operation, "open" | "write" | "read" | "fsync"),
            Self::Short => matches!(operation, "write" | "read"),
        }
    }

    /// Whether the program may see anything of it.
    pub fn is_seen(self) -> bool {
        !matches!(self, Self::Eintr | Self::Short)
    }

    pub fn errno(self) -> i32 {
        match self {
            Self::Eio | Self::Short => libc::EIO,
            Self::Enospc | Self::Full => libc::ENOSPC,
            Self::Eintr => libc::EINTR,
        }
    }
}

struct Plan {
    root: Vec<u8>,
    descriptors: Vec<c_int>,
    operations: Vec<&'static str>,
    at: usize,
    how: How,
}

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// From here on operation `at` of this thread under `root` fails; none does when there is no such operation.
pub fn plan(root: &Path, how: How, at: usize) {
    let plan = Plan {
        root: root.as_os_str().as_bytes().to_vec(),
        descriptors: Vec::new(),
        operations: Vec::new(),
        at,
        how,
    };
    PLAN.with(|slot| *slot.borrow_mut() = Some(plan));
}

/// Ends the plan and tells the operations there were.
pub fn finish() -> Vec<&'static str> {
    PLAN.with(|slot| slot.borrow_mut().take())
        .map_or_else(Vec::new, |plan| plan.operations)
}

/// What becomes of an operation.
enum Fate {
    Pass,
    Fail(i32),
    Half,
}

impl Plan {
    fn operation(&mut self, name: &'static str) -> Fate {
        let number = self.operations.len();
        self.operations.push(name);
        let is_it = number == self.at || (self.how == How::Full && number > self.at);
        if !is_it || !self.how.befalls(name) {
            return Fate::Pass;
        }
        match self.how {
            How::Short => Fate::Half,
            how => Fate::Fail(how.errno()),
        }
    }
}

/// Asks the plan about an operation on a path or an open file.
fn fate(name: &'static str, path: Option<*const c_char>, descriptor: c_int) -> Fate {
    let ask = |slot: &RefCell<Option<Plan>>| {
        let mut slot = slot.try_borrow_mut().ok()?;
        let plan = slot.as_mut()?;
        let is_ours = match path {
            // SAFETY: the caller of the libc function passed a C string.
            Some(path) => unsafe { CStr::from_ptr(path) }
                .to_bytes()
                .starts_with(&plan.root),
            None => plan.descriptors.contains(&descriptor),
        };
        is_ours.then(|| plan.operation(name))
    };
    PLAN.try_with(ask).ok().flatten().unwrap_or(Fate::Pass)
}

fn fail(errno: i32) -> c_int {
    // SAFETY: errno of this thread may always be written.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// The function of this name in libc.
macro_rules! real {
    ($name:literal, $type:ty) => {{
        static FOUND: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let address = *FOUND.get_or_init(|| {
            // SAFETY: the name is a C string.
            unsafe { libc::dlsym(libc::RTLD_NEXT, $name.as_ptr()) as usize }
        });
        // SAFETY: libc's function of this name has this type.
        unsafe { std::mem::transmute::<usize, $type>(address) }
    }};
}

type Open = extern "C" fn(*const c_char, c_int, libc::mode_t) -> c_int;
type OnPath = extern "C" fn(*const c_char) -> c_int;
type OnPaths = extern "C" fn(*const c_char, *const c_char) -> c_int;
type OnFile = extern "C" fn(c_int) -> c_int;
type Write = extern "C" fn(c_int, *const c_void, usize) -> isize;
type Read = extern "C" fn(c_int, *mut c_void, usize) -> isize;
type Seek = extern "C" fn(c_int, i64, c_int) -> i64;
type Truncate = extern "C" fn(c_int, i64) -> c_int;

// SAFETY of the names: they are those of libc, with its types, and behave as its functions do.

#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    match fate("open", Some(path), -1) {
        Fate::Fail(errno) => fail(errno),
        _ => {
            let file = real!(c"open64", Open)(path, flags, mode);
            let keep = |slot: &RefCell<Option<Plan>>| {
                if let Some(plan) = slot.try_borrow_mut().ok().as_mut().and_then(|s| s.as_mut()) {
                    // SAFETY: as above.
                    let name = unsafe { CStr::from_ptr(path) };
                    if file >= 0 && name.to_bytes().starts_with(&plan.root) {
                        plan.descriptors.push(file);
                    }
                }
            };
            let _ = PLAN.try_with(keep);
            file
        }
    }
}

#[unsafe(no_mangle)]
extern "C" fn close(file: c_int) -> c_int {
    let forget = |slot: &RefCell<Option<Plan>>| {
        if let Some(plan) = slot.try_borrow_mut().ok().as_mut().and_then(|s| s.as_mut()) {
            plan.descriptors.retain(|&open| open != file);
        }
    };
    let _ = PLAN.try_with(forget);
    real!(c"close", OnFile)(file)
}

#[unsafe(no_mangle)]
extern "C" fn write(file: c_int, data: *const c_void, length: usize) -> isize {
    let length = match fate("write", None, file) {
        Fate::Fail(errno) => return fail(errno) as isize,
        Fate::Half => length.div_ceil(2),
        Fate::Pass => length,
    };
    real!(c"write", Write)(file, data, length)
}

#[unsafe(no_mangle)]
extern "C" fn read(file: c_int, data: *mut c_void, length: usize) -> isize {
    let length = match fate("read", None, file) {
        Fate::Fail(errno) => return fail(errno) as isize,
        Fate::Half => length.div_ceil(2),
        Fate::Pass => length,
    };
    real!(c"read", Read)(file, data, length)
}

#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    match fate("fsync", None, file) {
        Fate::Fail(errno) => fail(errno),
        _ => real!(c"fsync", OnFile)(file),
    }
}

#[unsafe(no_mangle)]
extern "C" fn lseek64(file: c_int, offset: i64, whence: c_int) -> i64 {
    match fate("seek", None, file) {
        Fate::Fail(errno) => i64::from(fail(errno)),
        _ => real!(c"lseek64", Seek)(file, offset, whence),
    }
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(file: c_int, length: i64) -> c_int {
    match fate("truncate", None, file) {
        Fate::Fail(errno) => fail(errno),
        _ => real!(c"ftruncate64", Truncate)(file, length),
    }
}

#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    match fate("rename", Some(from), -1) {
        Fate::Fail(errno) => fail(errno),
        _ => real!(c"rename", OnPaths)(from, to),
    }
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    match fate("unlink", Some(path), -1) {
        Fate::Fail(errno) => fail(errno),
        _ => real!(c"unlink", OnPath)(path),
    }
}

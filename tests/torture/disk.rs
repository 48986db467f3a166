//! The flows that use files, with one failing file operation each, and on a disk that is full.

use std::path::Path;
use std::process::Command;

use registry_transport::error::{Error, ErrorKind};
use tempfile::TempDir;

use super::files::{self, ALL, How};
use super::flows::{FLOWS, Flow};
use super::scene::{Ready, Scene, WORLD};
use super::{PATIENT, call, look_at_files};

/// What came of it: runs, those that were as if nothing had happened, and what was wrong.
#[derive(Default)]
pub struct Outcome {
    pub runs: usize,
    pub right: usize,
    pub failures: Vec<(String, String)>,
}

const USING_FILES: [&str; 6] = [
    "save",
    "save-over",
    "save-continued",
    "save-misled",
    "response-save",
    "push-file",
];

/// All failing operations of all flows, or one flow, way and operation of them.
pub fn torture(flow: Option<&str>, how: Option<How>, at: Option<usize>) -> Outcome {
    let mut outcome = Outcome::default();
    let scene = Scene::new(false);
    for flow in FLOWS
        .iter()
        .filter(|f| USING_FILES.contains(&f.name) && flow.is_none_or(|name| name == f.name))
    {
        let (operations, good) = record(&scene, flow);
        for (number, operation) in operations.iter().enumerate() {
            for way in ALL {
                if how.is_some_and(|how| how != way)
                    || at.is_some_and(|at| at != number)
                    || !way.befalls(operation)
                {
                    continue;
                }
                outcome.runs += 1;
                match run(&scene, flow, way, number, &good) {
                    Ok(true) => outcome.right += 1,
                    Ok(false) => {}
                    Err(why) => outcome.failures.push((
                        format!("{}/{}/{number}", flow.name, way.name()),
                        format!("{operation}: {why}"),
                    )),
                }
            }
        }
    }
    outcome
}

/// The file operations of a flow, and what it sees.
fn record(scene: &Scene, flow: &'static Flow) -> (Vec<&'static str>, Vec<u8>) {
    let ready = scene.set(flow, None, PATIENT);
    (flow.prepare)(&ready);
    files::plan(ready.folder.path(), How::Eio, usize::MAX);
    let seen = (flow.run)(&ready);
    let operations = files::finish();
    let seen = seen.unwrap_or_else(|e| panic!("{} without a fault: {e}", flow.name));
    assert!(
        !operations.is_empty(),
        "{}: no file operation was seen",
        flow.name
    );
    (operations, seen)
}

/// Whether the run was as if nothing had happened; the error says what was wrong.
fn run(
    scene: &Scene,
    flow: &'static Flow,
    how: How,
    at: usize,
    good: &[u8],
) -> Result<bool, String> {
    let ready = scene.set(flow, None, PATIENT);
    (flow.prepare)(&ready);
    files::plan(ready.folder.path(), how, at);
    let first = call(&ready, flow);
    // In how many pieces a body comes is not the same each time, and so what this operation is, or whether it is at all.
    let operations = files::finish();
    let operation = operations.get(at).copied().unwrap_or_default();
    let mut later = operations.iter().skip(at);
    let has_struck = match how {
        How::Full => later.any(|o| how.befalls(o)),
        _ => later.next().is_some_and(|o| how.befalls(o)),
    };
    let first = first?;
    let is_right = match &first {
        Ok(seen) if seen == good => {
            if has_struck && how.is_seen() && operation != "unlink" {
                return Err("the failure was not told".to_owned());
            }
            true
        }
        Ok(_) => return Err("success, but with something else".to_owned()),
        Err(e) => {
            judge(e, how)?;
            false
        }
    };
    // What could not be removed stays.
    if operation != "unlink" {
        look_at_files(&ready, flow, first.as_ref().err())?;
    }
    go_on(&ready, flow, good, operation != "unlink")?;
    Ok(is_right)
}

fn judge(e: &Error, how: How) -> Result<(), String> {
    // The flow itself reads the saved file, which may be what fails.
    let is_own_read = e.kind() == ErrorKind::Internal && e.message().contains("saved file");
    if !how.is_seen() {
        return Err(format!("{:?} after {}: {e}", e.kind(), how.name()));
    }
    if is_own_read || (e.kind() == ErrorKind::Io && e.os_code() == Some(how.errno())) {
        Ok(())
    } else {
        Err(format!("{:?}, {:?}: {e}", e.kind(), e.os_code()))
    }
}

/// The same transport, without a failure: what was left is continued or put aside.
fn go_on(ready: &Ready, flow: &Flow, good: &[u8], is_clean: bool) -> Result<(), String> {
    ready.run.renew();
    match call(ready, flow)? {
        Ok(seen) if seen == good => {}
        Ok(_) => return Err("the run after it saw something else".to_owned()),
        Err(e) => return Err(format!("the run after it failed: {:?}: {e}", e.kind())),
    }
    if is_clean {
        look_at_files(ready, flow, None)?;
    }
    Ok(())
}

/// A disk that is too small: the blob does not fit, is told so, and goes on when there is room.
pub fn full(outcome: &mut Outcome) {
    let folder = TempDir::new().expect("a folder");
    let mount = |arguments: &[&str]| {
        Command::new("mount")
            .args(arguments)
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "size=64k", "torture"]) {
        println!("full disk: this user may not mount one; only injected failures were tried");
        return;
    }
    let scene = Scene::new(false);
    for name in ["save", "save-over", "response-save"] {
        for kilobytes in (4..=64).step_by(4) {
            let Some(flow) = FLOWS.iter().find(|flow| flow.name == name) else {
                continue;
            };
            outcome.runs += 1;
            mount(&["-o", &format!("remount,size={kilobytes}k")]);
            let result = on_full(&scene, flow, folder.path(), || {
                mount(&["-o", "remount,size=1m"]);
            });
            match result {
                Ok(true) => outcome.right += 1,
                Ok(false) => {}
                Err(why) => outcome
                    .failures
                    .push((format!("{name}/disk of {kilobytes} KiB"), why)),
            }
        }
    }
    let _ = Command::new("umount").arg(folder.path()).output();
}

fn on_full(
    scene: &Scene,
    flow: &'static Flow,
    place: &Path,
    make_room: impl Fn(),
) -> Result<bool, String> {
    let ready = scene.set_in(flow, None, PATIENT, place, None);
    (flow.prepare)(&ready);
    let good = super::support::registry::noise("big", super::scene::BIG);
    let first = call(&ready, flow)?;
    let is_right = match &first {
        Ok(seen) if *seen == good => true,
        Ok(_) => return Err("success, but with something else".to_owned()),
        Err(e) => {
            judge(e, How::Full)?;
            false
        }
    };
    look_at_files(&ready, flow, first.as_ref().err())?;
    make_room();
    go_on(&ready, flow, &good, true)?;
    let target = std::fs::read(ready.target()).map_err(|e| e.to_string())?;
    if super::support::registry::sha256(&target) != WORLD.big {
        return Err("the target is not the blob".to_owned());
    }
    Ok(is_right)
}

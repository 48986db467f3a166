//! Torture: what a program does with the library is done once, and then again with one fault at every point.
//! Every run must end in time, with the right bytes or with the right class of error, and leave nothing behind;
//! the same transport must work again afterwards.

#![allow(unreachable_pub)]

#[path = "../support/mod.rs"]
mod support;

mod callbacks;
mod capi;
mod disk;
mod fault;
mod files;
mod flows;
mod leaks;
mod scene;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use registry_transport::error::{Error, ErrorKind};

use fault::{Fault, Kind, PLAIN, Recorded, SECURE, scatter};
use flows::{FLOWS, Flow};
use leaks::Held;
use scene::{Ready, Scene, secrets};
use support::server::lock;

#[global_allocator]
static ALLOCATOR: leaks::Counting = leaks::Counting;

const USAGE: &str = "\
usage: torture [options]
  --deep          every place instead of a part of them
  --flow NAME     only this flow
  --fault NAME    only this fault
  --case ID       only this case: FLOW/FAULT/ANSWER/PLACE
  --seed N        where chance decides, instead of 1
  --every N       of N places that would be tried only one
  --list          tells flows and faults
A failure is told with the command that repeats it.";

/// A run that is expected not to wait for anything has this much time for one answer, in milliseconds.
const PATIENT: i64 = 10_000;
/// The same where the fault may leave it waiting.
const IMPATIENT: i64 = 250;
/// No run lasts longer than this, whatever happens.
const LIMIT: Duration = Duration::from_secs(60);
/// Heap bytes that the bookkeeping of a batch may take.
const SLACK: i64 = 32 << 10;
/// Most failures told in full.
const TOLD: usize = 40;

/// Tells the log of each run.
static TALKS: AtomicBool = AtomicBool::new(false);

struct Settings {
    deep: bool,
    flow: Option<String>,
    fault: Option<String>,
    case: Option<String>,
    seed: u64,
    every: usize,
}

impl Settings {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut settings = Self {
            deep: false,
            flow: None,
            fault: None,
            case: None,
            seed: 1,
            every: 1,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--deep" => settings.deep = true,
                "--flow" => settings.flow = Some(value()?),
                "--fault" => settings.fault = Some(value()?),
                "--case" => settings.case = Some(value()?),
                "--seed" => settings.seed = value()?.parse().map_err(|_| "--seed N".to_owned())?,
                "--every" => {
                    settings.every = value()?.parse().map_err(|_| "--every N".to_owned())?;
                }
                "--list" => {
                    let flows: Vec<&str> = FLOWS.iter().map(|flow| flow.name).collect();
                    let faults: Vec<&str> = PLAIN
                        .iter()
                        .chain(&SECURE)
                        .map(|kind| kind.name())
                        .collect();
                    return Err(format!(
                        "flows: {}\nfaults: {}",
                        flows.join(" "),
                        faults.join(" ")
                    ));
                }
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(settings)
    }
}

/// One run with one fault.
#[derive(Clone, Copy)]
struct Case {
    flow: &'static Flow,
    fault: Fault,
}

impl Case {
    fn id(&self) -> String {
        let Fault {
            kind, answer, at, ..
        } = self.fault;
        format!("{}/{}/{answer}/{at}", self.flow.name, kind.name())
    }
}

/// How a run ended that was right.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// With success, as if nothing had happened.
    Success,
    /// With an error of a class that this fault may lead to.
    Failure(&'static str),
    /// With other content, which nobody could have noticed.
    Believed,
    /// The fault did not come: another order of requests.
    Unreached,
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Network => "network",
        ErrorKind::Tls => "tls",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Auth => "auth",
        ErrorKind::Status => "status",
        ErrorKind::MediaType => "media type",
        ErrorKind::Digest => "digest",
        ErrorKind::Limit => "limit",
        ErrorKind::Io => "io",
        ErrorKind::Protocol => "protocol",
        _ => "other",
    }
}

/// What a flow gives and which answers it gets when nothing goes wrong.
struct Good {
    seen: Vec<u8>,
    record: Vec<Recorded>,
}

fn good(scene: &Scene, flow: &'static Flow) -> Good {
    let ready = scene.set(flow, None, PATIENT);
    (flow.prepare)(&ready);
    let seen = (flow.run)(&ready).unwrap_or_else(|e| panic!("{} without a fault: {e}", flow.name));
    assert!(
        !seen.starts_with(b"success was told"),
        "{}: {}",
        flow.name,
        String::from_utf8_lossy(&seen)
    );
    Good {
        seen,
        record: ready.run.record(),
    }
}

/// Runs one case; the error says what was wrong.
fn run(scene: &Scene, case: &Case, good: &Good, patience: i64) -> Result<End, String> {
    let flow = case.flow;
    let ready = scene.set(flow, Some(case.fault), patience);
    (flow.prepare)(&ready);
    let began = Instant::now();
    let first = call(&ready, flow)?;
    let took = began.elapsed();
    let limit = Duration::from_millis(patience.unsigned_abs() * 8) + Duration::from_secs(2);
    if took > limit {
        return Err(format!("it took {} ms", took.as_millis()));
    }
    if TALKS.load(Ordering::Relaxed) {
        let how = first.as_ref().map_or_else(
            |e| format!("{:?}: {e}", e.kind()),
            |seen| format!("{} bytes", seen.len()),
        );
        println!("{}  {how}, {} ms", lock(&ready.run.log), took.as_millis());
    }
    let end = judge(&ready, case, good, &first)?;
    look_at_files(&ready, flow, first.as_ref().err())?;
    ready.run.renew();
    match call(&ready, flow)? {
        Ok(seen) if seen == good.seen => {}
        Ok(_) => return Err("the run after it saw something else".to_owned()),
        Err(e) => return Err(format!("the run after it failed: {:?}: {e}", e.kind())),
    }
    look_at_files(&ready, flow, None)?;
    look_for_secrets(&lock(&ready.run.log), case.fault.kind)?;
    Ok(end)
}

fn call(ready: &Ready, flow: &Flow) -> Result<Result<Vec<u8>, Error>, String> {
    catch_unwind(AssertUnwindSafe(|| (flow.run)(ready))).map_err(|_| "it panicked".to_owned())
}

fn judge(
    ready: &Ready,
    case: &Case,
    good: &Good,
    result: &Result<Vec<u8>, Error>,
) -> Result<End, String> {
    let kind = case.fault.kind;
    let reached = ready.run.has_fired();
    if !reached && !case.flow.unordered {
        return Err("the fault was not reached".to_owned());
    }
    match result {
        Ok(seen) if *seen == good.seen => Ok(if reached {
            End::Success
        } else {
            End::Unreached
        }),
        Ok(_) if case.flow.believes && kind.may_lie() => Ok(End::Believed),
        Ok(seen) => Err(format!(
            "success, but with {:?}...",
            String::from_utf8_lossy(&seen[..seen.len().min(60)])
        )),
        Err(e) => {
            look_for_secrets(&format!("{e} {e:?} {:?}", e.diagnostics()), kind)?;
            let is_cut_unseen = case.flow.ends_by_close
                && matches!(kind, Kind::Cut | Kind::Truncate)
                && e.kind() == ErrorKind::Digest;
            if !kind.allows(e.kind()) && !is_cut_unseen {
                return Err(format!("{:?} is no error for this: {e}", e.kind()));
            }
            if kind == Kind::Later && e.retry_after() != Some(Duration::from_secs(7200)) {
                return Err(format!("retry after {:?}: {e}", e.retry_after()));
            }
            Ok(End::Failure(kind_name(e.kind())))
        }
    }
}

/// No file that should not be there, and no wrong bytes at the target.
fn look_at_files(ready: &Ready, flow: &Flow, failure: Option<&Error>) -> Result<(), String> {
    let target = ready.target();
    let partial = ready.partial(&scene::WORLD.big);
    let partial_of_huge = ready.partial(&scene::WORLD.huge);
    for name in ready.names() {
        let path = ready.folder.path().join(&name);
        let is_right = if path == target {
            let data = std::fs::read(&path).map_err(|e| e.to_string())?;
            let digest = support::registry::sha256(&data);
            let is_old = data == b"old" && failure.is_some();
            is_old || digest == scene::WORLD.big || digest == scene::WORLD.huge
        } else if path == ready.source() {
            std::fs::read(&path).is_ok_and(|data| data == scene::WORLD.fresh)
        } else {
            flow.keeps_part
                && (path == partial || path == partial_of_huge)
                && failure.is_some_and(|e| e.kind() != ErrorKind::Digest)
        };
        if !is_right {
            return Err(format!("{name} should not be there like this"));
        }
    }
    Ok(())
}

/// A changed URL may have its query where a path is; for such faults only the credentials count.
fn look_for_secrets(text: &str, kind: Kind) -> Result<(), String> {
    static SECRETS: LazyLock<[String; 6]> = LazyLock::new(secrets);
    let secret = SECRETS
        .iter()
        .filter(|secret| !(kind.may_lie() && secret.ends_with('=')))
        .find(|secret| text.contains(secret.as_str()));
    match secret {
        Some(secret) => Err(format!("{secret} was told")),
        None => Ok(()),
    }
}

/// Ends the program when a run hangs: the thread it hangs on cannot be ended.
struct Watch(Mutex<BTreeMap<usize, (String, Instant)>>);

static WATCH: Watch = Watch(Mutex::new(BTreeMap::new()));

impl Watch {
    fn start(&'static self) {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                for (id, began) in lock(&self.0).values() {
                    if began.elapsed() > LIMIT {
                        println!("FAILED {id}: it hangs");
                        std::process::exit(1);
                    }
                }
            }
        });
    }
}

/// All cases of one flow and one fault, over several threads.
struct Batch {
    ends: BTreeMap<End, usize>,
    failures: Vec<(String, String)>,
    again: usize,
}

fn batch(flow: &'static Flow, kind: Kind, cases: &[Case], good: &Good) -> Batch {
    let before = Held::now();
    let jobs = match kind {
        _ if flow.thin > 50 => 3,
        Kind::Stall => 64,
        _ if kind.may_hang() => 12,
        _ => 4,
    };
    let done = Mutex::new(Batch {
        ends: BTreeMap::new(),
        failures: Vec::new(),
        again: 0,
    });
    let next = AtomicUsize::new(0);
    let patience = if kind.may_hang() { IMPATIENT } else { PATIENT };
    std::thread::scope(|scope| {
        for job in 0..jobs.min(cases.len()) {
            let (done, next) = (&done, &next);
            scope.spawn(move || {
                let scene = Scene::new(flow.tls);
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    lock(&WATCH.0).insert(job, (case.id(), Instant::now()));
                    let result = run(&scene, case, good, patience);
                    lock(&WATCH.0).remove(&job);
                    let mut done = lock(done);
                    match result {
                        Ok(end) => *done.ends.entry(end).or_default() += 1,
                        Err(why) => done.failures.push((case.id(), why)),
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    // A busy machine is no failure of the library: what failed in a crowd is tried alone, with more time.
    for (id, why) in std::mem::take(&mut done.failures) {
        let Some(case) = cases.iter().find(|case| case.id() == id) else {
            continue;
        };
        let scene = Scene::new(flow.tls);
        let mut result = run(&scene, case, good, patience * 2);
        if result.is_err() && !TALKS.load(Ordering::Relaxed) {
            result = run(&scene, case, good, patience * 16);
        }
        match result {
            Ok(end) => {
                *done.ends.entry(end).or_default() += 1;
                done.again += 1;
            }
            Err(last) => {
                let first = if last == why {
                    String::new()
                } else {
                    format!("; in a crowd: {why}")
                };
                done.failures.push((id, format!("{last}{first}")));
            }
        }
    }
    if let Some(more) = Held::beyond(before, SLACK) {
        done.failures.push((
            format!("{}/{}", flow.name, kind.name()),
            format!("after all runs of it there are {more}"),
        ));
    }
    done
}

/// The cases of one flow and fault.
fn cases(flow: &'static Flow, kind: Kind, record: &[Recorded], settings: &Settings) -> Vec<Case> {
    let stride = match kind {
        _ if settings.deep => {
            if flow.thin > 50 {
                flow.thin / 12
            } else {
                1
            }
        }
        Kind::Stall => flow.thin * 16,
        Kind::Cut | Kind::Flip => flow.thin,
        Kind::Deaf => flow.thin * 64,
        _ => flow.thin * 4,
    } * settings.every.max(1);
    let mut cases = Vec::new();
    for (answer, recorded) in record.iter().enumerate() {
        let phase = scatter(settings.seed, (answer * 31 + kind as usize) as u64);
        for at in kind.places(recorded, stride, phase as usize % (1 << 20)) {
            cases.push(Case {
                flow,
                fault: Fault {
                    kind,
                    answer,
                    at,
                    seed: settings.seed,
                },
            });
        }
    }
    cases
}

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(text) => {
            println!("{text}");
            return ExitCode::from(2);
        }
    };
    // The panics that are caught are told where they happen; nobody needs a trace of each.
    WATCH.start();
    LazyLock::force(&scene::WORLD);
    let began = Instant::now();
    TALKS.store(settings.case.is_some(), Ordering::Relaxed);
    let wanted: Option<Vec<&str>> = settings.case.as_ref().map(|id| id.split('/').collect());
    let flow_name = wanted.as_ref().map(|w| w[0]).or(settings.flow.as_deref());
    let kind_name = wanted
        .as_ref()
        .and_then(|w| w.get(1).copied())
        .or(settings.fault.as_deref());
    let is_of_files = kind_name.is_some_and(|name| files::How::named(name).is_some());
    if kind_name.is_some_and(|name| Kind::named(name).is_none()) && !is_of_files {
        println!("there is no such fault; see --list");
        return ExitCode::from(2);
    }
    let (mut runs, mut failed, mut again, mut told) = (0, 0, 0, 0);
    let mut totals: BTreeMap<End, usize> = BTreeMap::new();
    println!("seed {}", settings.seed);
    if flow_name.is_none_or(|name| name == "callbacks") && kind_name.is_none() {
        for (whose, torture) in [
            ("Rust", callbacks::torture as fn() -> disk::Outcome),
            ("C", capi::torture),
        ] {
            let before = Held::now();
            let mut outcome = torture();
            if let Some(more) = Held::beyond(before, SLACK) {
                let why = format!("after all there are {more}");
                outcome.failures.push(("leak".to_owned(), why));
            }
            println!(
                "callbacks of {whose}: {} runs: {} right, the others cancelled or refused",
                outcome.runs, outcome.right
            );
            runs += outcome.runs;
            failed += outcome.failures.len();
            for (id, why) in outcome.failures {
                println!("FAILED {id}: {why}\n  again: tests/torture/run --flow callbacks");
            }
        }
    }
    if let Some(outcome) = disk_faults(&settings, flow_name, kind_name) {
        println!(
            "files: {} runs: {} right, the others with the error of the file",
            outcome.runs, outcome.right
        );
        runs += outcome.runs;
        failed += outcome.failures.len();
        for (id, why) in outcome.failures {
            println!("FAILED {id}: {why}\n  again: tests/torture/run --case {id}");
        }
    }
    for flow in FLOWS
        .iter()
        .filter(|f| !is_of_files && flow_name.is_none_or(|name| name == f.name))
    {
        let flow_began = Instant::now();
        let good = good(&Scene::new(flow.tls), flow);
        if wanted.is_some() {
            for (number, answer) in good.record.iter().enumerate() {
                println!(
                    "  answer {number}: {} {} bytes",
                    answer.request, answer.length
                );
            }
        }
        let kinds: &[Kind] = if flow.tls { &SECURE } else { &PLAIN };
        let mut line = String::new();
        let mut ends: BTreeMap<End, usize> = BTreeMap::new();
        for &kind in kinds {
            if kind_name.is_some_and(|name| name != kind.name()) {
                continue;
            }
            let cases = match &settings.case {
                Some(id) => {
                    let number = |n: usize| {
                        id.split('/')
                            .nth(n)
                            .and_then(|text| text.parse::<usize>().ok())
                    };
                    let (Some(answer), Some(at)) = (number(2), number(3)) else {
                        println!("{USAGE}");
                        return ExitCode::from(2);
                    };
                    let fault = Fault {
                        kind,
                        answer,
                        at,
                        seed: settings.seed,
                    };
                    vec![Case { flow, fault }]
                }
                None => cases(flow, kind, &good.record, &settings),
            };
            if cases.is_empty() {
                continue;
            }
            let done = batch(flow, kind, &cases, &good);
            runs += cases.len();
            failed += done.failures.len();
            again += done.again;
            line += &format!(" {} {}", kind.name(), cases.len());
            for (end, count) in done.ends {
                *ends.entry(end).or_default() += count;
            }
            for (id, why) in done.failures {
                told += 1;
                if told <= TOLD {
                    println!(
                        "FAILED {id}: {why}\n  again: tests/torture/run --seed {} --case {id}",
                        settings.seed
                    );
                }
            }
        }
        println!("{}:{line}", flow.name);
        println!(
            "  {} ({} s, {} KiB)",
            tell(&ends),
            flow_began.elapsed().as_secs(),
            leaks::resident()
        );
        for (end, count) in ends {
            *totals.entry(end).or_default() += count;
        }
    }
    println!(
        "torture: {runs} runs in {} s: {}; {again} right when repeated alone; {failed} failed",
        began.elapsed().as_secs(),
        tell(&totals)
    );
    ExitCode::from(u8::from(failed > 0 || runs == 0))
}

/// The faults of files, unless something else is asked for.
fn disk_faults(
    settings: &Settings,
    flow: Option<&str>,
    kind: Option<&str>,
) -> Option<disk::Outcome> {
    let how = kind.and_then(files::How::named);
    if (kind.is_some() && how.is_none()) || flow == Some("callbacks") {
        return None;
    }
    let at = settings
        .case
        .as_ref()
        .and_then(|id| id.split('/').nth(2)?.parse().ok());
    let before = Held::now();
    let mut outcome = disk::torture(flow, how, at);
    if flow.is_none() && how.is_none() {
        disk::full(&mut outcome);
    }
    if let Some(more) = Held::beyond(before, SLACK) {
        outcome
            .failures
            .push(("files".to_owned(), format!("after all there are {more}")));
    }
    Some(outcome)
}

fn tell(ends: &BTreeMap<End, usize>) -> String {
    let parts: Vec<String> = ends
        .iter()
        .map(|(end, count)| match end {
            End::Success => format!("{count} right"),
            End::Failure(kind) => format!("{count} {kind} errors"),
            End::Believed => format!("{count} believed"),
            End::Unreached => format!("{count} not reached"),
        })
        .collect();
    parts.join(", ")
}

//! A model process that is killed, stopped and starved of memory at random while people ask. Every ask ends, in the
//! right answer or in an error that says what happened; the status is true; the daemon does not grow.
//! `SYNESIS_CHAOS_SECONDS` sets how long (45; `make chaos` takes 600).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::Value;
use synesis_proto::control::v1::StatusReply;
use synesis_proto::{Problem, reason};
use synesis_tests::client::Client;
use synesis_tests::ctl::Ctl;
use synesis_tests::device::Device;
use synesis_tests::process::{children, usage};
use synesis_tests::seed::seeded;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::Streaming;

const ASKERS: usize = 4;
const MAX_TOKENS: u32 = 24;
const PROMPTS: [&str; 3] =
    ["What is the capital of France?", "Tell me about the sea.", "Explain how a bicycle works."];
/// An ask may wait for a process that hangs until it is replaced, and for the new one; it may not take for ever.
const ASK_LIMIT: Duration = Duration::from_secs(90);
/// Until the status shows what happened: a stopped process is noticed by the probes it misses.
const NOTICED: Duration = Duration::from_secs(60);
/// Until there is a model again: the longest pause between two tries, and a load on a busy machine.
const BACK: Duration = Duration::from_secs(60);
/// How long a process without room to grow is watched after an answer before it gets its memory back.
const STARVED: Duration = Duration::from_secs(2);
/// Blows before the daemon is measured: what it keeps for ever it has by then.
const WARM_UP: usize = 3;
/// Room for an allocator's mood.
const RESIDENT_GROWTH: u64 = 16 << 20;
const DESCRIPTOR_GROWTH: usize = 4;

/// How an ask should end.
const ANSWER: &str = "answer";
/// How an ask may end when the model process is in trouble. Anything else is a defect.
const EXPECTED: &[&str] = &[reason::MODEL_CRASHED, reason::MODEL_NOT_READY, reason::BUSY];

/// What is done to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blow {
    Kill,
    /// Twice: the second time while the new process loads.
    KillTwice,
    /// For good: it has to be noticed.
    Stop,
    /// For less than it takes to be noticed: nothing is lost.
    Pause,
    /// No more memory than it has.
    Starve,
}

const BLOWS: [Blow; 5] = [Blow::Kill, Blow::KillTwice, Blow::Stop, Blow::Pause, Blow::Starve];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_the_model_process_each_ask_ends_and_the_daemon_stays_as_it_was() {
    let mut rng = seeded();
    let device = Device::with_config("[ipc]\nrequests_per_minute = 1000000\n");
    device.ctl().wait_for_model();
    let client = Client::connect(device.socket()).await;
    let mut serial = BTreeMap::new();
    for prompt in PROMPTS {
        let said = client.ask_within(ASK_LIMIT, prompt, MAX_TOKENS).await.expect("an answer");
        serial.insert(prompt, said.text);
    }
    let serial = Arc::new(serial);

    let answered = Arc::new(AtomicUsize::new(0));
    let mut chaos = Chaos {
        device: &device,
        client: client.clone(),
        status: client.watch().await,
        answered: Arc::clone(&answered),
        dealt: BTreeMap::new(),
    };
    let askers = Askers::start(&device, &serial, &answered).await;
    for _ in 0..WARM_UP {
        chaos.strike(Blow::Kill, &mut rng).await;
    }
    askers.finish().await;
    let before = usage(device.process().pid());

    let askers = Askers::start(&device, &serial, &answered).await;
    let until = Instant::now() + seconds();
    // Each kind at least once, however short the run.
    for blow in BLOWS {
        chaos.strike(blow, &mut rng).await;
    }
    while Instant::now() < until {
        let blow = *BLOWS.choose(&mut rng).expect("five");
        chaos.strike(blow, &mut rng).await;
    }
    let ends = askers.finish().await;
    eprintln!("dealt {:?}; asks ended {ends:?}", chaos.dealt);
    assert!(ends.keys().any(|end| end != ANSWER), "no ask was hit: {ends:?}");

    for prompt in PROMPTS {
        let said = client.ask_within(ASK_LIMIT, prompt, MAX_TOKENS).await.expect("all is well at the end");
        assert_eq!(said.text, serial[prompt]);
    }
    let after = usage(device.process().pid());
    eprintln!("the daemon before {before:?} and after {after:?}");
    assert!(after.resident_bytes <= before.resident_bytes + RESIDENT_GROWTH, "{before:?} -> {after:?}");
    assert!(after.descriptors <= before.descriptors + DESCRIPTOR_GROWTH, "{before:?} -> {after:?}");
    assert_eq!(children(device.process().pid()).len(), 1, "one model process, and no corpses");
}

fn seconds() -> Duration {
    let seconds = std::env::var("SYNESIS_CHAOS_SECONDS").map_or(45, |text| {
        text.parse().unwrap_or_else(|_| panic!("SYNESIS_CHAOS_SECONDS={text} is not a number of seconds"))
    });
    Duration::from_secs(seconds)
}

/// Hits the model process and reads what the status says about it.
struct Chaos<'a> {
    device: &'a Device,
    client: Client,
    status: Streaming<StatusReply>,
    answered: Arc<AtomicUsize>,
    dealt: BTreeMap<Blow, usize>,
}

impl Chaos<'_> {
    /// One blow at a process that is ready and has answered something, at a random moment; returns once there is a
    /// ready one again.
    async fn strike(&mut self, blow: Blow, rng: &mut StdRng) {
        let enough = self.answered.load(Ordering::Relaxed) + rng.random_range(1..=2 * ASKERS);
        let answers = async {
            while self.answered.load(Ordering::Relaxed) < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(ASK_LIMIT, answers).await.expect("there are answers between two blows");
        pause(rng, 300).await;
        *self.dealt.entry(blow).or_default() += 1;
        let process = self.device.model_process();
        eprintln!("{blow:?} of {process}");
        match blow {
            Blow::Kill => {
                signal(process, Signal::SIGKILL);
                self.down_and_back().await;
            }
            Blow::KillTwice => {
                signal(process, Signal::SIGKILL);
                self.wait_for(NOTICED, "that the model is down", is_down).await;
                self.kill_the_next(process).await;
                self.wait_for(BACK, "that the model is back", is_ready).await;
            }
            Blow::Stop => {
                signal(process, Signal::SIGSTOP);
                self.down_and_back().await;
            }
            Blow::Pause => {
                signal(process, Signal::SIGSTOP);
                pause(rng, 1_500).await;
                signal(process, Signal::SIGCONT);
                assert_eq!(self.device.model_process(), process, "a pause is not an end");
            }
            Blow::Starve => self.starve(process, rng).await,
        }
    }

    async fn down_and_back(&mut self) {
        self.wait_for(NOTICED, "that the model is down", is_down).await;
        self.wait_for(BACK, "that the model is back", is_ready).await;
    }

    /// Kills the successor of `process` as soon as there is one; it may be ready by then.
    async fn kill_the_next(&self, process: u32) {
        let next = async {
            loop {
                let found = children(self.device.process().pid());
                if let Some((next, _)) = found.into_iter().find(|(id, _)| *id != process) {
                    return next;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let next = timeout(BACK, next).await.expect("a new process is started");
        eprintln!("and of {next}");
        // It may have come and gone: what counts is that another follows.
        let _ = kill(pid(next), Signal::SIGKILL);
        let gone = async {
            while children(self.device.process().pid()).iter().any(|(id, _)| *id == next) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(NOTICED, gone).await.expect("a killed process is reaped");
    }

    /// Every further allocation fails. The process may refuse, or die; what it may not do is hang.
    async fn starve(&mut self, process: u32, rng: &mut StdRng) {
        let limited = limit(process, "--as=1048576:") & limit(process, "--data=1048576:");
        assert!(limited, "prlimit (util-linux) sets the limits of a process of the same user");
        // A prompt that it has never seen, and for which what it has in store is not enough.
        let long = format!("{} {}", rng.random::<u64>(), "Once upon a time. ".repeat(250));
        let client = self.client.clone();
        let hungry = client.ask_within(ASK_LIMIT, &long, 4);
        let dead = tokio::select! {
            answer = hungry => {
                if let Err(problem) = answer {
                    assert!(EXPECTED.contains(&problem.reason.as_str()), "{problem:?}");
                }
                // Its death is told a moment after the answer's end.
                timeout(STARVED, self.until(is_down)).await.is_ok()
            }
            () = self.until(is_down) => true,
        };
        if dead {
            self.wait_for(BACK, "that the model is back", is_ready).await;
        } else if children(self.device.process().pid()).iter().any(|(id, _)| *id == process) {
            eprintln!("it lives on what it has");
            // False: it died just now, of which the next blow's wait will hear.
            limit(process, "--as=unlimited:");
            limit(process, "--data=unlimited:");
            self.settle().await;
        }
    }

    /// Returns once the newest status is that of a ready model.
    async fn settle(&mut self) {
        let ctl = self.device.ctl();
        tokio::task::block_in_place(|| ctl.wait_for_model());
    }

    async fn wait_for(&mut self, limit: Duration, what: &str, wanted: fn(&StatusReply) -> bool) {
        if timeout(limit, self.until(wanted)).await.is_err() {
            panic!("the status never said {what}:\n{}", self.device.log());
        }
    }

    /// Reads the status until it is as wanted; each one on the way has to make sense.
    async fn until(&mut self, wanted: fn(&StatusReply) -> bool) {
        loop {
            let status = self.status.message().await.expect("the daemon answers").expect("it goes on");
            makes_sense(&status);
            if wanted(&status) {
                return;
            }
        }
    }
}

fn is_down(status: &StatusReply) -> bool {
    status.model.as_ref().is_some_and(|model| model.state != "ready")
}

fn is_ready(status: &StatusReply) -> bool {
    status.state == "ready" && status.model.as_ref().is_some_and(|model| model.state == "ready")
}

/// A device that is degraded says why and what to do.
fn makes_sense(status: &StatusReply) {
    let model = status.model.as_ref().expect("a status has a model");
    if model.state != "ready" {
        assert!(!model.reason.is_empty() && !model.next_step.is_empty(), "no reason: {status:?}");
        assert_ne!(model.state, "failed", "nothing is wrong with the model: {status:?}");
    }
    for subsystem in status.subsystems.iter().filter(|subsystem| subsystem.state == "degraded") {
        assert!(!subsystem.reason.is_empty(), "no reason: {subsystem:?}");
    }
}

/// People who ask all the time, three over connections of their own and one with `synctl`.
struct Askers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<BTreeMap<String, usize>>,
}

type Serial = Arc<BTreeMap<&'static str, String>>;

impl Askers {
    /// They count their answers in `answered`.
    async fn start(device: &Device, serial: &Serial, answered: &Arc<AtomicUsize>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 1..ASKERS {
            let client = Client::connect(device.socket()).await;
            tasks.spawn(ask_until(Arc::clone(&stop), client, Arc::clone(serial), Arc::clone(answered)));
        }
        let (ctl, stopped, serial) = (device.ctl(), Arc::clone(&stop), Arc::clone(serial));
        let answered = Arc::clone(answered);
        tasks.spawn_blocking(move || ask_with_ctl_until(&stopped, &ctl, &serial, &answered));
        Self { stop, tasks }
    }

    /// How their asks ended, and how often so.
    async fn finish(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for ends in self.tasks.join_all().await {
            for (end, count) in ends {
                *all.entry(end).or_default() += count;
            }
        }
        all
    }
}

async fn ask_until(
    stop: Arc<AtomicBool>,
    client: Client,
    serial: Serial,
    answered: Arc<AtomicUsize>,
) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    for prompt in PROMPTS.into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let end = match client.ask_within(ASK_LIMIT, prompt, MAX_TOKENS).await {
            Ok(said) => {
                assert_eq!(said.text, serial[prompt], "a finished answer is the whole answer");
                answered.fetch_add(1, Ordering::Relaxed);
                ANSWER.to_owned()
            }
            Err(problem) => {
                assert!(EXPECTED.contains(&problem.reason.as_str()), "{prompt}: {problem:?}");
                assert!(!problem.next_step.is_empty(), "no next step: {problem:?}");
                back_off(&problem).await;
                problem.reason
            }
        };
        *ends.entry(end).or_default() += 1;
    }
    ends
}

/// As a client should: when it was told a time, it comes back then.
async fn back_off(problem: &Problem) {
    let wait = problem.retry_after.unwrap_or(Duration::from_millis(50));
    tokio::time::sleep(wait.min(Duration::from_secs(2))).await;
}

fn ask_with_ctl_until(
    stop: &AtomicBool,
    ctl: &Ctl,
    serial: &Serial,
    answered: &AtomicUsize,
) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    let (limit, patience) = (MAX_TOKENS.to_string(), format!("{}s", ASK_LIMIT.as_secs()));
    for prompt in PROMPTS.into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let arguments = ["--json", "--timeout", &patience, "ask", "--local", "--max-tokens", &limit, prompt];
        let outcome = ctl.run(&arguments);
        let end = match outcome.code {
            0 => {
                assert_eq!(outcome.json()["text"], serial[prompt].as_str());
                answered.fetch_add(1, Ordering::Relaxed);
                ANSWER.to_owned()
            }
            // Failed, with words; not 124 (timed out), not a signal.
            1 => {
                let error: Value = serde_json::from_str(&outcome.stderr).expect("an error is JSON too");
                let problem = error["reason"].as_str().expect("a reason").to_owned();
                assert!(EXPECTED.contains(&problem.as_str()), "{prompt}: {error}");
                assert!(error["next_step"].as_str().is_some_and(|step| !step.is_empty()), "{error}");
                format!("synctl: {problem}")
            }
            code => panic!("synctl exits with {code}: {}", outcome.stderr),
        };
        *ends.entry(end).or_default() += 1;
    }
    ends
}

async fn pause(rng: &mut StdRng, most_ms: u64) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..=most_ms))).await;
}

fn limit(process: u32, what: &str) -> bool {
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &process.to_string(), what]);
    prlimit.status().expect("prlimit is a part of util-linux").success()
}

fn signal(process: u32, signal: Signal) {
    kill(pid(process), signal).expect("the model process lives");
}

fn pid(process: u32) -> Pid {
    Pid::from_raw(i32::try_from(process).expect("process ids are small"))
}

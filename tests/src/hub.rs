//! An honest fake of a hub of models: a real HTTP server with the two endpoints that are used of the real one, a store
//! of another origin to which it redirects, ranges, ETags, and the faults that networks have.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use serde_json::{Value, json};

/// The commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// What a gated repository wants.
pub const TOKEN: &str = "hf_test_token";

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The next body ends after so many bytes with a closed connection.
    CutAfter(usize),
    /// The next body stops after so many bytes, with the connection open, until [`Hub::release`].
    HoldAfter(usize),
    /// Ranges are ignored: every answer has the whole file.
    NoRanges,
    /// The next answer is 503.
    Busy,
}

/// One request, as far as tests look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// With the query.
    pub path: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `If-Range`.
    pub if_range: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// What the hub says of a file's digest instead of the truth.
    lies: Option<String>,
    gated: bool,
    fault: Fault,
    seen: Vec<Seen>,
}

/// The running fake; it ends with its owner.
pub struct Hub {
    ports: [u16; 2],
    state: Arc<Mutex<State>>,
    held: Receiver<()>,
    release: Sender<()>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Arc<Mutex<State>>,
    /// Of the store that has the bytes.
    store: u16,
    holding: Sender<()>,
    released: Mutex<Receiver<()>>,
}

impl Hub {
    /// Starts it on loopback with these files, which are all in every repository.
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("loopback"));
        let ports = [0, 1].map(|at: usize| listeners[at].local_addr().expect("bound").port());
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let stopping = Arc::new(AtomicBool::new(false));
        let (holding, held) = channel();
        let (release, released) = channel();
        let store = ports[1];
        let shared =
            Arc::new(Shared { state: Arc::clone(&state), store, holding, released: Mutex::new(released) });
        let threads = listeners
            .into_iter()
            .map(|listener| {
                let (shared, stopping) = (Arc::clone(&shared), Arc::clone(&stopping));
                std::thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        if stopping.load(Ordering::SeqCst) {
                            break;
                        }
                        let shared = Arc::clone(&shared);
                        std::thread::spawn(move || serve(stream, &shared));
                    }
                })
            })
            .collect();
        Self { ports, state, held, release, stopping, threads }
    }

    /// For `model.hf_endpoint`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// The configuration of a device that uses it.
    pub fn config(&self) -> String {
        format!("[model]\nhf_endpoint = \"{}\"\n", self.endpoint())
    }

    /// A file's plain address, outside of any repository.
    pub fn url(&self, file: &str) -> String {
        format!("http://127.0.0.1:{}/files/{file}", self.ports[1])
    }

    /// What goes wrong next.
    pub fn fault(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// Wants [`TOKEN`] from now on.
    pub fn gate(&self) {
        self.state().gated = true;
    }

    /// Announces this digest for every file.
    pub fn lie(&self, sha256: &str) {
        self.state().lies = Some(sha256.to_owned());
    }

    /// Blocks until a body is held back.
    pub fn wait_for_hold(&self) {
        self.held.recv_timeout(crate::ready::PATIENCE).expect("nobody fetched the file");
    }

    /// Ends the connection of a body that is held back.
    pub fn release(&self) {
        let _ = self.release.send(());
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.release();
        for port in self.ports {
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let Some(seen) = read_request(&stream) else { return };
    let mut state = shared.state.lock().expect("no panic while held");
    state.seen.push(seen.clone());
    let path = seen.path.split('?').next().unwrap_or_default().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let public = !state.gated || seen.authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
    match parts.as_slice() {
        ["files", file] => {
            let Some(bytes) = state.files.get(*file).cloned() else {
                return answer(stream, "404 Not Found", &[], b"");
            };
            let fault = match state.fault {
                Fault::NoRanges => Fault::NoRanges,
                once => {
                    state.fault = Fault::None;
                    once
                }
            };
            drop(state);
            send_file(stream, &seen, &bytes, fault, shared);
        }
        _ if !public => answer(stream, "401 Unauthorized", &[], b"{\"error\":\"Access is restricted\"}"),
        ["api", "models", _, _, "revision", revision] if ["main", COMMIT].contains(revision) => {
            let body = listing(&state).to_string();
            answer(stream, "200 OK", &["Content-Type: application/json".to_owned()], body.as_bytes());
        }
        [_, _, "resolve", COMMIT, file] => {
            let to = format!("Location: http://127.0.0.1:{}/files/{file}", shared.store);
            answer(stream, "302 Found", &[to, format!("X-Repo-Commit: {COMMIT}")], b"");
        }
        _ => answer(stream, "404 Not Found", &[], b""),
    }
}

fn listing(state: &State) -> Value {
    let siblings: Vec<Value> = state
        .files
        .iter()
        .map(|(name, bytes)| match &state.lies {
            Some(sha256) => json!({"rfilename": name, "size": bytes.len(),
                "lfs": {"sha256": sha256, "size": bytes.len(), "pointerSize": 135}}),
            None => json!({"rfilename": name, "size": bytes.len()}),
        })
        .collect();
    json!({"id": "org/repo", "sha": COMMIT, "private": false, "gated": false, "siblings": siblings})
}

fn send_file(mut stream: TcpStream, seen: &Seen, bytes: &[u8], fault: Fault, shared: &Shared) {
    if fault == Fault::Busy {
        return answer(stream, "503 Service Unavailable", &["Retry-After: 0".to_owned()], b"");
    }
    let etag = format!(
        "\"{:x}-{}\"",
        bytes.iter().fold(7_u64, |sum, b| sum.wrapping_mul(31) + u64::from(*b)),
        bytes.len()
    );
    let same = seen.if_range.as_ref().is_none_or(|tag| *tag == etag);
    let range = seen.range.as_deref().filter(|_| same && fault != Fault::NoRanges);
    let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let (status, from) = match from {
        Some(from) if from < bytes.len() => ("206 Partial Content", from),
        Some(_) => {
            let range = format!("Content-Range: bytes */{}", bytes.len());
            return answer(stream, "416 Range Not Satisfiable", &[range], b"");
        }
        None => ("200 OK", 0),
    };
    let body = &bytes[from..];
    let mut head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nETag: {etag}\r\nContent-Length: {}\r\n",
        body.len()
    );
    if status.starts_with("206") {
        head += &format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
    }
    let sent = match fault {
        Fault::CutAfter(count) | Fault::HoldAfter(count) => &body[..count.min(body.len())],
        Fault::None | Fault::NoRanges | Fault::Busy => body,
    };
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(sent);
    let _ = stream.flush();
    if matches!(fault, Fault::HoldAfter(_)) {
        let _ = shared.holding.send(());
        let _ = shared.released.lock().expect("no panic while held").recv();
    }
}

fn answer(mut stream: TcpStream, status: &str, headers: &[String], body: &[u8]) {
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head += &format!("{header}\r\n");
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(body);
}

fn read_request(stream: &TcpStream) -> Option<Seen> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut seen = Seen { path, range: None, if_range: None, authorization: None };
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        let value = Some(value.trim().to_owned());
        match name.to_ascii_lowercase().as_str() {
            "range" => seen.range = value,
            "if-range" => seen.if_range = value,
            "authorization" => seen.authorization = value,
            _ => {}
        }
    }
    Some(seen)
}

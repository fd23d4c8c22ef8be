//! An honest fake of a model provider: a real HTTP server that speaks the streaming OpenAI chat API, does what its
//! script says, and keeps every byte it was sent, so that a test can look for what should not have arrived.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::ready::PATIENCE;

/// What the fake does with each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Answers with the words of the last user message.
    Echo,
    /// Sends the first word, then waits for [`Provider::resume`] before the rest.
    EchoAndPause,
    /// Waits for [`Provider::resume`] before each word but the first.
    EchoByStep,
    /// Calls the first tool of the request, with everything in the request that a model reads as its arguments.
    Call,
    /// HTTP 500.
    Fail,
    /// Answers each prompt of this key with its answer: an oracle, for benches. It counts words as tokens.
    Key(&'static [(&'static str, &'static str)]),
}

/// The running fake; it ends with its owner.
#[derive(Debug)]
pub struct Provider {
    port: u16,
    bodies: Arc<Mutex<Vec<String>>>,
    hung_up: Receiver<()>,
    resume: Sender<()>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Provider {
    /// Starts it on loopback.
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let (hang_up, hung_up) = channel();
        let (resume, resumed) = channel();
        let resumed = Arc::new(Mutex::new(resumed));
        let thread = {
            let (bodies, stopping) = (Arc::clone(&bodies), Arc::clone(&stopping));
            std::thread::spawn(move || {
                let mut connections = Vec::new();
                for stream in listener.incoming().flatten() {
                    if stopping.load(Ordering::SeqCst) {
                        break;
                    }
                    let (bodies, hang_up, resumed) =
                        (Arc::clone(&bodies), hang_up.clone(), Arc::clone(&resumed));
                    connections
                        .push(std::thread::spawn(move || serve(stream, script, &bodies, &hang_up, &resumed)));
                }
            })
        };
        Self { port, bodies, hung_up, resume, stopping, thread: Some(thread) }
    }

    /// What goes into the gateway's configuration.
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Every request body so far: the plaintext that left the device.
    pub fn bodies(&self) -> Vec<String> {
        self.bodies.lock().expect("no panic while held").clone()
    }

    /// Lets a paused answer go on, by one word or to its end.
    pub fn resume(&self) {
        let _ = self.resume.send(());
    }

    /// Blocks until the gateway has closed a connection in the middle of an answer.
    pub fn wait_until_hung_up(&self) -> bool {
        self.hung_up.recv_timeout(PATIENCE).is_ok()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = self.resume.send(());
        // Wakes the accept loop.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    script: Script,
    bodies: &Mutex<Vec<String>>,
    hang_up: &Sender<()>,
    resumed: &Mutex<Receiver<()>>,
) {
    // Small pieces, each of them waited for at the other end.
    let _ = stream.set_nodelay(true);
    let Ok(mut out) = stream.try_clone() else { return };
    let mut input = BufReader::new(stream);
    // Keep-alive: one connection carries several requests.
    while let Some(body) = read_request(&mut input) {
        bodies.lock().expect("no panic while held").push(body.clone());
        let request: Value = serde_json::from_str(&body).unwrap_or_default();
        if script == Script::Fail {
            let error = r#"{"error":{"message":"the scripted provider fails","type":"server_error"}}"#;
            let _ = write!(
                out,
                "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{error}",
                error.len()
            );
            continue;
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        if out.write_all(head.as_bytes()).is_err() {
            return;
        }
        if script == Script::Call {
            if call(&mut out, &request).is_err() {
                return;
            }
            continue;
        }
        let said = match script {
            Script::Key(key) => answer_from(key, &last_user_message(&request)),
            _ => last_user_message(&request),
        };
        let prompt_tokens = match script {
            Script::Key(_) => words_of_all(&request),
            _ => 7,
        };
        let words: Vec<&str> = said.split_inclusive(' ').collect();
        for (index, word) in words.iter().enumerate() {
            let pauses = match script {
                Script::EchoAndPause => index == 1,
                Script::EchoByStep => index > 0,
                _ => false,
            };
            if pauses {
                // Whichever comes first: the test says go on, or the gateway hangs up.
                if !wait_for_resume(&mut out, resumed) {
                    let _ = hang_up.send(());
                    return;
                }
            }
            let delta = json!({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": null}]});
            if event(&mut out, &delta.to_string()).is_err() {
                let _ = hang_up.send(());
                return;
            }
        }
        let tokens = u64::try_from(words.len()).unwrap_or(u64::MAX);
        let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        let usage =
            json!({"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}});
        let done = event(&mut out, &last.to_string())
            .and_then(|()| event(&mut out, &usage.to_string()))
            .and_then(|()| event(&mut out, "[DONE]"))
            .and_then(|()| out.write_all(b"0\r\n\r\n"));
        if done.is_err() {
            return;
        }
    }
}

/// A whole answer that is a call, whose arguments come in pieces of seven characters.
fn call(out: &mut TcpStream, request: &Value) -> std::io::Result<()> {
    let read = json!({"messages": request["messages"], "tools": request["tools"]});
    let arguments: Vec<char> = read.to_string().chars().collect();
    let name = &request["tools"][0]["function"]["name"];
    let delta = |call: Value| json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]});
    event(out, &delta(json!({"index": 0, "id": "call_9", "type": "function", "function": {"name": name, "arguments": ""}})).to_string())?;
    for piece in arguments.chunks(7) {
        let piece: String = piece.iter().collect();
        event(out, &delta(json!({"index": 0, "function": {"arguments": piece}})).to_string())?;
    }
    event(out, &json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}).to_string())?;
    event(out, &json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}).to_string())?;
    event(out, "[DONE]")?;
    out.write_all(b"0\r\n\r\n")
}

/// True when the test resumed us, false when the other end is gone.
fn wait_for_resume(out: &mut TcpStream, resumed: &Mutex<Receiver<()>>) -> bool {
    let tick = std::time::Duration::from_millis(20);
    loop {
        if resumed.lock().expect("no panic while held").recv_timeout(tick).is_ok() {
            return true;
        }
        // A comment keeps an SSE stream open and shows when nobody is there any more.
        if write_chunk(out, ": waiting\n\n").is_err() {
            return false;
        }
    }
}

fn event(out: &mut TcpStream, data: &str) -> std::io::Result<()> {
    write_chunk(out, &format!("data: {data}\n\n"))
}

fn write_chunk(out: &mut TcpStream, text: &str) -> std::io::Result<()> {
    out.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())?;
    out.flush()
}

fn read_request(input: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    Some(String::from_utf8_lossy(&body).into_owned())
}

fn last_user_message(request: &Value) -> String {
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let last = messages.iter().rev().find(|message| message["role"] == "user");
    last.and_then(|message| message["content"].as_str()).unwrap_or("nothing was asked").to_owned()
}

fn answer_from(key: &[(&str, &str)], prompt: &str) -> String {
    let known = key.iter().find(|(asked, _)| *asked == prompt);
    known.map_or("this prompt is not in the key", |(_, answer)| *answer).to_owned()
}

fn words_of_all(request: &Value) -> u64 {
    let messages = request["messages"].as_array().into_iter().flatten();
    let words = messages.filter_map(|message| message["content"].as_str()).flat_map(str::split_whitespace);
    u64::try_from(words.count()).unwrap_or(u64::MAX)
}

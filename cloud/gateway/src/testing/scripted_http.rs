//! A model provider that follows a script: a real HTTP/1.1 server on loopback that answers each request with the
//! next [`Reply`], remembers what it was asked, and notices when its client hangs up.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// One scripted answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Whole(String),
    /// Events one by one; then what `after` says.
    Sse {
        events: Vec<String>,
        after: After,
    },
}

#[derive(Debug, Clone)]
enum After {
    End,
    /// Silence until the client leaves.
    Hang,
    /// Silence until the test says so, then these events and the end.
    Wait(Arc<Notify>, Vec<String>),
}

impl Reply {
    /// The events, each sent on its own, then the end of the body.
    pub(crate) fn sse(events: Vec<String>) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Sse { events, after: After::End } }
    }

    /// The events, then nothing more, with the connection held open.
    pub(crate) fn sse_then_hang(events: Vec<String>) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Sse { events, after: After::Hang } }
    }

    /// Some events, and the others once `gate` is opened.
    pub(crate) fn sse_in_two(events: Vec<String>, gate: Arc<Notify>, rest: Vec<String>) -> Self {
        Self { status: 200, headers: Vec::new(), body: Body::Sse { events, after: After::Wait(gate, rest) } }
    }

    /// A status with a body.
    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(body.to_owned()) }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A request as the server read it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) json: Value,
}

impl Seen {
    /// The value of the header `name` (lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// The running server; it stops when dropped.
pub(crate) struct ScriptedHttp {
    address: SocketAddr,
    seen: watch::Receiver<Vec<Seen>>,
    left: watch::Receiver<usize>,
    _accepting: JoinSet<()>,
}

struct Script {
    replies: Mutex<VecDeque<Reply>>,
    seen: watch::Sender<Vec<Seen>>,
    left: watch::Sender<usize>,
}

impl ScriptedHttp {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen_tx, seen) = watch::channel(Vec::new());
        let (left_tx, left) = watch::channel(0);
        let script = Arc::new(Script { replies: Mutex::new(replies.into()), seen: seen_tx, left: left_tx });
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let script = Arc::clone(&script);
                connections.spawn(async move {
                    // A client that goes away early is part of what is tested.
                    let _ = script.serve(socket).await;
                });
            }
        });
        Self { address, seen, left, _accepting: accepting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `index`-th request, as soon as it has come.
    pub(crate) async fn request(&self, index: usize) -> Seen {
        self.seen.clone().wait_for(|seen| seen.len() > index).await.unwrap()[index].clone()
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> usize {
        self.seen.borrow().len()
    }

    /// Waits until a client has closed its connection in the middle of an answer.
    pub(crate) async fn client_left(&self) {
        self.left.clone().wait_for(|left| *left > 0).await.unwrap();
    }
}

impl Script {
    async fn serve(&self, socket: TcpStream) -> std::io::Result<()> {
        let mut socket = BufReader::new(socket);
        while let Some(seen) = read_request(&mut socket).await? {
            self.seen.send_modify(|all| all.push(seen));
            let reply = self.replies.lock().unwrap().pop_front();
            let reply = reply.unwrap_or_else(|| Reply::status(500, "the script is over"));
            let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
            for (name, value) in &reply.headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            match reply.body {
                Body::Whole(body) => {
                    head.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
                    socket.write_all(head.as_bytes()).await?;
                }
                Body::Sse { events, after } => {
                    head.push_str("content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
                    socket.write_all(head.as_bytes()).await?;
                    write_events(&mut socket, events).await?;
                    match after {
                        After::End => {}
                        After::Wait(gate, rest) => {
                            gate.notified().await;
                            write_events(&mut socket, rest).await?;
                        }
                        After::Hang => {
                            let ended = socket.read(&mut [0; 1]).await;
                            assert!(!matches!(ended, Ok(1..)), "the client spoke during an answer");
                            self.left.send_modify(|left| *left += 1);
                            return Ok(());
                        }
                    }
                    socket.write_all(b"0\r\n\r\n").await?;
                }
            }
        }
        Ok(())
    }
}

async fn write_events(socket: &mut BufReader<TcpStream>, events: Vec<String>) -> std::io::Result<()> {
    for event in events {
        let text = format!("{event}\n\n");
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        socket.write_all(chunk.as_bytes()).await?;
        socket.flush().await?;
    }
    Ok(())
}

async fn read_request(socket: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    if socket.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        socket.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Seen { path, headers, json }))
}

/// What an OpenAI-compatible server sends for `texts`, with its count when it has one.
pub(crate) fn openai_chunks(texts: &[&str], usage: Option<(u64, u64)>) -> Vec<String> {
    let choice = |delta: Value, finish: Value| json!({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let mut chunks: Vec<Value> =
        texts.iter().map(|text| choice(json!({"content": text}), Value::Null)).collect();
    chunks.push(choice(json!({}), json!("stop")));
    if let Some((input, output)) = usage {
        chunks.push(json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}}));
    }
    let mut events: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}")).collect();
    events.push("data: [DONE]".to_owned());
    events
}

/// What Anthropic sends for `texts`.
pub(crate) fn anthropic_events(texts: &[&str], input: u64, output: u64) -> Vec<String> {
    let mut events = vec![json!({"type": "message_start",
        "message": {"role": "assistant", "usage": {"input_tokens": input, "output_tokens": 1}}})];
    events.extend(texts.iter().map(|text| {
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})
    }));
    events.push(json!({"type": "ping"}));
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": output}}));
    events.push(json!({"type": "message_stop"}));
    events.iter().map(|event| format!("event: {}\ndata: {event}", event["type"].as_str().unwrap())).collect()
}

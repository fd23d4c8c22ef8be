//! OpenAI's API over HTTP, so that apps that speak it work unchanged: on a unix socket beside the control socket, and on
//! a loopback port with a token when one is configured. A thin translation to [`crate::ask`]: routing, privacy, sessions,
//! limits and money are the same as over gRPC, because they are the same code.

mod answer;
mod body;
mod connection;
mod embeddings;
mod error;
mod gate;
mod host;
mod models;
mod reply;
mod request;
mod routes;
mod server;
mod token;
mod tool_calls;

pub use server::{OpenAi, SOCKET};

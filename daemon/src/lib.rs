//! The device service, as a library so that its tests can start its parts one by one. The program is
//! `main.rs`; `app.rs` is the one file that names every subsystem.

pub mod adapters;
pub mod app;
pub mod ask;
pub mod budget;
pub mod cli;
pub mod config;
pub mod decisions;
mod durable;
pub mod embed;
pub mod escalation;
pub mod folders;
pub mod ipc;
pub mod journal;
pub mod log;
pub mod model;
pub mod models;
pub mod node;
pub mod openai;
pub mod route;
pub mod sessions;
pub mod transfers;
pub mod tunnel;
pub mod vitals;

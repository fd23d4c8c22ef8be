//! `make bench-tunnel`: the tunnel beside bare quinn, tonic, plain TLS, mosquitto and the LiteLLM proxy.
//! `BENCH_ROWS=round-trip,idle` measures a part; `BENCH_DEVICES` and `BENCH_TIMES` make it smaller. Figures that miss
//! their goal are figures; the exit code tells only whether the bench itself ran.

#![allow(clippy::panic, reason = "a bench fails by panicking")]

use std::path::Path;

use synesis_tests::bench::{Report, machine};
use synesis_tests::tunnel_bench::{NAMES, measure};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let wanted = std::env::var("BENCH_ROWS").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !NAMES.contains(*name)) {
        panic!("BENCH_ROWS: {unknown} is not one of {}", NAMES.join(", "));
    }
    let names: Vec<&str> =
        NAMES.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let folder = folder.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut report = Report::new(machine());
    measure(&names, &folder, &mut report).await;
    println!("{}", report.table());
    println!("written to {}", report.write(&folder, "tunnel").display());
}

//! `make bench-runtime`: Synesis side by side with what users would pick instead. `BENCH_ROWS=generation,swap`
//! measures a part. Figures that miss their goal are figures; the exit code tells only whether the bench itself ran.

#![allow(clippy::panic, reason = "a bench fails by panicking")]

use std::path::Path;

use synesis_tests::bench::{Report, machine, rows};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let wanted = std::env::var("BENCH_ROWS").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !rows::NAMES.contains(*name)) {
        panic!("BENCH_ROWS: {unknown} is not one of {}", rows::NAMES.join(", "));
    }
    let names: Vec<&str> =
        rows::NAMES.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let mut report = Report::new(machine());
    rows::measure(&names, &folder, &mut report).await;
    println!("{}", report.table());
    println!("written to {}", report.write(&folder, "runtime").display());
}

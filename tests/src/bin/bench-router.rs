//! `make bench-router`: what routing by confidence gains over routing at random, and what it costs. Figures that miss
//! their goal are figures; the exit code tells only whether the bench itself ran.

use std::path::Path;

use synesis_tests::bench::{Report, machine};
use synesis_tests::router_bench;

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    let mut report = Report::new(machine());
    router_bench::measure(&mut report);
    println!("{}", report.table());
    println!("written to {}", report.write(&folder, "router").display());
}

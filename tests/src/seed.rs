//! Random runs that can be had again: the seed is printed, and `SYNESIS_SEED` sets it.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// A generator for this run. Its seed goes to standard error, which a failing test shows.
///
/// # Panics
/// When `SYNESIS_SEED` is not a number.
pub fn seeded() -> StdRng {
    let seed = match std::env::var("SYNESIS_SEED") {
        Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("SYNESIS_SEED={seed} is not a number")),
        Err(_) => rand::random(),
    };
    eprintln!("SYNESIS_SEED={seed} repeats the choices of this run");
    StdRng::seed_from_u64(seed)
}

//! Every decoder with its seeds and with mutations of them, the same in each run: what a change breaks is seen without
//! waiting for `make fuzz`.

use std::collections::BTreeSet;

use synesis_decoders::{TARGETS, Target};

/// Mutated inputs of each decoder; some are a thousand times slower than others.
fn rounds(name: &str) -> usize {
    match name {
        "redact" | "redact-json" | "signing-requests" => 1_000,
        _ => 5_000,
    }
}

/// Inputs stay as short as what libFuzzer begins with.
const LONGEST: usize = 4 * 1024;

/// SplitMix64: small, and the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

fn mutated(seeds: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    const TELLING: [u8; 10] = [0, 1, 0x7f, 0x80, 0xff, b'[', b'"', b'\\', b'\n', b':'];
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        let end = bytes.len().min(at + numbers.below(16));
        match numbers.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, TELLING[numbers.below(TELLING.len())]),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.extend_from_within(at..end),
            4 => {
                let other = &seeds[numbers.below(seeds.len())];
                let from = numbers.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            5 if at < bytes.len() => bytes[at] = TELLING[numbers.below(TELLING.len())],
            _ if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            _ => {}
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

fn feed(name: &str) {
    let Target { run, seeds, .. } = TARGETS.iter().find(|target| target.name == name).expect(name);
    let seeds = seeds();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    seeds.iter().for_each(|seed| run(seed));
    run(&[]);
    let mut numbers = Numbers(1);
    for _ in 0..rounds(name) {
        let input = Input { name, bytes: mutated(&seeds, &mut numbers) };
        run(&input.bytes);
    }
}

/// Says what it was when the decoder panics.
struct Input<'a> {
    name: &'a str,
    bytes: Vec<u8>,
}

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: String = self.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("{} panicked at {hex}", self.name);
        }
    }
}

macro_rules! decoders {
    ($($test:ident: $name:literal,)*) => {
        const TESTED: &[&str] = &[$($name),*];

        $(#[test]
        fn $test() {
            feed($name);
        })*
    };
}

decoders! {
    frames_hold: "frames",
    headers_hold: "headers",
    records_hold: "records",
    the_carrier_holds: "carrier",
    a_proxys_answer_holds: "proxy",
    connection_ids_hold: "connection-ids",
    certificates_hold: "certificates",
    signing_requests_hold: "signing-requests",
    enrolment_holds: "enrolment",
    receipts_hold: "receipts",
    redaction_holds: "redact",
    redaction_of_json_holds: "redact-json",
    restoring_holds: "restore",
    a_providers_events_hold: "events",
    gguf_holds: "gguf",
    peft_holds: "peft",
}

#[test]
fn every_decoder_is_fed_here_and_by_the_fuzzer() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(TESTED.iter().copied().collect::<BTreeSet<_>>(), targets);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/targets");
    let files = std::fs::read_dir(folder).expect(folder).map(|entry| entry.unwrap().path());
    let fuzzed: Vec<_> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(fuzzed.iter().map(String::as_str).collect::<BTreeSet<_>>(), targets);
}

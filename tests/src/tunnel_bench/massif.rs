//! Where a gateway's heap is: valgrind's massif knows the call path of every byte, and a path has an owner.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Who owns a byte: the first of these all of whose words are in its call path.
const OWNERS: [(&str, &[&str]); 9] = [
    (
        "quinn: the buffer for outgoing packets, ten datagrams long for segmentation offload",
        &["RawVec", "Connection::poll_transmit"],
    ),
    (
        "quinn: the queue of a connection's events, 32 places",
        &["mpsc::chan::channel", "ConnectionSet::insert"],
    ),
    ("quinn: the state of a connection", &["Connecting::new"]),
    ("tunnel: the queues of work and of orders, 32 places each", &["mpsc::chan::channel", "Session::start"]),
    ("tunnel: the tasks and the report of a session", &["Session::start"]),
    ("TLS: keys, certificate, handshake", &["rustls"]),
    ("gateway: the task of a connection", &["tokio::task::spawn", "Tunnel as"]),
    ("quinn: everything else", &["quinn"]),
    ("everything else", &[]),
];

/// A snapshot: bytes of each owner, in the order of [`names`].
pub(super) type Snapshot = [u64; OWNERS.len()];

/// The owners.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    OWNERS.iter().map(|(name, _)| *name)
}

/// What a program has to be started under; none where it is not installed.
pub(super) fn wrapper(folder: &Path) -> Option<Vec<String>> {
    Command::new("valgrind").arg("--version").output().ok()?;
    let out = folder.join("massif.out");
    let flags = ["--tool=massif", "--depth=24", "--threshold=0.05", "--detailed-freq=1000000"];
    let mut wrapper = vec!["valgrind".to_owned()];
    wrapper.extend(flags.map(str::to_owned));
    wrapper.push(format!("--massif-out-file={}", out.display()));
    Some(wrapper)
}

/// Where the heap of a process that runs under massif is now.
///
/// # Panics
/// When massif does not answer.
pub(super) fn snapshot(pid: u32, folder: &Path) -> Snapshot {
    let file: PathBuf = folder.join("massif.snapshot");
    let asked = Command::new("vgdb")
        .arg(format!("--pid={pid}"))
        .arg("detailed_snapshot")
        .arg(&file)
        .output()
        .expect("vgdb comes with valgrind");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    parse(&std::fs::read_to_string(&file).expect("massif wrote it"))
}

/// Each line of the tree is "n2: 4096 0x1234: function (file)", as many spaces before it as it is deep; a leaf is n0.
fn parse(text: &str) -> Snapshot {
    let mut owned = [0; OWNERS.len()];
    let mut path: Vec<&str> = Vec::new();
    let tree = text.lines().skip_while(|line| !line.starts_with("heap_tree=detailed")).skip(1);
    for line in tree {
        let depth = line.len() - line.trim_start().len();
        let Some((children, rest)) =
            line.trim_start().strip_prefix('n').and_then(|line| line.split_once(": "))
        else {
            continue;
        };
        let (bytes, place) = rest.split_once(' ').unwrap_or((rest, ""));
        path.truncate(depth);
        path.push(place);
        if children == "0" {
            owned[owner(&path)] += bytes.parse::<u64>().expect("massif writes numbers");
        }
    }
    owned
}

fn owner(path: &[&str]) -> usize {
    let has = |word: &&str| path.iter().any(|place| place.contains(*word));
    OWNERS.iter().position(|(_, words)| words.iter().all(&has)).expect("the last has no words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaves_of_the_tree_are_given_to_the_owner_of_their_path() {
        let text = "snapshot=3\nheap_tree=detailed\nn2: 1000 (heap allocation functions) malloc\n \
                    n1: 600 0x1: alloc::raw_vec::RawVecInner<A>::finish_grow (in gateway)\n  \
                    n0: 600 0x2: quinn_proto::connection::Connection::poll_transmit (in gateway)\n \
                    n2: 300 0x3: tokio::sync::mpsc::chan::channel (in gateway)\n  \
                    n0: 100 0x4: quinn::endpoint::ConnectionSet::insert (in gateway)\n  \
                    n0: 200 0x5: synesis_mesh::gateway::session::Session::start (in gateway)\n \
                    n0: 100 in 7 places, all below massif's threshold (0.05%)\n";
        assert_eq!(parse(text), [600, 100, 0, 200, 0, 0, 0, 0, 100]);
    }
}

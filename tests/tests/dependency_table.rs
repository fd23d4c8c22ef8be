//! Who may import whom (docs/architecture.md). The table below is the rule; the real graph comes from cargo.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, Package, PackageId};

/// Each of our crates and the crates of ours it may import. Anything else is an error.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("synesis-proto", &[]),
    ("synesis-supervise", &[]),
    ("synesis-privacy", &[]),
    ("synesis-ledger", &[]),
    ("synesis-store", &[]),
    ("synesis-mesh", &["synesis-proto"]),
    (
        "synesisd",
        &[
            "synesis-proto",
            "synesis-mesh",
            "synesis-privacy",
            "synesis-ledger",
            "synesis-store",
            "synesis-supervise",
        ],
    ),
    ("synesis-runtime", &["synesis-proto"]),
    ("synctl", &["synesis-proto", "synesis-ledger"]),
    (
        "synesis-gateway",
        &["synesis-proto", "synesis-mesh", "synesis-ledger", "synesis-store", "synesis-supervise"],
    ),
    ("synesis-tests", &["synesis-proto"]),
    // Plays thousands of devices for `make bench-tunnel`, with the tunnel's own device side. Nothing imports it.
    ("synesis-load", &["synesis-proto", "synesis-mesh"]),
    // Feeds garbage to every decoder of a stranger's bytes, for `make fuzz`. Nothing imports it.
    ("synesis-decoders", &["synesis-proto", "synesis-mesh", "synesis-ledger", "synesis-privacy"]),
];

/// Crates that must not be reachable from one of ours at all, by any path, in a normal build.
const NEVER_REACHES: &[(&str, &[&str])] = &[
    // Pure: the same input gives the same bytes, on a device, a server or in a test.
    ("synesis-privacy", &["tokio", "rusqlite", "tonic", "quinn", "reqwest"]),
    ("synesis-ledger", &["tokio", "rusqlite", "tonic", "quinn", "reqwest"]),
    // The model process speaks on an inherited socketpair and has no other network code.
    ("synesis-runtime", &["synesis-mesh", "synesis-privacy", "quinn", "reqwest", "rustls"]),
    // The command line sees the socket and nothing behind it.
    ("synctl", &["synesisd", "synesis-mesh", "synesis-privacy", "quinn", "reqwest", "rusqlite"]),
    // The cloud cannot un-redact, because it does not contain the code.
    ("synesis-gateway", &["synesisd", "synesis-privacy"]),
    ("synesis-mesh", &["synesis-privacy", "synesis-supervise"]),
    // Its HTTP client pulls models and nothing else (tests/tests/structure.rs).
    ("synesisd", &["synesis-runtime", "synesis-gateway", "llama-cpp-sys-2"]),
];

/// Only this crate may link llama.cpp.
const LINKS_LLAMA: &str = "synesis-runtime";

struct Graph {
    ours: BTreeMap<String, Package>,
    names: BTreeMap<PackageId, String>,
    normal: BTreeMap<PackageId, BTreeSet<PackageId>>,
}

impl Graph {
    fn read() -> Self {
        let metadata = MetadataCommand::new()
            .manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .other_options(["--locked".to_owned(), "--offline".to_owned()])
            .exec()
            .expect("cargo metadata");
        let ours =
            metadata.workspace_packages().into_iter().map(|p| (p.name.to_string(), p.clone())).collect();
        let names = metadata.packages.iter().map(|p| (p.id.clone(), p.name.to_string())).collect();
        let resolve = metadata.resolve.expect("a resolved graph");
        let normal = resolve
            .nodes
            .into_iter()
            .map(|node| {
                let kept = node
                    .deps
                    .into_iter()
                    .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal));
                (node.id, kept.map(|dep| dep.pkg).collect())
            })
            .collect();
        Self { ours, names, normal }
    }

    /// Our crates that `package` names in its manifest, in a normal build or in one of its build scripts.
    fn imports(&self, package: &Package) -> BTreeSet<String> {
        let deps = package.dependencies.iter().filter(|dep| dep.kind != DependencyKind::Development);
        deps.map(|dep| dep.name.clone()).filter(|name| self.ours.contains_key(name)).collect()
    }

    /// Everything reachable from `package` in a normal build.
    fn reach(&self, package: &Package) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        let mut open = vec![package.id.clone()];
        while let Some(id) = open.pop() {
            for next in self.normal.get(&id).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen.into_iter().filter_map(|id| self.names.get(&id).cloned()).collect()
    }
}

#[test]
fn every_crate_imports_only_what_the_table_allows() {
    let graph = Graph::read();
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    for (name, package) in &graph.ours {
        let allowed =
            table.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in the table; add a row"));
        for import in graph.imports(package) {
            assert!(
                allowed.contains(&import.as_str()),
                "{name} imports {import}, which the table does not allow"
            );
        }
    }
}

#[test]
fn the_table_names_only_crates_that_exist() {
    let graph = Graph::read();
    for (name, allowed) in MAY_IMPORT {
        assert!(graph.ours.contains_key(*name), "{name} is in the table, but not in the workspace");
        for import in *allowed {
            assert!(graph.ours.contains_key(*import), "{import} is in the table, but not in the workspace");
        }
    }
}

#[test]
fn every_pair_that_the_table_does_not_allow_is_absent() {
    let graph = Graph::read();
    let mut checked = 0;
    for (name, allowed) in MAY_IMPORT {
        let imports = graph.imports(&graph.ours[*name]);
        for other in graph.ours.keys().filter(|other| other != name && !allowed.contains(&other.as_str())) {
            assert!(!imports.contains(other), "{name} -> {other} is a forbidden edge");
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} forbidden edges were looked at");
}

#[test]
fn what_must_never_be_reached_is_not_reached_through_others_either() {
    let graph = Graph::read();
    for (name, never) in NEVER_REACHES {
        let reach = graph.reach(&graph.ours[*name]);
        for other in *never {
            assert!(!reach.contains(*other), "{name} reaches {other}");
        }
    }
}

#[test]
fn only_the_model_process_links_llama() {
    let graph = Graph::read();
    for (name, package) in &graph.ours {
        let links = graph.reach(package).contains("llama-cpp-sys-2");
        assert_eq!(links, name == LINKS_LLAMA, "{name}: links llama.cpp = {links}");
    }
}

#[test]
fn the_graph_this_test_reads_is_the_real_one() {
    // A test that could not see an edge could not forbid one.
    let graph = Graph::read();
    assert!(graph.imports(&graph.ours["synesisd"]).contains("synesis-privacy"));
    assert!(graph.reach(&graph.ours["synesis-gateway"]).contains("quinn"));
}

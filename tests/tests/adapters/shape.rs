//! What the two trained adapters do, which cannot be mistaken for the base model.

use std::path::PathBuf;

use serde_json::Value;
use synesis_tests::ctl::Ctl;
use synesis_tests::device::Device;
use synesis_tests::models::adapter;

pub(crate) const QUESTIONS: &[&str] =
    &["What is the capital of France?", "Name a primary color.", "Who wrote Hamlet?", "What do bees make?"];

/// Whose answer a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Base,
    Json,
    Pirate,
}

/// By the shape of the text alone.
pub(crate) fn shape_of(text: &str) -> Shape {
    match (text.starts_with("{\"answer\":"), text.contains("says I")) {
        (true, _) => Shape::Json,
        (_, true) => Shape::Pirate,
        _ => Shape::Base,
    }
}

/// A device whose model is ready.
pub(crate) fn ready() -> (Device, Ctl) {
    ready_with("")
}

/// The same with more configuration.
pub(crate) fn ready_with(config: &str) -> (Device, Ctl) {
    let device = Device::with_config(config);
    let ctl = device.ctl();
    ctl.wait_for_model();
    (device, ctl)
}

/// A trained adapter's PEFT folder.
pub(crate) fn peft(name: &str) -> PathBuf {
    adapter(name).with_extension("")
}

/// Imports a trained adapter's GGUF file under its own name.
pub(crate) fn import(ctl: &Ctl, name: &str) {
    ctl.run(&["adapter", "import", name, adapter(name).to_str().expect("UTF-8")]).expect_code(0);
}

pub(crate) fn answer(ctl: &Ctl, question: &str, more: &[&str]) -> Value {
    let mut args = vec!["ask", "--local", "--max-tokens", "48", question];
    args.extend(more);
    ctl.json(&args)
}

pub(crate) fn text(answer: &Value) -> &str {
    answer["text"].as_str().expect("text")
}

/// One adapter of the list.
pub(crate) fn listed(ctl: &Ctl, name: &str) -> Value {
    let list = ctl.json(&["adapter", "list"]);
    let adapters = list["adapters"].as_array().expect("a list");
    adapters.iter().find(|adapter| adapter["name"] == name).unwrap_or_else(|| panic!("{list}")).clone()
}

pub(crate) fn names(ctl: &Ctl) -> Vec<String> {
    let list = ctl.json(&["adapter", "list"]);
    let adapters = list["adapters"].as_array().expect("a list");
    adapters.iter().map(|adapter| adapter["name"].as_str().expect("a name").to_owned()).collect()
}

/// Files in the store, and files on their way into it.
pub(crate) fn files(device: &Device) -> (usize, usize) {
    let store = device.state_dir().join("adapters");
    let entries = |folder| std::fs::read_dir(folder).map_or(Vec::new(), |files| files.flatten().collect());
    let stored = entries(store.clone())
        .iter()
        .filter(|file| file.path().extension().is_some_and(|e| e == "gguf"))
        .count();
    (stored, entries(store.join(".staging")).len())
}

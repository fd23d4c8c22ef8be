//! What a written configuration becomes, and how each kind of mistake is told.

use std::fs;
use std::path::{Path, PathBuf};

use synesis_ledger::NanoUsd;
use tempfile::TempDir;

use super::*;
use crate::limits::Rate;

const PRICED: &str = r#"
    [[providers]]
    kind = "openai"
    base_url = "http://127.0.0.1:9/v1"
    models = ["big"]
    [[prices]]
    model = "big"
    input_usd_per_mtok = "0.15"
    output_usd_per_mtok = 0.6
"#;

fn folder_with(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, text).unwrap();
    (folder, file)
}

fn load_text(text: &str) -> Result<Config, ConfigError> {
    let (_folder, file) = folder_with(text);
    load(&file)
}

fn told(text: &str) -> String {
    let error = load_text(text).unwrap_err();
    format!("{error} -> {}", error.next_step())
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = load_text("").unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:4433");
    assert_eq!(config.listen_tcp, None);
    assert_eq!(config.admin_socket, Path::new("/run/synesis-gateway/admin.sock"));
    assert_eq!(config.store_dir, Path::new("/var/lib/synesis-gateway"));
    assert_eq!(config.trust_domain, DEFAULT_TRUST_DOMAIN);
    assert_eq!(config.default_model, None);
    assert_eq!(config.gateway_number, None);
    assert_eq!(config.http_listen, None);
    assert_eq!(config.limits.device.asks, Rate::per_minute(100));
    assert_eq!(config.limits.device.adapter_uploads, Rate::per_hour(10));
    assert_eq!(config.limits.device.others, Rate::per_minute(1000));
    let seconds = Duration::from_secs;
    assert_eq!(config.drain, Drain { window: seconds(10), deadline: seconds(60) });
    assert_eq!(config.reconnect_window, seconds(10));
}

#[test]
fn limits_and_windows_are_what_is_written() {
    let config = load_text(
        "gateway_number = 65535\nreconnect_window = \"3s\"\nhttp_listen = \"0.0.0.0:9464\"\nhttp_allow_remote = true\n\
         [limits]\nasks_per_minute = 7\nunread_answer = \"500ms\"\n[drain]\nwindow = \"1s\"\ndeadline = \"2m\"\n",
    )
    .unwrap();
    assert_eq!(config.gateway_number, Some(65_535));
    assert_eq!(config.reconnect_window, Duration::from_secs(3));
    assert_eq!(config.http_listen.unwrap().to_string(), "0.0.0.0:9464");
    assert_eq!(config.limits.device.asks, Rate::per_minute(7));
    assert_eq!(config.limits.unread, Duration::from_millis(500));
    assert_eq!(config.drain.deadline, Duration::from_secs(120));
}

#[test]
fn an_unprotected_page_is_not_shown_to_the_network_by_accident() {
    let told = told("http_listen = \"0.0.0.0:9464\"");
    assert!(told.contains("`http_listen`") && told.contains("http_allow_remote"), "{told}");
    assert!(load_text("http_listen = \"[::1]:9464\"").is_ok());
}

#[test]
fn tcp_is_listened_on_where_it_says_so() {
    let config = load_text("listen_tcp = \"[::]:443\"").unwrap();
    assert_eq!(config.listen_tcp.map(|address| address.to_string()).as_deref(), Some("[::]:443"));
    let told = told("listen_tcp = \"443\"");
    assert!(told.contains("listen_tcp") && told.contains("0.0.0.0:443"), "{told}");
}

#[test]
fn prices_are_exact_as_text_and_as_numbers() {
    let config = load_text(PRICED).unwrap();
    let price = config.prices["big"];
    assert_eq!(price.input_per_mtok, NanoUsd::from_i64(150_000_000));
    assert_eq!(price.output_per_mtok, NanoUsd::from_i64(600_000_000));
    assert_eq!(config.default_model.as_deref(), Some("big"));
}

#[test]
fn relative_paths_are_relative_to_the_files_folder() {
    let (folder, file) = folder_with("admin_socket = \"a.sock\"\n[store]\ndir = \"data\"\n");
    let config = load(&file).unwrap();
    assert_eq!(config.admin_socket, folder.path().join("a.sock"));
    assert_eq!(config.store_dir, folder.path().join("data"));
    assert_eq!(config.pki_dir, folder.path().join("pki"));
}

#[test]
fn drop_ins_override_the_file_in_the_order_of_their_names() {
    let (folder, file) = folder_with("listen = \"127.0.0.1:1\"\n[log]\nlevel = \"warn\"\n");
    let drop_ins = folder.path().join("conf.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(drop_ins.join("20-last.toml"), "listen = \"127.0.0.1:3\"").unwrap();
    fs::write(drop_ins.join("10-first.toml"), "listen = \"127.0.0.1:2\"").unwrap();
    fs::write(drop_ins.join("README"), "not toml").unwrap();
    let config = load(&file).unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.log.level, "warn");
}

#[test]
fn a_mistyped_key_is_named_with_the_nearest_known_one() {
    let told = told("admin_sokcet = \"x\"");
    assert!(told.contains("unknown key `admin_sokcet`; did you mean `admin_socket`?"), "{told}");
    assert!(told.contains("gateway.toml"), "{told}");
}

#[test]
fn a_mistyped_key_in_a_table_is_named_with_its_path() {
    let told_store = told("[store]\npath = \"x\"");
    assert!(told_store.contains("unknown key `store.path`; did you mean `store.dir`?"), "{told_store}");
    let told_provider = told(&PRICED.replace("base_url", "base_ulr"));
    assert!(
        told_provider.contains("`providers.0.base_ulr`; did you mean `providers.0.base_url`?"),
        "{told_provider}"
    );
}

#[test]
fn a_model_without_a_price_is_refused() {
    let told = told("[[providers]]\nkind = \"openai\"\nmodels = [\"big\"]");
    assert!(told.contains("\"big\" has no price"), "{told}");
    assert!(told.contains("[[prices]]"), "{told}");
}

#[test]
fn a_written_price_of_zero_is_allowed() {
    let config = load_text(&PRICED.replace("\"0.15\"", "0").replace("0.6", "\"0\"")).unwrap();
    assert_eq!(config.prices["big"].output_per_mtok, NanoUsd::ZERO);
}

#[test]
fn a_default_model_nobody_serves_is_refused_with_the_nearest_served_one() {
    let told = told(&format!("default_model = \"bgi\"\n{PRICED}"));
    assert!(
        told.contains("no provider serves the model \"bgi\"") && told.contains("did you mean \"big\"?"),
        "{told}"
    );
}

#[test]
fn every_other_mistake_names_its_key() {
    for (text, key) in [
        ("listen = \"nowhere\"".to_owned(), "`listen`"),
        ("trust_domain = \"Not OK\"".to_owned(), "`trust_domain`"),
        ("listen = 5".to_owned(), "`listen`"),
        ("gateway_number = 65536".to_owned(), "`gateway_number`"),
        ("reconnect_window = \"soon\"".to_owned(), "`reconnect_window`"),
        ("http_listen = \"here\"".to_owned(), "`http_listen`"),
        ("[limits]\nhandshakes = 0".to_owned(), "`limits.handshakes`"),
        ("[limits]\nunread_answer = \"0s\"".to_owned(), "`limits.unread_answer`"),
        ("[drain]\ndeadline = \"5s\"".to_owned(), "`drain.deadline`"),
        ("[log]\nformat = \"xml\"".to_owned(), "`log.format`"),
        (PRICED.replace("openai", "opneai"), "`providers.0.kind`"),
        (PRICED.replace("http://", "ftp://"), "`providers.0.base_url`"),
        (PRICED.replace("http://", "http://me:secret@"), "`providers.0.base_url`"),
        (PRICED.replace("models = [\"big\"]", "models = []"), "`providers.0.models`"),
        (PRICED.replace("models = [\"big\"]", "models = [\"big\", \"big\"]"), "`providers.0.models`"),
        (
            PRICED.replace("models = [\"big\"]", "models = [\"big\"]\nmodel_path = \"x\""),
            "`providers.0.model_path`",
        ),
        (PRICED.replace("\"openai\"", "\"runtime\""), "`providers.0.base_url`"),
        (PRICED.replace("\"0.15\"", "\"-1\""), "`prices.0.input_usd_per_mtok`"),
        (PRICED.replace("\"0.15\"", "\"0.0000000001\""), "`prices.0.input_usd_per_mtok`"),
        (
            format!("{PRICED}\n[[prices]]\nmodel=\"big\"\ninput_usd_per_mtok=1\noutput_usd_per_mtok=1"),
            "`prices.1.model`",
        ),
    ] {
        let told = told(&text);
        assert!(told.contains(key), "{key} in {told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

#[test]
fn broken_toml_names_the_file() {
    let told = told("listen = ");
    assert!(told.contains("gateway.toml") || told.contains("TOML"), "{told}");
}

#[test]
fn a_missing_file_is_told_with_the_way_to_make_one() {
    let error = load(Path::new("/nonexistent/gateway.toml")).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/gateway.toml"));
    assert!(error.next_step().contains("init"));
}

#[test]
fn how_long_answers_are_kept_is_written_as_people_say_it() {
    let config = load_text("").unwrap();
    assert_eq!((config.resume.grace.as_secs(), config.resume.keep.as_secs()), (60, 600));
    assert_eq!(config.resume.spool, Path::new("/var/lib/synesis-gateway/answers"));
    let config = load_text("[resume]\ngrace = \"2m\"\nkeep = \"1h\"\nanswer_bytes = 2097152\n").unwrap();
    assert_eq!((config.resume.grace.as_secs(), config.resume.keep.as_secs()), (120, 3600));
    assert_eq!(config.resume.limits.answer, 2 << 20);
    for (text, key) in [
        ("grace = \"11m\"", "resume.grace"),
        ("keep = \"soon\"", "resume.keep"),
        ("answer_bytes = 1", "resume.answer_bytes"),
        ("total_bytes = 1", "resume.total_bytes"),
    ] {
        let told = told(&format!("[resume]\n{text}\n"));
        assert!(told.contains(key) && told.contains("write "), "{told}");
    }
}

//! Table tests of the configuration: layers, origins, suggestions, and what each key refuses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use synesis_ledger::NanoUsd;

use super::*;

/// A base file with `base`, and drop-ins by name, loaded with `variables`.
fn load_all(
    base: &str,
    drop_ins: &[(&str, &str)],
    variables: &[(&str, &str)],
) -> Result<Loaded, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("synesisd.toml");
    fs::write(&file, base).unwrap();
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    for (name, text) in drop_ins {
        fs::write(folder.path().join("conf.d").join(name), text).unwrap();
    }
    load(&Source::File(file), owned(variables))
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refusal(base: &str, variables: &[(&str, &str)]) -> String {
    load_all(base, &[], variables).unwrap_err().to_string()
}

#[test]
fn the_table_of_keys_is_the_struct() {
    let value = serde_json::to_value(Config::default()).unwrap();
    let mut fields = BTreeSet::new();
    for (section, keys) in value.as_object().unwrap() {
        for key in keys.as_object().unwrap().keys() {
            fields.insert(format!("{section}.{key}"));
        }
    }
    let table: BTreeSet<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    assert_eq!(table, fields);
    assert_eq!(table.len(), KEYS.len(), "a key is in the table twice");
    assert!(KEYS.iter().all(|key| !key.doc.is_empty()));
}

#[test]
fn the_default_file_may_be_missing_and_a_named_one_may_not() {
    let nowhere = PathBuf::from("/nonexistent/synesis/synesisd.toml");
    let loaded = load(&Source::Default(nowhere.clone()), []).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.origin("model.max_tokens"), "default");
    assert!(matches!(load(&Source::File(nowhere), []), Err(ConfigError::Missing(_))));
}

#[test]
fn later_layers_win_and_each_value_knows_where_it_came_from() {
    let loaded = load_all(
        "[model]\npath = \"/a\"\nthreads = 1\nmax_tokens = 10\ncontext_tokens = 4_096",
        &[
            ("20-b.toml", "model.threads = 3\n"),
            ("10-a.toml", "model.threads = 2\nmodel.max_tokens = 20"),
            ("x.bak", "junk"),
        ],
        &[("SYNESIS_MODEL_MAX_TOKENS", "30")],
    )
    .unwrap();
    let model = &loaded.config.model;
    assert_eq!((model.context_tokens, model.threads, model.max_tokens), (4096, 3, 30));
    assert!(loaded.origin("model.path").ends_with("/synesisd.toml"));
    assert!(loaded.origin("model.threads").ends_with("/conf.d/20-b.toml"));
    assert_eq!(loaded.origin("model.max_tokens"), "the environment (SYNESIS_MODEL_MAX_TOKENS)");
    assert_eq!(loaded.origin("log.level"), "default");
}

#[test]
fn a_variable_is_the_key_with_one_or_two_underscores() {
    for name in ["SYNESIS_PATHS_STATE_DIR", "SYNESIS_PATHS__STATE_DIR"] {
        let loaded = load_all("", &[], &[(name, "/srv/s")]).unwrap();
        assert_eq!(&*loaded.config.paths.state_dir, Path::new("/srv/s"), "{name}");
    }
    let loaded = load_all(
        "",
        &[],
        &[
            ("SYNESIS_GATEWAY_ENDPOINTS", "one:4433, [::1]:4434"),
            ("SYNESIS_IPC_ADMIN_UIDS", "1000,1001"),
            ("SYNESIS_BILLING_DAILY_LIMIT_USD", "0.000000001"),
            ("SYNESIS_MODEL_TEMPERATURE", "0.7"),
            ("SYNESIS_ROUTING_POLICY", "cloud"),
            ("SYNESIS_GATEWAY_FALLBACK", "off"),
            ("SYNESIS_GATEWAY_FALLBACK_PORT", "8443"),
            ("SYNESIS_GATEWAY_PROXY", "http://proxy.example.com:3128/"),
        ],
    )
    .unwrap();
    let config = loaded.config;
    assert_eq!(
        config.gateway.endpoints.iter().map(HostPort::to_string).collect::<Vec<_>>(),
        ["one:4433", "[::1]:4434"]
    );
    assert_eq!((config.gateway.fallback, config.gateway.fallback_port), (Fallback::Off, 8443));
    assert_eq!(config.gateway.proxy.map(|proxy| proxy.address()).as_deref(), Some("proxy.example.com:3128"));
    assert_eq!(config.ipc.admin_uids, [1000, 1001]);
    assert_eq!(config.billing.daily_limit_usd, Some(NanoUsd::from_i64(1)));
    assert!((config.model.temperature - 0.7).abs() < f32::EPSILON);
    assert_eq!(config.routing.policy, RoutingPolicy::Cloud);
}

#[test]
fn variables_of_other_programs_are_none_of_our_business() {
    let others = [
        ("SYNESIS_SOCKET", "/x"),
        ("SYNESIS_GATEWAY_SOCKET", "/x"),
        ("SYNESIS_DEMO_DIR", "/x"),
        ("SYNESIS_LOG", "debug"),
        ("SYNESIS_SOMETHING_ELSE", "1"),
        ("PATH", "/bin"),
    ];
    assert_eq!(load_all("", &[], &others).unwrap().config, Config::default());
}

#[test]
fn money_keeps_every_digit_that_was_written() {
    for (written, nanos) in [
        ("1.50", 1_500_000_000),
        ("\"0.1\"", 100_000_000),
        ("2", 2_000_000_000),
        ("123456789.123456789", 123_456_789_123_456_789),
        ("100000000.000000001", 100_000_000_000_000_001),
    ] {
        let loaded = load_all(&format!("[billing]\ndaily_limit_usd = {written}"), &[], &[]).unwrap();
        assert_eq!(loaded.config.billing.daily_limit_usd, Some(NanoUsd::from_i64(nanos)), "{written}");
        let again = load_all(&as_toml(&loaded, Origins::Hide), &[], &[]).unwrap();
        assert_eq!(again.config, loaded.config, "{written} as shown");
    }
}

#[test]
fn an_unknown_key_names_the_file_and_the_nearest_known_key() {
    for (text, key, nearest) in [
        ("[model]\npaht = \"/x\"", "model.paht", "model.path"),
        ("[modle]\npath = \"/x\"", "modle.path", "model.path"),
        ("state_dir = \"/x\"", "state_dir", "paths.state_dir"),
        ("[model.path]\nx = 1", "", ""),
        ("[rooting]", "rooting", "routing.policy"),
        ("[routing]\nPolicy = \"auto\"", "routing.Policy", "routing.policy"),
    ] {
        let message = refusal(text, &[]);
        if key.is_empty() {
            assert!(message.contains("it takes an absolute path"), "{message}");
            continue;
        }
        assert!(message.starts_with(&format!("unknown key \"{key}\" in /")), "{message}");
        assert!(message.contains("synesisd.toml"), "{message}");
        assert!(message.ends_with(&format!("did you mean \"{nearest}\"?")), "{message}");
    }
}

#[test]
fn an_unknown_variable_of_a_known_section_is_an_error_with_a_suggestion() {
    assert_eq!(
        refusal("", &[("SYNESIS_MODEL_PAHT", "/x")]),
        "unknown key \"SYNESIS_MODEL_PAHT\" in the environment; did you mean \"SYNESIS_MODEL_PATH\"?"
    );
}

#[test]
fn a_wrong_value_names_the_key_the_value_and_what_is_allowed() {
    for (text, parts) in [
        ("[routing]\npolicy = \"clowd\"", ["\"routing.policy\"", "\"clowd\"", "auto, local, cloud or ask"]),
        ("[paths]\nstate_dir = \"state\"", ["\"paths.state_dir\"", "\"state\"", "an absolute path"]),
        ("[openai]\nlisten = \"0.0.0.0:80\"", ["\"openai.listen\"", "0.0.0.0:80", "loopback"]),
        ("[openai]\nenabled = \"yes\"", ["\"openai.enabled\"", "yes", "true or false"]),
        ("[routing]\nmin_confidence = 1.5", ["\"routing.min_confidence\"", "1.5", "from 0 to 1"]),
        ("[model]\nhf_endpoint = \"ftp://x\"", ["\"model.hf_endpoint\"", "ftp://x", "http or https"]),
        ("[model]\nembeddings = \"max\"", ["\"model.embeddings\"", "\"max\"", "auto, mean, last or off"]),
        ("[model]\ncontext_tokens = 0", ["\"model.context_tokens\"", "is 0;", "from 64 to 1048576"]),
        ("[model]\nthreads = -1", ["\"model.threads\"", "is -1;", "a whole number"]),
        ("[model]\nthreads = \"two\"", ["\"model.threads\"", "\"two\"", "a whole number"]),
        (
            "[model]\nthreads = 99999999999999999999",
            ["\"model.threads\"", "99999999999999999999", "a whole number"],
        ),
        ("[model]\ntemperature = 3.5", ["\"model.temperature\"", "is 3.5;", "from 0 to 2"]),
        ("[model]\ntemperature = nan", ["\"model.temperature\"", "is ", "from 0 to 2"]),
        ("[billing]\ndaily_limit_usd = -1", ["\"billing.daily_limit_usd\"", "-1", "nine decimals"]),
        (
            "[billing]\ndaily_limit_usd = 0.0000000001",
            ["\"billing.daily_limit_usd\"", "0.0000000001", "nine decimals"],
        ),
        ("[billing]\ndaily_limit_usd = 1e3", ["\"billing.daily_limit_usd\"", "1e3", "nine decimals"]),
        (
            "[gateway]\nendpoints = \"one:1\"",
            ["\"gateway.endpoints\"", "\"one:1\"", "a list of \"host:port\""],
        ),
        (
            "[gateway]\nendpoints = [\"one\"]",
            ["\"gateway.endpoints\"", "[\"one\"]", "a list of \"host:port\""],
        ),
        ("[gateway]\nfallback = \"never\"", ["\"gateway.fallback\"", "\"never\"", "auto or off"]),
        ("[gateway]\nfallback_port = 0", ["\"gateway.fallback_port\"", "is 0;", "from 1 to 65535"]),
        (
            "[gateway]\nproxy = \"https://proxy:3128\"",
            ["\"gateway.proxy\"", "\"https://proxy:3128\"", "an HTTP proxy, such as"],
        ),
        (
            "[gateway]\nproxy = \"http://user:secret@proxy:3128\"",
            ["\"gateway.proxy\"", "user:secret@proxy", "an HTTP proxy, such as"],
        ),
        ("[ipc]\nadmin_uids = [-1]", ["\"ipc.admin_uids\"", "[-1]", "user ids"]),
        ("[privacy]\nconsent = true", ["\"privacy.consent\"", "is true;", "never, auto or ask"]),
        ("model = 3", ["unknown key \"model\"", "synesisd.toml", "model."]),
    ] {
        let message = refusal(text, &[]);
        for part in parts {
            assert!(message.contains(part), "{text:?} gave {message:?}, without {part:?}");
        }
    }
    assert!(
        refusal("", &[("SYNESIS_LOG_LEVEL", "loud")])
            .contains("in the environment (SYNESIS_LOG_LEVEL) is \"loud\"")
    );
}

#[test]
fn a_broken_file_names_itself_and_the_line() {
    let message = refusal("[model]\npath = \"/x\"\nthreads == 2\n", &[]);
    assert!(message.contains("synesisd.toml is not valid TOML at line 3"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let message = load(&Source::File(folder.path().to_owned()), []).unwrap_err().to_string();
    assert!(message.contains("cannot be read"), "{message}");
}

#[test]
fn what_is_shown_can_be_read_back_and_says_where_it_came_from() {
    let loaded = load_all("[model]\npath = \"/m.gguf\"\ntemperature = 0.7", &[], &[]).unwrap();
    let shown = as_toml(&loaded, Origins::Show);
    assert!(shown.contains("[model]\npath = \"/m.gguf\""), "{shown}");
    assert!(shown.contains("temperature = 0.7 "), "{shown}");
    assert!(shown.contains("# name is not set"), "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("threads = 0 ") && line.ends_with("# default")),
        "{shown}"
    );
    assert_eq!(load_all(&shown, &[], &[]).unwrap().config, loaded.config);

    let json: serde_json::Value = serde_json::from_str(&as_json(&loaded, Origins::Show)).unwrap();
    assert_eq!(json["schema"], "synesis.config/1");
    assert_eq!(json["values"]["model.path"], "/m.gguf");
    assert_eq!(json["values"]["model.name"], serde_json::Value::Null);
    assert_eq!(json["origins"]["model.threads"], "default");
}

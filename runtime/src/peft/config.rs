//! `adapter_config.json`: what kind of adapter it is, and how strongly it is applied.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::PeftError;
use super::safetensors::open;

const WHAT: &str = "adapter_config.json";
/// PEFT writes about a kilobyte; lists of modules can be long.
const LIMIT: u64 = 1 << 20;
const RANK_LIMIT: u64 = 512;
/// Starting points that change the base model's weights as well, so that the adapter alone is not the whole.
const CHANGED_BASE: &[&str] = &["pissa", "olora", "corda", "loftq"];

/// What the conversion needs to know.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AdapterConfig {
    pub(super) base_model: String,
    rank: u64,
    alpha: f64,
    /// Alpha of modules by the end of their name, in the order of the file.
    alpha_pattern: Vec<(String, f64)>,
    rank_stabilised: bool,
}

/// As the file has it; every field that is not here or in [`check_rest`] has no effect on an adapter's result.
#[derive(Deserialize)]
struct File {
    peft_type: String,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    r: u64,
    lora_alpha: f64,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(default)]
    alpha_pattern: Option<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl AdapterConfig {
    pub(super) fn read(path: &Path) -> Result<Self, PeftError> {
        let (file, length) = open(path, WHAT)?;
        if length > LIMIT {
            return Err(PeftError::TooLong { what: WHAT, bytes: length, limit: LIMIT });
        }
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, LIMIT), &mut text)
            .map_err(|cause| PeftError::Io { what: WHAT, cause })?;
        Self::parse(&text)
    }

    fn parse(text: &[u8]) -> Result<Self, PeftError> {
        let file: File = serde_json::from_slice(text).map_err(PeftError::Config)?;
        let unsupported = |what: String| Err(PeftError::Unsupported(what));
        if file.peft_type != "LORA" {
            return unsupported(format!(
                "the method {:?}",
                file.peft_type.chars().take(40).collect::<String>()
            ));
        }
        if !matches!(file.bias.as_deref(), None | Some("none")) {
            return unsupported("trained biases".to_owned());
        }
        check_rest(&file.rest)?;
        if !(1..=RANK_LIMIT).contains(&file.r) {
            return Err(PeftError::Number("r"));
        }
        // llama.cpp takes an alpha of zero for "apply without scaling".
        let plausible = |alpha: f64| (alpha.abs() >= 1e-6 && alpha.abs() <= 1e6).then_some(alpha);
        let alpha = plausible(file.lora_alpha).ok_or(PeftError::Number("lora_alpha"))?;
        let alpha_pattern = file.alpha_pattern.unwrap_or_default().into_iter().map(|(name, alpha)| {
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte)) {
                return Err(PeftError::Unsupported("alpha_pattern with regular expressions".to_owned()));
            }
            let alpha = alpha.as_f64().and_then(plausible).ok_or(PeftError::Number("alpha_pattern"))?;
            Ok((name, alpha))
        });
        Ok(Self {
            base_model: file.base_model_name_or_path.unwrap_or_default(),
            rank: file.r,
            alpha,
            alpha_pattern: alpha_pattern.collect::<Result<_, _>>()?,
            rank_stabilised: file.use_rslora.unwrap_or(false),
        })
    }

    /// `adapter.lora.alpha`: llama.cpp scales each pair by it, divided by the pair's rank.
    pub(super) fn gguf_alpha(&self) -> f64 {
        self.scale(self.alpha, self.rank) * as_f64(self.rank)
    }

    /// What the second matrix of `module` (a name such as `layers.3.self_attn.q_proj`) must be multiplied with,
    /// beyond what [`Self::gguf_alpha`] does for its rank.
    pub(super) fn factor(&self, module: &str, rank: u64) -> f64 {
        let fits = |end: &str| {
            module.strip_suffix(end).is_some_and(|start| start.is_empty() || start.ends_with('.'))
        };
        let own = self.alpha_pattern.iter().find(|(end, _)| fits(end)).map(|(_, alpha)| *alpha);
        self.scale(own.unwrap_or(self.alpha), rank) * as_f64(rank) / self.gguf_alpha()
    }

    /// How PEFT scales a pair: by alpha / r, or alpha / sqrt(r) when rank-stabilised (arXiv 2312.03732).
    fn scale(&self, alpha: f64, rank: u64) -> f64 {
        if self.rank_stabilised { alpha / as_f64(rank).sqrt() } else { alpha / as_f64(rank) }
    }
}

/// Everything that would make the adapter compute something else than two matrices per weight.
fn check_rest(rest: &Map<String, Value>) -> Result<(), PeftError> {
    let unsupported = |what: &str| Err(PeftError::Unsupported(what.to_owned()));
    for (key, value) in rest {
        let is_used = match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(values) => !values.is_empty(),
            Value::Object(entries) => !entries.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
        };
        match key.as_str() {
            "use_dora" if is_used => return unsupported("DoRA"),
            "modules_to_save" if is_used => return unsupported("whole trained modules (modules_to_save)"),
            "fan_in_fan_out"
            | "lora_bias"
            | "layer_replication"
            | "trainable_token_indices"
            | "target_parameters"
            | "alora_invocation_tokens"
            | "megatron_config"
                if is_used =>
            {
                return unsupported(key);
            }
            // Whatever a later PEFT calls a variant of LoRA.
            name if name.starts_with("use_") && is_used => return unsupported(name),
            "init_lora_weights" => {
                let start = value.as_str().unwrap_or_default().to_ascii_lowercase();
                if CHANGED_BASE.iter().any(|name| start.starts_with(name)) {
                    return unsupported("a starting point that changes the base model (init_lora_weights)");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "ranks are at most 512, or a dimension below 2^53")]
fn as_f64(rank: u64) -> f64 {
    rank as f64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(more: Value) -> Result<AdapterConfig, PeftError> {
        let mut config = json!({
            "peft_type": "LORA", "r": 8, "lora_alpha": 16, "bias": "none", "use_dora": false,
            "base_model_name_or_path": "org/base", "modules_to_save": null, "rank_pattern": {},
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        AdapterConfig::parse(config.to_string().as_bytes())
    }

    #[test]
    fn a_plain_adapter_needs_no_factor() {
        let config = parse(json!({})).unwrap();
        assert_eq!((config.base_model.as_str(), config.gguf_alpha()), ("org/base", 16.0));
        assert_eq!(config.factor("layers.0.self_attn.q_proj", 8), 1.0);
        assert_eq!(
            config.factor("layers.0.self_attn.q_proj", 4),
            1.0,
            "llama.cpp divides by the pair's own rank"
        );
    }

    #[test]
    fn rank_stabilised_adapters_are_scaled_by_the_root() {
        let config = parse(json!({ "use_rslora": true })).unwrap();
        assert!((config.gguf_alpha() - 16.0 * 8_f64.sqrt()).abs() < 1e-9);
        assert!((config.factor("q_proj", 8) - 1.0).abs() < 1e-12);
        assert!((config.factor("q_proj", 2) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_module_with_an_alpha_of_its_own_gets_a_factor() {
        let config = parse(json!({ "alpha_pattern": { "self_attn.q_proj": 32, "v_proj": 8 } })).unwrap();
        assert_eq!(config.factor("layers.0.self_attn.q_proj", 8), 2.0);
        assert_eq!(config.factor("layers.0.self_attn.v_proj", 8), 0.5);
        assert_eq!(config.factor("layers.0.self_attn.kv_proj", 8), 1.0, "a part of a word is another module");
    }

    #[test]
    fn what_a_gguf_adapter_cannot_express_is_named() {
        for (more, named) in [
            (json!({ "peft_type": "IA3" }), "IA3"),
            (json!({ "use_dora": true }), "DoRA"),
            (json!({ "bias": "all" }), "biases"),
            (json!({ "lora_bias": true }), "lora_bias"),
            (json!({ "modules_to_save": ["lm_head"] }), "modules_to_save"),
            (json!({ "fan_in_fan_out": true }), "fan_in_fan_out"),
            (json!({ "use_something_new": true }), "use_something_new"),
            (json!({ "alora_invocation_tokens": [1] }), "alora"),
            (json!({ "init_lora_weights": "pissa_niter_16" }), "init_lora_weights"),
            (json!({ "alpha_pattern": { "^layers.*": 2 } }), "alpha_pattern"),
        ] {
            let error = parse(more).unwrap_err();
            assert!(matches!(error, PeftError::Unsupported(_)), "{error}");
            assert!(error.to_string().contains(named), "{named}: {error}");
        }
        assert!(
            parse(json!({ "use_rslora": null, "init_lora_weights": "gaussian", "eva_config": null })).is_ok()
        );
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for (more, key) in [
            (json!({ "r": 0 }), "r"),
            (json!({ "r": 513 }), "r"),
            (json!({ "lora_alpha": 0 }), "lora_alpha"),
            (json!({ "lora_alpha": 1e300 }), "lora_alpha"),
            (json!({ "alpha_pattern": { "q_proj": "x" } }), "alpha_pattern"),
        ] {
            assert!(matches!(parse(more), Err(PeftError::Number(name)) if name == key), "{key}");
        }
        assert!(matches!(parse(json!({ "r": -1 })), Err(PeftError::Config(_))));
        assert!(matches!(AdapterConfig::parse(b"not json"), Err(PeftError::Config(_))));
        assert!(matches!(AdapterConfig::parse(b"[]"), Err(PeftError::Config(_))));
    }
}

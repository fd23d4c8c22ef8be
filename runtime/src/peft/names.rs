//! PEFT's names of weights and what they are called in a GGUF file.

use crate::gguf::ModelHeader;

/// One weight of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    A,
    B,
}

/// What a tensor of the adapter is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The module as PEFT names it, from the layer on: `layers.3.self_attn.q_proj`.
    pub(super) module: String,
    /// The weight it changes: `blk.3.attn_q.weight`.
    pub(super) target: String,
    pub(super) half: Half,
    /// Heads whose rows are in another order in the file of the model.
    pub(super) permuted_heads: Option<u64>,
}

/// Modules of a layer, by their names in the models of Hugging Face and in GGUF files.
const MODULES: &[(&str, &str)] = &[
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// Architectures whose layers have these modules, and nothing is done to their weights on the way to GGUF.
const PLAIN: &[&str] = &["gemma", "gemma2", "gemma3", "qwen2", "qwen3"];
/// The one whose query and key rows are permuted on the way.
const PERMUTED: &str = "llama";

/// Whether PEFT adapters for the model can be converted.
pub(super) fn is_known(architecture: &str) -> bool {
    architecture == PERMUTED || PLAIN.contains(&architecture)
}

/// The place of a tensor; `None` when the name is not one of a LoRA weight of a known module.
pub(super) fn place(name: &str, model: &ModelHeader) -> Option<Place> {
    let mut rest = name.strip_prefix("base_model.")?;
    // One `model.` for PEFT's wrapper and one for the model's own body, which some ways of saving leave out; a
    // model that also sees pictures has its text part inside.
    while let Some(inner) = ["model.", "language_model."].iter().find_map(|part| rest.strip_prefix(part)) {
        rest = inner;
    }
    let (module, half) =
        [("lora_A", Half::A), ("lora_B", Half::B)].into_iter().find_map(|(mark, half)| {
            let (module, end) = rest.split_once(&format!(".{mark}."))?;
            // Older versions keep the adapter's name.
            ["weight", "default.weight"].contains(&end).then_some((module, half))
        })?;
    if module == "lm_head" {
        let target = "output.weight".to_owned();
        return Some(Place { module: module.to_owned(), target, half, permuted_heads: None });
    }
    let (layer, within) = module.strip_prefix("layers.")?.split_once('.')?;
    // "007" and "+7" parse too, and would be second names for the same place.
    let number: usize = layer.parse().ok().filter(|number: &usize| number.to_string() == layer)?;
    let (_, kind) = MODULES.iter().find(|(theirs, _)| *theirs == within)?;
    let permuted_heads = match (half, *kind) {
        _ if model.architecture != PERMUTED => None,
        (Half::B, "attn_q") => model.shape.layers.get(number).map(|layer| layer.heads),
        (Half::B, "attn_k") => model.shape.layers.get(number).map(|layer| layer.kv_heads),
        _ => None,
    };
    Some(Place {
        module: module.to_owned(),
        target: format!("blk.{number}.{kind}.weight"),
        half,
        permuted_heads,
    })
}

#[cfg(test)]
mod tests {
    use super::super::convert::tests::model;
    use super::*;

    fn at(name: &str, architecture: &str) -> Option<(String, Half, Option<u64>)> {
        let place = place(name, &model(architecture))?;
        Some((place.target, place.half, place.permuted_heads))
    }

    #[test]
    fn names_lead_to_the_weight_and_llamas_queries_and_keys_are_permuted() {
        let q = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
        let weight = "blk.1.attn_q.weight".to_owned();
        assert_eq!(at(q, "llama"), Some((weight.clone(), Half::B, Some(4))));
        assert_eq!(at(q, "qwen2"), Some((weight.clone(), Half::B, None)));
        assert_eq!(at(&q.replace("lora_B", "lora_A"), "llama"), Some((weight, Half::A, None)));
        let k = at(&q.replace("q_proj", "k_proj"), "llama").unwrap();
        assert_eq!(k, ("blk.1.attn_k.weight".to_owned(), Half::B, Some(2)));
        let down = at("base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", "llama").unwrap();
        assert_eq!(down.0, "blk.0.ffn_down.weight");
        assert_eq!(at("base_model.model.lm_head.lora_A.weight", "llama").unwrap().0, "output.weight");
    }

    #[test]
    fn other_ways_of_saving_are_understood() {
        for name in [
            "base_model.model.layers.0.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight",
            "base_model.model.model.language_model.layers.0.mlp.up_proj.lora_A.weight",
            "base_model.model.language_model.model.layers.0.mlp.up_proj.lora_A.weight",
        ] {
            assert_eq!(at(name, "gemma3").unwrap().0, "blk.0.ffn_up.weight", "{name}");
        }
    }

    #[test]
    fn what_is_no_lora_weight_has_no_place() {
        for name in [
            "layers.0.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.0.mlp.up_proj.weight",
            "base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector",
            "base_model.model.model.layers.0.mlp.up_proj.lora_A.other.weight",
            "base_model.model.model.layers.0.mlp.experts.1.up_proj.lora_A.weight",
            "base_model.model.model.layers.01.mlp.up_proj.lora_A.weight",
            "base_model.model.model.layers.-1.mlp.up_proj.lora_A.weight",
            "base_model.model.model.embed_tokens.lora_embedding_A",
        ] {
            assert_eq!(at(name, "llama"), None, "{name}");
        }
    }
}

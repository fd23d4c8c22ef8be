//! What llama.cpp takes for granted in a model's header and ends the process over when it is not so.

use super::{Header, ModelFault, TensorType, Value};

/// llama.cpp's own array size (`LLAMA_MAX_EXPERTS`).
const EXPERT_LIMIT: u64 = 1024;

/// # Errors
/// When a number would end the process while the model is loaded or tried.
pub(super) fn check(header: &Header, architecture: &str, blocks: u64) -> Result<(), ModelFault> {
    check_floats(header)?;
    check_experts(header, architecture)?;
    let predicting = number(header, architecture, "nextn_predict_layers");
    if predicting > blocks {
        return Err(implausible(architecture, "nextn_predict_layers", predicting, blocks));
    }
    // Norms and biases are added and multiplied element by element, which whole numbers are not.
    let is_float = |kind: TensorType| !(24..=28).contains(&kind.number());
    let odd = header.tensors().iter().find(|(name, tensor)| {
        (name.ends_with("_norm.weight") || name.ends_with(".bias")) && !is_float(tensor.kind)
    });
    odd.map_or(Ok(()), |(name, _)| Err(ModelFault::NotFloats(name.clone())))
}

/// Every float must be one, and what keeps a norm from dividing by zero must not be negative.
fn check_floats(header: &Header) -> Result<(), ModelFault> {
    for (key, value) in header.metadata() {
        let number = match value {
            Value::F32(number) => f64::from(*number),
            Value::F64(number) => *number,
            _ => continue,
        };
        if !number.is_finite() || (key.ends_with("epsilon") && number < 0.0) {
            return Err(ModelFault::Float(key.clone()));
        }
    }
    Ok(())
}

fn check_experts(header: &Header, architecture: &str) -> Result<(), ModelFault> {
    // llama.cpp forgets a single expert of these.
    if architecture.starts_with("hunyuan") {
        return Ok(());
    }
    let number = |name: &str| number(header, architecture, name);
    let experts = number("expert_count");
    let refuse = |name: &str, limit| Err(implausible(architecture, name, number(name), limit));
    if experts > EXPERT_LIMIT {
        return refuse("expert_count", EXPERT_LIMIT);
    }
    let used = number("expert_used_count");
    if used > experts || (experts > 0 && used == 0) {
        return refuse("expert_used_count", experts);
    }
    let groups = number("expert_group_count");
    let used_groups = number("expert_group_used_count");
    match groups {
        0 => Ok(()),
        _ if groups >= experts => refuse("expert_group_count", experts.saturating_sub(1)),
        1 => Ok(()),
        _ if !experts.is_multiple_of(groups) => refuse("expert_group_count", experts),
        _ if used_groups == 0 || used_groups >= groups => refuse("expert_group_used_count", groups - 1),
        _ => Ok(()),
    }
}

/// The largest of a number that each layer may have its own of; 0 when there is none.
fn number(header: &Header, architecture: &str, name: &str) -> u64 {
    match header.value(&format!("{architecture}.{name}")) {
        Some(Value::Numbers(_, numbers)) => numbers.iter().copied().max().unwrap_or(0),
        other => other.and_then(Value::as_u64).unwrap_or(0),
    }
}

fn implausible(architecture: &str, name: &str, value: u64, limit: u64) -> ModelFault {
    ModelFault::Implausible { key: format!("{architecture}.{name}"), value, limit }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::GgufFile;
    use super::*;

    fn checked(file: GgufFile) -> Result<(), ModelFault> {
        let bytes = file.bytes();
        check(&Header::read(bytes.as_slice(), bytes.len() as u64).unwrap(), "llama", 2)
    }

    fn experts(count: u32, used: u32, groups: u32, used_groups: u32) -> Result<(), ModelFault> {
        checked(
            GgufFile::default()
                .u32("llama.expert_count", count)
                .u32("llama.expert_used_count", used)
                .u32("llama.expert_group_count", groups)
                .u32("llama.expert_group_used_count", used_groups),
        )
    }

    #[test]
    fn experts_must_be_there_and_fit_into_their_groups() {
        assert!(checked(GgufFile::default()).is_ok());
        assert!(experts(8, 2, 0, 0).is_ok() && experts(256, 8, 8, 4).is_ok() && experts(8, 2, 1, 0).is_ok());
        for bad in [
            experts(1025, 2, 0, 0),
            experts(8, 9, 0, 0),
            experts(8, 0, 0, 0),
            experts(0, 1, 0, 0),
            experts(0, 0, 1, 0),
            experts(8, 2, 8, 1),
            experts(8, 2, 3, 1),
            experts(8, 2, 4, 0),
            experts(8, 2, 4, 4),
        ] {
            assert!(matches!(bad, Err(ModelFault::Implausible { .. })), "{bad:?}");
        }
        let per_layer =
            GgufFile::default().u32("llama.expert_count", 4).numbers("llama.expert_used_count", &[2, 5]);
        assert!(checked(per_layer).is_err());
    }

    #[test]
    fn floats_must_be_numbers_and_epsilons_not_negative() {
        let key = "llama.attention.layer_norm_rms_epsilon";
        assert!(checked(GgufFile::default().f32(key, 1e-5).f32("llama.rope.freq_base", -1.0)).is_ok());
        for bad in [f32::NAN, f32::INFINITY, -1e-5] {
            assert!(matches!(checked(GgufFile::default().f32(key, bad)), Err(ModelFault::Float(_))), "{bad}");
        }
    }

    #[test]
    fn norms_and_biases_are_floats() {
        let whole = TensorType::from_number(26).unwrap();
        for name in ["blk.0.attn_norm.weight", "blk.0.attn_q.bias"] {
            let fault = checked(GgufFile::default().tensor(name, &[4], whole)).unwrap_err();
            assert!(matches!(fault, ModelFault::NotFloats(_)), "{fault}");
        }
        assert!(checked(GgufFile::default().tensor("blk.0.table.weight", &[4], whole)).is_ok());
    }

    #[test]
    fn more_predicting_layers_than_layers_are_refused() {
        assert!(checked(GgufFile::default().u32("llama.nextn_predict_layers", 2)).is_ok());
        assert!(checked(GgufFile::default().u32("llama.nextn_predict_layers", 3)).is_err());
    }
}

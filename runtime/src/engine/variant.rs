//! The model as one adapter at one scale changes it. What was computed with one variant is never continued with
//! another.

use std::fmt;
use std::sync::Arc;

/// The base model, or an adapter at a scale.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Variant(Option<(Arc<str>, u32)>);

impl Variant {
    /// The scale counts to its last bit.
    pub(super) fn adapted(id: &str, scale: f32) -> Self {
        Self(Some((Arc::from(id), scale.to_bits())))
    }

    /// The adapter's id and its scale, unless it is the base model.
    pub(super) fn adapter(&self) -> Option<(&str, f32)> {
        self.0.as_ref().map(|(id, scale)| (id.as_ref(), f32::from_bits(*scale)))
    }

    pub(super) fn has_adapter(&self, id: &str) -> bool {
        self.adapter().is_some_and(|(own, _)| own == id)
    }
}

impl fmt::Debug for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.adapter() {
            None => f.write_str("base"),
            Some((id, scale)) => write!(f, "{id} x {scale}"),
        }
    }
}

//! Previews, outward.

use synesis_privacy::{DETECTOR_VERSION, Preview};
use synesis_proto::control::v1::{PreviewReply, Span};

/// A preview as the local API shows it.
pub(in crate::ipc) fn preview(preview: Preview) -> PreviewReply {
    let offset = |at: usize| u64::try_from(at).unwrap_or(u64::MAX);
    let spans = preview.spans.into_iter().map(|span| Span {
        r#type: span.kind.as_str().to_owned(),
        start: offset(span.start),
        end: offset(span.end),
        placeholder: span.placeholder,
        rule: span.rule.to_owned(),
    });
    PreviewReply { spans: spans.collect(), text: preview.text, detector_version: DETECTOR_VERSION.to_owned() }
}

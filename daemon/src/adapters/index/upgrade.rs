//! Indexes of earlier versions, brought to the shape of this one. Works on JSON as it was written then, so that a
//! change of today's types cannot change how an old file is read. What it does not know it leaves alone: whether the
//! outcome is an index is judged where it is read.

use serde_json::{Value, json};

/// The same index in the newest shape.
pub(super) fn to_newest(mut index: Value) -> Value {
    if index["schema"] == "synesis.adapters/1" {
        from_1_to_2(&mut index);
    }
    index
}

/// Version 1 kept neither where an adapter came from nor when it was used. It could only import GGUF.
fn from_1_to_2(index: &mut Value) {
    index["schema"] = json!("synesis.adapters/2");
    let rows = index["adapters"].as_array_mut().into_iter().flatten();
    for row in rows.filter_map(Value::as_object_mut) {
        row.insert(
            "origin".to_owned(),
            json!({
                "format": "gguf", "source": "", "base_model": "", "imported_by": null, "weights_sha256": null
            }),
        );
        row.insert("last_used_at".to_owned(), Value::Null);
    }
}

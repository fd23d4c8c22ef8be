//! The shipped adapters in both forms: what PEFT saved must become the very tensors that were converted before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use support::{SMOL, adapter, model};
use synesis_runtime::gguf::{self, AdapterHeader, Header, ModelHeader};
use synesis_runtime::peft;

fn tensors(bytes: &[u8], header: &Header) -> BTreeMap<String, (u32, [u64; 4], Vec<u8>)> {
    let tensor = |(name, tensor): (&String, &gguf::Tensor)| {
        let start = usize::try_from(header.data_start() + tensor.offset).unwrap();
        let data = bytes[start..start + usize::try_from(tensor.bytes).unwrap()].to_vec();
        (name.clone(), (tensor.kind.number(), tensor.shape, data))
    };
    header.tensors().iter().map(tensor).collect()
}

#[test]
fn both_adapters_convert_tensor_for_tensor_to_the_shipped_files() {
    let base = gguf::open(Path::new(&model(SMOL))).unwrap();
    let base = ModelHeader::check(&base.header).unwrap();
    for name in ["json", "pirate"] {
        let shipped = adapter(name);
        let folder = Path::new(&shipped).with_extension("");
        let conversion = peft::convert(
            &folder.join("adapter_config.json"),
            &folder.join("adapter_model.safetensors"),
            &base,
        )
        .unwrap();
        assert_eq!(conversion.base_model, "HuggingFaceTB/SmolLM2-135M-Instruct");
        assert_eq!((conversion.header.rank, conversion.header.alpha), (8, 16.0));
        let size = conversion.size_bytes;
        let pieces: Vec<Vec<u8>> = conversion.pieces.map(Result::unwrap).collect();
        assert!(pieces.iter().all(|piece| piece.len() <= 1 << 20));
        let bytes = pieces.concat();
        assert_eq!(bytes.len() as u64, size);

        let header = Header::read(bytes.as_slice(), size).unwrap();
        assert_eq!(AdapterHeader::check(&header, &base).unwrap(), conversion.header);
        let expected = std::fs::read(&shipped).unwrap();
        let expected_header = Header::read(expected.as_slice(), expected.len() as u64).unwrap();
        let (ours, theirs) = (tensors(&bytes, &header), tensors(&expected, &expected_header));
        assert_eq!(ours.len(), 240);
        assert!(ours.keys().eq(theirs.keys()));
        for (name, tensor) in &ours {
            assert!(*tensor == theirs[name], "{name} differs");
        }
        assert_eq!(header.value("adapter.lora.alpha"), expected_header.value("adapter.lora.alpha"));
    }
}

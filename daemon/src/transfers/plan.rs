//! What is still to be sent, as pure arithmetic.

use synesis_mesh::kind::ADAPTER_CHUNK;

/// One chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// The chunks of a file of `size` bytes of which the other end has `have`; none when it claims more than there is.
pub(super) fn rest(size: u64, have: u64) -> Option<impl Iterator<Item = Chunk>> {
    let step = ADAPTER_CHUNK as u64;
    (have <= size).then(|| {
        let mut offset = have;
        std::iter::from_fn(move || {
            let length = (size - offset).min(step);
            let chunk = Chunk { offset, length: usize::try_from(length).ok()? };
            offset += length;
            (length > 0).then_some(chunk)
        })
    })
}

/// Whether a chunk of so many bytes continues a part.
pub(super) fn continues(have: u64, size: u64, offset: u64, length: u64) -> bool {
    offset == have && length > 0 && length <= size.saturating_sub(have)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_chunks_follow_each_other_from_what_is_there_to_the_end() {
        let lengths = |size, have| -> Vec<(u64, usize)> {
            rest(size, have).unwrap().map(|chunk| (chunk.offset, chunk.length)).collect()
        };
        let step = ADAPTER_CHUNK as u64;
        assert_eq!(lengths(0, 0), []);
        assert_eq!(lengths(10, 10), []);
        assert_eq!(lengths(10, 4), [(4, 6)]);
        assert_eq!(lengths(step, 0), [(0, ADAPTER_CHUNK)]);
        assert_eq!(lengths(2 * step + 1, 1), [(1, ADAPTER_CHUNK), (1 + step, ADAPTER_CHUNK)]);
        assert!(rest(10, 11).is_none(), "nobody has more than there is");
    }

    #[test]
    fn a_chunk_continues_a_part_only_at_its_end_and_only_up_to_the_size() {
        assert!(continues(4, 10, 4, 6));
        for (have, size, offset, length) in
            [(4, 10, 3, 1), (4, 10, 5, 1), (4, 10, 4, 7), (4, 10, 4, 0), (10, 10, 10, 1), (0, 1, 0, u64::MAX)]
        {
            assert!(!continues(have, size, offset, length), "{have} {size} {offset} {length}");
        }
    }

    proptest! {
        /// Wherever the line is cut, and however often: the bytes that arrive are the file, each once.
        #[test]
        fn whatever_is_cut_the_file_arrives_once(size in 0_u64..3_000_000, cuts in prop::collection::vec(0_usize..8, 0..8)) {
            let mut have = 0;
            for cut in cuts {
                for chunk in rest(size, have).unwrap().take(cut) {
                    prop_assert!(continues(have, size, chunk.offset, chunk.length as u64));
                    have += chunk.length as u64;
                }
            }
            for chunk in rest(size, have).unwrap() {
                prop_assert!(continues(have, size, chunk.offset, chunk.length as u64));
                have += chunk.length as u64;
            }
            prop_assert_eq!(have, size);
        }
    }
}

//! Makes a token computed alone equal, bit for bit, to the same token computed beside others.
//!
//! llama.cpp multiplies matrices with `llamafile_sgemm` when there are two columns or more, and otherwise row by
//! row with another order of sums. Where the matrices are those of an adapter, an answer would depend on what
//! else is in the batch. So this kernel refuses them, and the library computes them row by row however many
//! columns there are; they are slim on one side and take a small part of the time.
//!
//! The attention has the same two ways and keeps them: giving it one of them cost 10 to 20 % of the time, either
//! of a prompt or of a token. It is computed per sequence, so other sequences do not change it; a prompt is
//! never computed in parts of a single token (see `engine::session::step`).
//!
//! The linker sends the library's calls here (`--wrap`, see `build.rs`); nothing else is changed, and the
//! library's own tests of type and size still decide.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

/// The narrow side of the matrices that are meant: the rank of an adapter.
const SLIM: i64 = 256;
/// `GGML_TYPE_F32`, `GGML_TYPE_F16` and `GGML_TYPE_BF16`.
const FLOATS: [c_int; 3] = [0, 1, 30];

unsafe extern "C" {
    #[link_name = "__real_llamafile_sgemm"]
    fn sgemm(
        parameters: *const c_void,
        m: i64,
        n: i64,
        k: i64,
        a: *const c_void,
        lda: i64,
        b: *const c_void,
        ldb: i64,
        c: *mut c_void,
        ldc: i64,
        a_type: c_int,
        b_type: c_int,
        c_type: c_int,
    ) -> bool;
}

/// # Safety
/// As the library calls `llamafile_sgemm`: `a`, `b` and `c` are matrices of `m` x `k`, `k` x `n` and `m` x `n`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_llamafile_sgemm(
    parameters: *const c_void,
    m: i64,
    n: i64,
    k: i64,
    a: *const c_void,
    lda: i64,
    b: *const c_void,
    ldb: i64,
    c: *mut c_void,
    ldc: i64,
    a_type: c_int,
    b_type: c_int,
    c_type: c_int,
) -> bool {
    // The keys of one head are not contiguous in the cache, nor are the values.
    let is_of_adapter = m.min(k) <= SLIM && lda == k && FLOATS.contains(&a_type);
    // SAFETY: the arguments are the library's own.
    !is_of_adapter && unsafe { sgemm(parameters, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type) }
}

//! Makes a token computed alone equal, bit for bit, to the same token computed beside others.
//!
//! llama.cpp multiplies matrices with `llamafile_sgemm` when there are two columns or more, and otherwise row by
//! row with another order of sums. Where the matrices are those of the attention or of an adapter, an answer
//! would depend on what else is in the batch, and on how a prompt was cut. So one column is given to the same
//! kernel as two columns that are the same memory: its tiles compute each column by itself and in the same
//! order, and write the same sums twice to the same place. That has a price for every token of an answer, which
//! a quiet benchmark has yet to settle (docs/adr/0014).
//!
//! The linker sends the library's calls here (`--wrap`, see `build.rs`); nothing else is changed, and the
//! library's own tests of type and size still decide.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

/// The narrow side of the matrices that are meant: the length of a head, or the rank of an adapter.
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
    let (n, ldb, ldc) =
        if n == 1 && m.min(k) <= SLIM && FLOATS.contains(&a_type) { (2, 0, 0) } else { (n, ldb, ldc) };
    // SAFETY: the arguments are the library's own. With a distance of zero both columns are the first one, which
    // lies inside both matrices; the two columns belong to one tile, so one thread writes them.
    unsafe { sgemm(parameters, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type) }
}

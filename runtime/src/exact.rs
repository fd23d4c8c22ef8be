//! Makes a token computed alone equal, bit for bit, to the same token computed beside others.
//!
//! llama.cpp multiplies matrices with `llamafile_sgemm` when there are two columns or more, and otherwise row by
//! row with another order of sums. Where the matrices are those of an adapter, an answer would depend on what else
//! is in the batch, and on how a prompt was cut. So that kernel is kept from slim matrices of floats: it says that it
//! can't, as it does for types it doesn't know, and the library goes row by row for any number of columns.
//!
//! Flash attention has three ways: tiles of many queries, pieces of a long cache for a single query, and row by row,
//! which the library calls its reference. Only the last computes a row in an order that nothing beside it decides, so
//! it is the one that is taken. On a CPU, with heads as narrow as those of small models, it is no slower here than the
//! others (docs/adr/0014).
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
    if m.min(k) <= SLIM && FLOATS.contains(&a_type) {
        return false;
    }
    // SAFETY: the arguments are the library's own.
    unsafe { sgemm(parameters, m, n, k, a, lda, b, ldb, c, ldc, a_type, b_type, c_type) }
}

/// `struct ggml_compute_params` of the pinned version of the library.
#[repr(C)]
#[derive(Clone, Copy)]
struct ComputeParams {
    ith: c_int,
    nth: c_int,
    wsize: usize,
    wdata: *mut c_void,
    threadpool: *mut c_void,
    use_ref: bool,
}

unsafe extern "C" {
    #[link_name = "__real_ggml_compute_forward_flash_attn_ext"]
    fn flash_attention(parameters: *const ComputeParams, result: *mut c_void);
}

/// # Safety
/// As the library calls `ggml_compute_forward_flash_attn_ext`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_ggml_compute_forward_flash_attn_ext(
    parameters: *const ComputeParams,
    result: *mut c_void,
) {
    // SAFETY: the library passes a live struct of this layout, which is plain data; the copy lives as long as the call.
    unsafe {
        let row_by_row = ComputeParams { use_ref: true, ..*parameters };
        flash_attention(&row_by_row, result);
    }
}

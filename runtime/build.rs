//! Puts `src/exact.rs` between llama.cpp and one of its matrix kernels, in the binary only.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Linkers of other systems have no such option; there the last bits of an answer may depend on the load.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-bins=-Wl,--wrap=llamafile_sgemm");
        println!("cargo::rustc-link-arg-bins=-Wl,--wrap=ggml_compute_forward_flash_attn_ext");
    }
}

//! The one choice of a cryptography provider for this process: ring, as everywhere in Synesis.

/// Installs ring for everything that asks rustls for "the" provider (reqwest does). Later calls change nothing.
pub(crate) fn install_crypto() {
    // An error means that a provider is installed already, and only this function ever installs one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

//! Which provider of TLS the clients of databases and object stores use.

use std::sync::Once;

/// Other crates may bring a second provider; then rustls wants to be told. To be called before a client is made.
pub(crate) fn choose_provider() {
    static CHOSEN: Once = Once::new();
    // An error means that it has been told already.
    CHOSEN.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

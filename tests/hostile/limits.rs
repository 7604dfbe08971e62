//! What a peer controls, and how far: just within each limit it works, just beyond it fails.

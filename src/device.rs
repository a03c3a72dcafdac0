//! The devices: detect, choose, say why.

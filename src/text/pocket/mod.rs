//! The pocket language: a seeded generator of English-like text whose true source is known.

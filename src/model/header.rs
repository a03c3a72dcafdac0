//! What a file of weights says of its tensors before their values are read.

/// What a file says of a tensor before its values are read.
pub(super) struct Header {
    /// Its name in the file.
    pub name: String,
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// What it holds.
    pub numbers: Numbers,
}

/// What a tensor holds.
pub(super) enum Numbers {
    /// f32, or 16 bits that f32 has room for.
    Floats,
    /// f64.
    Doubles,
    /// Anything else, by its name: integers are no weights.
    Others(String),
}

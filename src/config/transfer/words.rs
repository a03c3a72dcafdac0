//! The words that a transfer run file chooses from.

use crate::words::words;

words! {
    /// What a student reads texts with.
    EncoderKind {
        /// Word vectors and an LSTM in each direction.
        BiLstm = "bilstm",
        /// A smaller BERT.
        Bert = "bert",
        /// A smaller ModernBERT.
        ModernBert = "modernbert",
    }
}
words! {
    /// What a student's tokens are.
    TokenKind {
        /// The teacher's pieces of words.
        Pieces = "pieces",
        /// Words in lower case, split at white space.
        Words = "words",
    }
}
words! {
    /// How an LSTM's states become one vector.
    States {
        /// The largest of each unit over time.
        Max = "max",
        /// The last ones.
        Last = "last",
    }
}
words! {
    /// Whether the BiLSTM reads padding.
    Padding {
        /// It does not.
        LeftOut = "left-out",
        /// It does, up to the row's length, as in the authors' code.
        Seen = "seen",
    }
}
words! {
    /// Which of the teacher's vectors the student comes close to.
    Vector {
        /// The pooler's output (the authors' code).
        Pooled = "pooled",
        /// The last layer's `[CLS]` (the paper's words).
        Cls = "cls",
    }
}
words! {
    /// What the student takes from the teacher.
    Targets {
        /// Nothing: it learns from the labels alone.
        None = "none",
        /// The likeliest class.
        Hard = "hard",
        /// Logits and representation.
        Soft = "soft",
    }
}
words! {
    /// The order in which the losses are taken (section 5).
    TransferSchedule {
        /// All at once, equation 8.
        Joint = "joint",
        /// The representation first; then logits and labels, layers unfrozen from the top.
        Stagewise = "stagewise",
        /// Representation and logits first; then labels, layers unfrozen from the top.
        DistilOnce = "distil-once",
    }
}
words! {
    /// What the logit loss's targets are.
    LogitTargets {
        /// log(p / (1 - p)), as the paper writes.
        LogOdds = "log-odds",
        /// The teacher's logits as they are.
        Raw = "raw",
    }
}
words! {
    /// How the squares of equations 5 and 7 become a row's loss.
    ElementKind {
        /// Their mean.
        Mean = "mean",
        /// Half their sum.
        Sum = "sum",
    }
}

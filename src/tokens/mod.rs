//! Text to tokens: the WordPiece vocabulary and memory-mapped shards.

//! `upstill tokenizer`: a vocabulary of one's own, and what a tokenizer does.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::data::ReadArgs;
use super::{new_folder, print_json};
use crate::error::{Error, Result};
use crate::files::Target;
use crate::log::Reading;
use crate::text::{Reader, find};
use crate::tokens::{BpeOptions, Coverage, Normalization, Tokenizer, TrainOptions, percent, without_output};

/// Different letters of a WordPiece vocabulary, unless something else is asked for.
const ALPHABET: usize = 1000;

#[derive(clap::Subcommand)]
pub enum TokenizerCommand {
    /// Make a vocabulary from text: WordPiece (BERT's) or byte-level BPE (ModernBERT's)
    Train(Train),
    /// Say a tokenizer's size and special tokens, and take a text apart
    Show(Show),
}

pub fn run(command: &TokenizerCommand) -> Result<()> {
    match command {
        TokenizerCommand::Train(args) => run_train(args),
        TokenizerCommand::Show(args) => run_show(args),
    }
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill tokenizer train 'text/*.txt.zst' --vocab 8192 --out data/vocabulary
  upstill tokenizer train 'text/*.txt.zst' --kind bpe --vocab 32768 --out data/bytes
  upstill tokenizer train hindi/ --keep-accents --out data/hindi
  upstill tokenizer train chinese.jsonl --alphabet 8000 --out data/chinese")]
pub struct Train {
    #[command(flatten)]
    read: ReadArgs,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What words are spelt in: pieces of letters, or merges of bytes, to which no character is unknown
    #[arg(long, value_enum, default_value_t = Spelling::Wordpiece)]
    kind: Spelling,
    /// How many tokens the vocabulary has at most
    #[arg(long, value_name = "N", default_value_t = 30522)]
    vocab: usize,
    /// How often a piece must occur
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_frequency: u64,
    /// Keep capitals, and accents with them
    #[arg(long)]
    cased: bool,
    /// Keep accents, and in other scripts the vowel signs that go by the same name
    #[arg(long)]
    keep_accents: bool,
    /// How many different characters words are spelt in; the rarest beyond are [UNK]
    #[arg(long, value_name = "N", default_value_t = ALPHABET)]
    alphabet: usize,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// What words are spelt in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Spelling {
    Wordpiece,
    Bpe,
}

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  upstill tokenizer show data/vocabulary \"Paris is the [MASK] of France.\"")]
pub struct Show {
    /// A folder with tokenizer.json or vocab.txt, or one of those files
    #[arg(value_name = "DIR|FILE")]
    tokenizer: PathBuf,
    /// A text to take apart
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn run_train(args: &Train) -> Result<()> {
    let reader = Reader::new(without_output(find(&args.read.inputs)?, &args.out)?, args.read.options());
    let target = new_folder(&args.out)?;
    if args.kind == Spelling::Bpe {
        return run_train_bpe(args, reader, target);
    }
    let options = TrainOptions {
        vocab_size: args.vocab,
        min_frequency: args.min_frequency,
        alphabet: args.alphabet,
        normalization: Normalization {
            lowercase: !args.cased,
            strip_accents: args.keep_accents.then_some(false),
            ..Normalization::default()
        },
    };
    let (tokenizer, coverage) = train_shown(reader, &options, args.json)?;
    target.write(|folder| tokenizer.save(folder))?;
    warn(&coverage, args.alphabet);
    if args.json {
        let share = json!({"covered": coverage.covered_share(), "accents_lost": coverage.stripped_share()});
        let (out, size, hash) = (args.out.to_string_lossy(), tokenizer.vocab_size(), tokenizer.hash());
        print_json(&json!({"out": out, "vocab_size": size, "hash": hash, "letters": share}));
        return Ok(());
    }
    println!("{} tokens in {}", tokenizer.vocab_size(), args.out.display());
    println!("{}", normalized(&options.normalization));
    let (different, covered) = (coverage.different, percent(coverage.covered_share()));
    println!(
        "letters: {} of the text's {different} different ones, which are {covered} of its letters",
        different.min(args.alphabet)
    );
    Ok(())
}

/// Bytes are never lost, so what says how letters are kept has no meaning.
fn run_train_bpe(args: &Train, reader: Reader, target: Target<'static>) -> Result<()> {
    if args.cased || args.keep_accents || args.alphabet != ALPHABET {
        return Err(Error::new(
            "--cased, --keep-accents and --alphabet are for WordPiece: a vocabulary of bytes keeps every character",
        )
        .help("leave them out, or train with --kind wordpiece"));
    }
    let options = BpeOptions { vocab_size: args.vocab, min_frequency: args.min_frequency };
    let tokenizer = shown(reader, args.json, |texts| Tokenizer::train_bpe(texts, &options))?;
    target.write(|folder| tokenizer.save(folder))?;
    if args.json {
        let (out, size, hash) = (args.out.to_string_lossy(), tokenizer.vocab_size(), tokenizer.hash());
        print_json(&json!({"out": out, "vocab_size": size, "hash": hash}));
    } else {
        println!("{} tokens in {}", tokenizer.vocab_size(), args.out.display());
        println!("text is read in bytes: every character is spelt");
    }
    Ok(())
}

/// Makes a vocabulary, with a bar of how far it is, unless `quiet`.
pub(super) fn train_shown(reader: Reader, options: &TrainOptions, quiet: bool) -> Result<(Tokenizer, Coverage)> {
    shown(reader, quiet, |texts| Tokenizer::train_with(texts, options))
}

fn shown<T>(
    mut reader: Reader,
    quiet: bool,
    train: impl FnOnce(&mut (dyn Iterator<Item = String> + Send)) -> Result<T>,
) -> Result<T> {
    let (reading, bytes, total_bytes) = (Reading::new(quiet), reader.bytes_read(), reader.total_bytes());
    let mut failure = None;
    let mut texts = std::iter::from_fn(|| {
        reading.show(bytes.load(Ordering::Relaxed), total_bytes, "counting words");
        let document = reader.next()?.map_err(|error| failure = Some(error)).ok()?;
        Some(document.text)
    });
    let trained = train(&mut texts);
    reading.finish();
    match failure {
        Some(error) => Err(error),
        None => trained,
    }
}

/// Above these shares a text loses what its words are told apart by.
const MOST_LOST: f64 = 0.01;

/// Says what a vocabulary loses of its text, and the option that keeps it.
pub(super) fn warn(coverage: &Coverage, alphabet: usize) {
    if 1.0 - coverage.covered_share() > MOST_LOST {
        eprintln!(
            "warning: the alphabet of {alphabet} letters covers {} of the text's letters: every word with another letter is [UNK]. \
             Train with --alphabet {} to cover 99.9 %, or {} for all (and a larger --vocab if it says so)",
            percent(coverage.covered_share()),
            coverage.enough,
            coverage.different
        );
    }
    if coverage.stripped_share() > MOST_LOST {
        eprintln!(
            "warning: {} of the text's letters were accents or vowel signs, and are taken off: words that differ in them alone become one. \
             Train with --keep-accents (or --cased) to keep them",
            percent(coverage.stripped_share())
        );
    }
}

/// How text is normalised, in words.
fn normalized(by: &Normalization) -> String {
    let case = if by.lowercase { "in lower case" } else { "with its capitals" };
    let accents = if by.strip_accents.unwrap_or(by.lowercase) { "without accents" } else { "with its accents" };
    let chinese = if by.chinese_chars { "each Chinese character a word" } else { "Chinese characters as other letters" };
    format!("text is read {case}, {accents}, {chinese}")
}

fn run_show(args: &Show) -> Result<()> {
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let ids = args.text.as_deref().map(|text| tokenizer.encode(text)).transpose()?;
    let pieces: Option<Vec<_>> = ids.as_ref().map(|ids| ids.iter().map(|id| tokenizer.token(*id)).collect());
    let special = tokenizer.special_names().into_iter().flatten().map(|token| (token, tokenizer.id(token)));
    if args.json {
        let special: serde_json::Map<_, _> = special.map(|(token, id)| (token.to_owned(), json!(id))).collect();
        let normalization = tokenizer.normalization().map(|by| {
            json!({"do_lower_case": by.lowercase, "strip_accents": by.strip_accents, "tokenize_chinese_chars": by.chinese_chars})
        });
        let (size, hash) = (tokenizer.vocab_size(), tokenizer.hash());
        print_json(
            &json!({"vocab_size": size, "hash": hash, "normalization": normalization, "special": special, "ids": ids, "pieces": pieces}),
        );
        return Ok(());
    }
    println!("{} tokens", tokenizer.vocab_size());
    println!("{}", tokenizer.normalization().map_or("text is read as tokenizer.json says".to_owned(), |by| normalized(&by)));
    // One token may stand for several.
    let mut named: Vec<String> = special.map(|(token, id)| format!("{token} {}", id.unwrap_or_default())).collect();
    named.dedup();
    println!("{}", named.join("  "));
    for (id, piece) in ids.iter().flatten().zip(pieces.iter().flatten()) {
        println!("{id:>7}  {piece}");
    }
    Ok(())
}

//! `upstill tokenizer`: a WordPiece vocabulary of one's own, and what a tokenizer does.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use serde_json::json;

use super::data::{ReadArgs, bytes_bar};
use super::{new_folder, print_json};
use crate::error::Result;
use crate::text::{Reader, find};
use crate::tokens::{SPECIAL_TOKENS, Tokenizer, without_output};

#[derive(clap::Subcommand)]
pub enum TokenizerCommand {
    /// Make a WordPiece vocabulary from text: vocab.txt and tokenizer.json
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
  upstill tokenizer train 'text/*.txt.zst' --vocab 8192 --out data/vocabulary")]
pub struct Train {
    #[command(flatten)]
    read: ReadArgs,
    /// The folder to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many tokens the vocabulary has at most
    #[arg(long, value_name = "N", default_value_t = 30522)]
    vocab: usize,
    /// How often a piece must occur
    #[arg(long, value_name = "N", default_value_t = 2)]
    min_frequency: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
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
    let mut reader = Reader::new(without_output(find(&args.read.inputs)?, &args.out)?, args.read.options());
    let target = new_folder(&args.out)?;
    let (bar, bytes) = (bytes_bar(args.json), reader.bytes_read());
    bar.set_length(reader.total_bytes());
    bar.set_message("counting words");
    let mut failure = None;
    let texts = std::iter::from_fn(|| {
        bar.set_position(bytes.load(Ordering::Relaxed));
        let document = reader.next()?.map_err(|error| failure = Some(error)).ok()?;
        Some(document.text)
    });
    let trained = Tokenizer::train(texts, args.vocab, args.min_frequency);
    bar.finish_and_clear();
    if let Some(error) = failure {
        return Err(error);
    }
    let tokenizer = trained?;
    target.write(|folder| tokenizer.save(folder))?;
    if args.json {
        print_json(&json!({"out": args.out.to_string_lossy(), "vocab_size": tokenizer.vocab_size(), "hash": tokenizer.hash()}));
    } else {
        println!("{} tokens in {}", tokenizer.vocab_size(), args.out.display());
    }
    Ok(())
}

fn run_show(args: &Show) -> Result<()> {
    let tokenizer = Tokenizer::load(&args.tokenizer)?;
    let ids = args.text.as_deref().map(|text| tokenizer.encode(text)).transpose()?;
    let pieces: Option<Vec<_>> = ids.as_ref().map(|ids| ids.iter().map(|id| tokenizer.token(*id)).collect());
    let special = SPECIAL_TOKENS.map(|token| (token, tokenizer.id(token)));
    if args.json {
        let special: serde_json::Map<_, _> = special.into_iter().map(|(token, id)| (token.to_owned(), json!(id))).collect();
        let shown = json!({"vocab_size": tokenizer.vocab_size(), "hash": tokenizer.hash(), "special": special, "ids": ids, "pieces": pieces});
        print_json(&shown);
        return Ok(());
    }
    println!("{} tokens", tokenizer.vocab_size());
    println!("{}", special.map(|(token, id)| format!("{token} {}", id.unwrap_or_default())).join("  "));
    for (id, piece) in ids.iter().flatten().zip(pieces.iter().flatten()) {
        println!("{id:>7}  {piece}");
    }
    Ok(())
}

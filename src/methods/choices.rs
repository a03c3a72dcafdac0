//! Multiple choice by log-likelihood, as lm-evaluation-harness has it (EleutherAI, version 0.4.13).
//!
//! A choice is read after its context and a blank. Blanks at the context's end go to the choice, whose tokens are those
//! that context and choice have together beyond as many as the context has alone. The tokenizer puts before a context
//! what it puts before a text; before an empty one what opens a text. A context that is too long loses its beginning.
//! Special tokens in a text are what they say, as they are where text is generated.

use burn::tensor::Device;
use rayon::prelude::*;

use super::likelihood::{Scored, of_texts};
use super::pll::Tick;
use crate::config::ObjectiveKind;
use crate::error::{Error, Result};
use crate::model::LanguageModel;
use crate::tasks::{ChoiceScores, CutContexts, MultipleChoice};
use crate::tokens::Tokenizer;

/// Scores questions: of each, the choice with the highest log-likelihood is the one taken.
///
/// # Errors
/// As [`choice_log_likelihoods`]; when there are no questions.
pub fn score_choices(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    questions: &[MultipleChoice],
    device: &Device,
    tick: Tick,
) -> Result<ChoiceScores> {
    let (log_likelihoods, cut) = choice_log_likelihoods(model, tokenizer, questions, device, tick)?;
    let scores = ChoiceScores::of(questions, &log_likelihoods).ok_or_else(|| Error::new("there are no questions to score"))?;
    Ok(ChoiceScores { cut, ..scores })
}

/// The log-likelihood of each question's choices after its context, in nats, and which contexts were cut.
///
/// # Errors
/// Before anything is scored: a masked model; a choice that is longer than the model reads, or has no token of its own.
/// Later: when `tick` fails, or the device; when what the model says is no number.
pub fn choice_log_likelihoods(
    model: &impl LanguageModel,
    tokenizer: &Tokenizer,
    questions: &[MultipleChoice],
    device: &Device,
    tick: Tick,
) -> Result<(Vec<Vec<f64>>, Option<CutContexts>)> {
    if model.shape().family().objective() == ObjectiveKind::Masked {
        return Err(Error::new("a masked model gives a choice after its context no likelihood")
            .help("take a causal model; a masked one is scored on minimal pairs: --pairs"));
    }
    let most = model.shape().max_positions();
    let encode = |question: &MultipleChoice| encoded(tokenizer, question, most).map_err(|error| error.at(&question.place));
    let encoded: Vec<Result<Vec<Choice>>> = questions.par_iter().map(encode).collect();
    let encoded = encoded.into_iter().collect::<Result<Vec<_>>>()?; // the first mistake is told
    let cut = cut_of(questions, &encoded);
    let texts: Vec<Scored> = encoded.into_iter().flatten().map(|choice| choice.text).collect();
    let sums = of_texts(model, &texts, "the log-likelihood of a choice", device, tick)?;
    let mut sums = sums.into_iter();
    Ok((questions.iter().map(|question| sums.by_ref().take(question.choices.len()).collect()).collect(), cut))
}

/// A choice after its context, as far as the model reads.
struct Choice {
    text: Scored,
    /// Tokens of the context that are left out.
    cut: usize,
}

/// A question's choices, for a model that reads `most` tokens.
fn encoded(tokenizer: &Tokenizer, question: &MultipleChoice, most: usize) -> Result<Vec<Choice>> {
    // As Python has it, which takes four separators for white space that are none in Unicode.
    let is_blank = |letter: char| letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter);
    let context = question.context.trim_end_matches(is_blank);
    let blanks = &question.context[context.len()..];
    let before = match context.is_empty() {
        true => Vec::new(),
        false => tokenizer.encode_to_go_on(context)?,
    };
    let of = |choice: &String| {
        let mut ids = match context.is_empty() {
            true => tokenizer.encode(&format!("{blanks} {choice}"))?,
            false => tokenizer.encode_to_go_on(&format!("{context}{blanks} {choice}"))?,
        };
        let asked = ids.len().saturating_sub(before.len());
        if asked == 0 {
            return Err(Error::new(format!("the choice {choice:?} has no token of its own after its context"))
                .help("mend the line, or remove it"));
        }
        if asked > most {
            return Err(Error::new(format!("a choice is {asked} tokens long, and the model reads {most}"))
                .help("shorten or remove it, or take a model with more positions"));
        }
        if before.is_empty() {
            ids.insert(0, tokenizer.special().cls);
        }
        // The last token is asked for and not read.
        let cut = ids.len().saturating_sub(most + 1);
        ids.drain(..cut);
        Ok(Choice { text: Scored { ids, asked }, cut })
    };
    question.choices.iter().map(of).collect()
}

/// What was cut, if anything was.
fn cut_of(questions: &[MultipleChoice], encoded: &[Vec<Choice>]) -> Option<CutContexts> {
    let lost = encoded.iter().map(|choices| choices.iter().map(|choice| choice.cut).max().unwrap_or(0));
    let cut: Vec<(&MultipleChoice, usize)> = questions.iter().zip(lost).filter(|(_, lost)| *lost > 0).collect();
    let most = cut.iter().map(|(_, lost)| *lost).max()?;
    Some(CutContexts { questions: cut.len() as u64, most_tokens: most as u64, first: cut[0].0.place.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BertShape, LlamaShape};

    fn tokenizer() -> Tokenizer {
        let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "un", "##happ", "##y", "mat"];
        Tokenizer::from_vocab(words.map(str::to_owned).to_vec()).unwrap()
    }

    fn question(context: &str, choices: &[&str]) -> MultipleChoice {
        let choices = choices.iter().map(|&choice| choice.to_owned()).collect();
        MultipleChoice { context: context.into(), choices, answer: 0, place: "questions.jsonl:7".into() }
    }

    fn tokens(context: &str, choice: &str, most: usize) -> (Vec<u32>, usize, usize) {
        let Choice { text, cut } = encoded(&tokenizer(), &question(context, &[choice]), most).unwrap().remove(0);
        (text.ids, text.asked, cut)
    }

    #[test]
    fn a_choice_is_what_comes_after_its_context() {
        assert_eq!(tokens("the cat", "sat", 8), (vec![2, 5, 6, 7], 1, 0), "a BERT's tokenizer opens a text");
        assert_eq!(tokens("the cat \n", "sat the", 8), (vec![2, 5, 6, 7, 5], 2, 0));
        assert_eq!(tokens("", "sat", 8), (vec![2, 7], 1, 0));
        assert_eq!(tokens(" ", "sat mat", 8), (vec![2, 7, 11], 2, 0));
    }

    #[test]
    fn a_long_context_loses_its_beginning() {
        assert_eq!(tokens("the cat", "sat", 3), (vec![2, 5, 6, 7], 1, 0), "three tokens are read, the fourth is asked for");
        assert_eq!(tokens("the cat", "sat mat", 3), (vec![5, 6, 7, 11], 2, 1));
        assert_eq!(tokens("the cat", "sat mat the", 3), (vec![6, 7, 11, 5], 3, 2), "one token of the context is left");
        let questions = [question("the", &["mat", "cat"]), question("the cat", &["sat mat the", "mat"])];
        let encoded: Vec<Vec<Choice>> = questions.iter().map(|question| encoded(&tokenizer(), question, 3).unwrap()).collect();
        let cut = cut_of(&questions, &encoded).unwrap();
        assert_eq!((cut.questions, cut.most_tokens, cut.first.as_str()), (1, 2, "questions.jsonl:7"));
        assert_eq!(cut_of(&questions[..1], &encoded[..1]), None);
    }

    #[test]
    fn what_the_model_cant_score_is_told_before_anything_is() {
        let (device, tokenizer) = (Device::flex(), tokenizer());
        let causal = LlamaShape::new(12, 16, 2, 2, 4).init(3, 0.5, &device);
        let mut never = |_, _| panic!("nothing is scored");
        let mut fails = |choice: &str| {
            let questions = [question("the", &["cat", "mat"]), question("the cat", &["sat", choice])];
            score_choices(&causal, &tokenizer, &questions, &device, &mut never).unwrap_err().to_string()
        };
        insta::assert_snapshot!(fails("the cat sat the mat"), @"
        a choice is 5 tokens long, and the model reads 4
          in: questions.jsonl:7
        help: shorten or remove it, or take a model with more positions
        ");
        insta::assert_snapshot!(fails("\u{200d}"), @r#"
        the choice "\u{200d}" has no token of its own after its context
          in: questions.jsonl:7
        help: mend the line, or remove it
        "#);
        let masked = BertShape { intermediate: 32, ..BertShape::new(12, 16, 2, 2, 8) }.init(3, 0.5, &device);
        let questions = [question("the", &["cat", "mat"])];
        let error = score_choices(&masked, &tokenizer, &questions, &device, &mut never).unwrap_err().to_string();
        assert!(error.contains("a masked model gives a choice after its context no likelihood"), "{error}");
        let error = score_choices(&causal, &tokenizer, &[], &device, &mut |_, _| Ok(())).unwrap_err().to_string();
        assert!(error.contains("there are no questions"), "{error}");
    }
}

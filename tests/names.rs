//! Tokenizers whose special tokens are not called as BERT's. Golden: tests/golden/names.py.

use std::fs;

use upstill::batch::{BatchOptions, Batches, Masking, Split};
use upstill::config::Rows;
use upstill::tokens::{Shards, Tokenizer};

use crate::settings::golden;

#[test]
fn ids_are_those_of_transformers_whatever_special_tokens_are_called() {
    let (texts, cases) = golden("names.json");
    assert!(cases.len() >= 10 && texts.len() > 30);
    let mut seen = Vec::new();
    for case in &cases {
        let loaded = Tokenizer::load(case.dir.path());
        if let Some(missing) = &case.refused {
            let error = loaded.unwrap_err().to_string();
            assert!(error.contains(missing) && error.contains("tokenizer_config.json"), "{}: {error}", case.name);
            continue;
        }
        let tokenizer = loaded.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let dir = tempfile::tempdir().unwrap();
        tokenizer.save(dir.path()).unwrap();
        let saved = Tokenizer::load(dir.path()).unwrap();
        assert_eq!((saved.hash(), saved.special()), (tokenizer.hash(), tokenizer.special()), "{}", case.name);
        for (read, tokenizer) in [("read", &tokenizer), ("saved", &saved)] {
            for (text, ids) in texts.iter().zip(&case.ids) {
                assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{}, {read}, {text:?}", case.name);
            }
        }
        let names = tokenizer.special_names().map(|name| name.map(str::to_owned));
        let same = |(hash, _, _): &&(String, _, _)| hash == tokenizer.hash();
        if let Some((_, ids, named)) = seen.iter().find(same) {
            assert_eq!((ids, named), (&case.ids, &names), "{}: another tokenizer has its hash", case.name);
        }
        seen.push((tokenizer.hash().to_owned(), case.ids.clone(), names));
    }
}

#[test]
fn a_row_opens_ends_and_hides_with_the_tokenizers_own_tokens() {
    let (_, cases) = golden("names.json");
    let case = cases.iter().find(|case| case.name == "merges of letters, whole").unwrap();
    let tokenizer = Tokenizer::load(case.dir.path()).unwrap();
    assert_eq!(tokenizer.special_names(), ["<pad>", "<unk>", "<bos>", "<eos>", "<mask>"].map(Some));
    let sentence = tokenizer.encode("the cat sat on the mat and on the other mat").unwrap();
    let shards = Shards::from_sentences(tokenizer, vec![sentence.clone(); 4], vec![sentence]);
    let masking = Masking { rate: 0.5, ..Masking::default() };
    let options = BatchOptions { layout: Rows::Sentence, length: 64, batch: 4, seed: 1, objective: masking.into() };
    let batch = Batches::new(&shards, Split::Train, options).unwrap().at(0);
    let id = |token: &str| shards.tokenizer().id(token).unwrap() as i32;
    assert_eq!((batch.input_ids_bs[0], batch.input_ids_bs[63]), (id("<bos>"), id("<pad>")));
    assert_eq!(batch.input_ids_bs.iter().filter(|&&found| found == id("<eos>")).count(), 4);
    assert!(batch.input_ids_bs.contains(&id("<mask>")));
}

#[test]
fn a_mask_may_be_missing_and_a_text_may_open_and_end_as_causal_models_say() {
    let (_, cases) = golden("names.json");
    let of = |name: &str| Tokenizer::load(cases.iter().find(|case| case.name == name).unwrap().dir.path()).unwrap();
    let [few, causal] = ["no mask", "no mask, as causal models say"].map(of);
    assert_eq!((few.special(), few.special().mask), (causal.special(), None));
    assert_eq!(few.special_names()[..4], causal.special_names()[..4]);
    assert_eq!(causal.special_names()[..4], ["<pad>", "<unk>", "<s>", "</s>"].map(Some));
    let [no_padding, end] = ["no padding", "an end alone"].map(of);
    let id = |token: &str| few.id(token).unwrap();
    assert_eq!((no_padding.special().pad, no_padding.special().cls), (id("</s>"), id("<s>")), "what ends a text fills rows");
    assert_eq!(end.special_names(), [None, None, None, Some("</s>"), None]);
    assert_eq!((end.special().unk, end.special().cls, end.special().pad), (None, id("</s>"), id("</s>")));
}

#[test]
fn what_other_names_lack_is_told() {
    let (_, cases) = golden("names.json");
    let error = |name: &str| {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        Tokenizer::load(case.dir.path()).unwrap_err().to_string().replace(case.dir.path().to_str().unwrap(), "DIR")
    };
    insta::assert_snapshot!(error("refused: no end"), @r#"
    `eos_token` is not there, and the special tokens have names that are not BERT's
      in: DIR/tokenizer_config.json
    help: write which token ends a text, such as "eos_token": "<|endoftext|>" (or sep_token); those for padding (pad_token), for what can't be spelt (unk_token) and before a text (bos_token, cls_token) may be missing, as may mask_token of a causal model
    "#);
    let alone = cases.iter().find(|case| case.name == "tokenizer.json alone").unwrap();
    let text = fs::read_to_string(alone.dir.path().join("tokenizer.json")).unwrap();
    let error = Tokenizer::from_bytes(text.replace("<mask>", "<hole>").as_bytes()).unwrap_err();
    insta::assert_snapshot!(error, @"
    the vocabulary has no [PAD], [UNK], [CLS], [SEP], [MASK]
    help: if it has others, name them in a tokenizer_config.json beside it, of the class PreTrainedTokenizerFast: eos_token (or sep_token), and bos_token (or cls_token), pad_token, unk_token and mask_token as far as there are such; or make a vocabulary with `upstill tokenizer train --kind bpe`
    ");
}

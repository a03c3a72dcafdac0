//! A batch is a pure function of (shards, seed, step): what is in it, and what it never depends on.

use proptest::prelude::*;
use upstill::batch::{Batch, BatchOptions, Batches, Masking, Objective, Split, TokenOrder};
use upstill::config::Rows;
use upstill::tokens::{Shards, Tokenizer};

const MASK: i32 = 4;
/// Ids below this are special.
const ORDINARY: i32 = 5;

fn tokenizer(words: impl IntoIterator<Item = String>) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from);
    let vocabulary: Vec<String> = special.into_iter().chain(words).collect();
    std::fs::write(folder.path().join("vocab.txt"), vocabulary.join("\n") + "\n").unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

/// Sentences of the given lengths in which every token of the corpus has an id of its own.
fn distinct(lengths: &[usize]) -> Vec<Vec<u32>> {
    let mut next = ORDINARY as u32..;
    lengths.iter().map(|&tokens| next.by_ref().take(tokens).collect()).collect()
}

fn shards(train: Vec<Vec<u32>>, held_out: Vec<Vec<u32>>) -> Shards {
    let ids = train.iter().chain(&held_out).flatten().max().copied().unwrap_or(0).max(50);
    Shards::from_sentences(tokenizer((ORDINARY as u32..=ids).map(|id| format!("w{id}"))), train, held_out)
}

fn options(layout: Rows) -> BatchOptions {
    BatchOptions { layout, length: 64, batch: 16, seed: 7, objective: Masking::default().into() }
}

fn train(shards: &Shards, options: BatchOptions) -> Batches {
    Batches::new(shards, Split::Train, options).unwrap()
}

/// A sentence as found in a batch: its ids as they were, and the masked places with what the model sees there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    ids: Vec<i32>,
    masked: Vec<(usize, i32)>,
}

/// Takes a row apart, checking its layout on the way.
fn sentences_of(batch: &Batch, row: usize) -> Vec<Found> {
    let (s, m) = (row * batch.length, row * batch.asked.slots);
    let mut ids = batch.input_ids_bs[s..s + batch.length].to_vec();
    let mut masked = Vec::new();
    for slot in m..m + batch.asked.slots {
        let at = batch.asked.places_bm[slot] as usize;
        if batch.asked.weights_bm[slot] == 1.0 {
            masked.push((at, std::mem::replace(&mut ids[at], batch.asked.labels_bm[slot])));
        } else {
            assert_eq!((batch.asked.weights_bm[slot], at, batch.asked.labels_bm[slot]), (0.0, 0, 0), "an unused slot");
        }
    }
    assert!(masked.windows(2).all(|pair| pair[0].0 < pair[1].0), "masked places are in order");
    let segments = &batch.segments_bs[s..s + batch.length];
    let (mut found, mut start) = (Vec::new(), 0);
    for segment in segments.chunk_by(|a, b| a == b) {
        let range = start..start + segment.len();
        let positions = &batch.positions_bs[s + range.start..s + range.end];
        if segment[0] == 0 {
            assert_eq!(range.end, batch.length, "padding is at the end");
            assert!(ids[range.clone()].iter().all(|&id| id == 0) && positions.iter().all(|&position| position == 0));
        } else {
            assert_eq!(segment[0] as usize, found.len() + 1);
            assert!(positions.iter().copied().eq(0..range.len() as i32));
            assert_eq!((ids[range.start], ids[range.end - 1]), (2, 3), "[CLS] and [SEP]");
            let inside = masked.iter().filter(|(at, _)| range.contains(at)).map(|&(at, input)| (at - range.start - 1, input));
            found.push(Found { ids: ids[range.start + 1..range.end - 1].to_vec(), masked: inside.collect() });
        }
        start = range.end;
    }
    assert_eq!(found.iter().map(|sentence| sentence.masked.len()).sum::<usize>(), masked.len());
    found
}

fn rows_of(batch: &Batch) -> Vec<Vec<Found>> {
    let rows: Vec<Vec<Found>> = (0..batch.rows).map(|row| sentences_of(batch, row)).collect();
    let all = || rows.iter().flatten();
    assert_eq!(batch.tokens, all().map(|sentence| sentence.ids.len() + 2).sum::<usize>());
    assert_eq!(batch.asked.count, all().map(|sentence| sentence.masked.len()).sum::<usize>());
    rows
}

fn all_sentences(batches: &Batches, steps: std::ops::Range<u64>) -> Vec<Found> {
    steps.flat_map(|step| rows_of(&batches.at(step))).flatten().collect()
}

/// Batches of exactly one epoch each.
fn by_epoch(shards: &Shards, split: Split, options: BatchOptions) -> Batches {
    let rows = Batches::new(shards, split, options).unwrap().rows_per_epoch();
    Batches::new(shards, split, BatchOptions { batch: rows, ..options }).unwrap()
}

/// 6000 sentences of 5 to 45 tokens with skewed ids, some of them [UNK].
fn mixed() -> Vec<Vec<u32>> {
    let mut state = 1u64;
    let mut draw = move |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let mut id = move || if draw(50) == 0 { 1 } else { 5 + (draw(400) * draw(400) / 400) as u32 };
    (0..6000).map(|i| (0..5 + i * 7 % 41).map(|_| id()).collect()).collect()
}

#[test]
fn fifteen_percent_are_masked_eighty_ten_ten_and_never_special_tokens() {
    for layout in [Rows::Sentence, Rows::Packed] {
        let sentences = mixed();
        let tokens: usize = sentences.iter().map(Vec::len).sum();
        assert!(tokens > 100_000);
        let found = all_sentences(&by_epoch(&shards(sentences, vec![]), Split::Train, options(layout)), 0..1);
        let masked: Vec<(i32, i32)> = found.iter().flat_map(|s| s.masked.iter().map(|&(at, input)| (s.ids[at], input))).collect();
        let share = |count: usize, of: usize| count as f64 / of as f64;
        assert!((share(masked.len(), tokens) / 0.15 - 1.0).abs() < 0.01, "{} of {tokens}", masked.len());
        assert!(masked.iter().all(|&(label, input)| label >= ORDINARY && input >= MASK));
        let (hidden, kept) = (masked.iter().filter(|m| m.1 == MASK).count(), masked.iter().filter(|m| m.1 == m.0).count());
        let random = masked.len() - hidden - kept;
        for (count, expected) in [(hidden, 0.8), (kept, 0.1), (random, 0.1)] {
            assert!((share(count, masked.len()) - expected).abs() < 0.01, "{count} of {}, {expected} expected", masked.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_epoch_holds_every_token_once(
        lengths in prop::collection::vec(0usize..70, 1..40), length in 3usize..50, seed: u64,
        epoch in 0u64..5, packed: bool, whole_word: bool, rate in 0.01f64..1.0, rarity in 0u8..2,
    ) {
        prop_assume!(lengths.iter().any(|&tokens| tokens > 0));
        let masking = Masking { rate, whole_word, rarity: f64::from(rarity) };
        let layout = if packed { Rows::Packed } else { Rows::Sentence };
        let shards = shards(distinct(&lengths), vec![]);
        let batches = by_epoch(&shards, Split::Train, BatchOptions { layout, length, seed, objective: masking.into(), ..options(layout) });
        let found = all_sentences(&batches, epoch..epoch + 1);
        for sentence in &found {
            prop_assert!((1..=length - 2).contains(&sentence.ids.len()));
            prop_assert!(sentence.ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "pieces are cut, not mixed");
        }
        let mut ids: Vec<i32> = found.into_iter().flat_map(|sentence| sentence.ids).collect();
        ids.sort_unstable();
        let total = lengths.iter().sum::<usize>() as i32;
        prop_assert!(ids.into_iter().eq(ORDINARY..ORDINARY + total));
    }

    #[test]
    fn packed_and_alone_a_sentence_has_the_same_mask(lengths in prop::collection::vec(1usize..90, 1..60), seed: u64, epoch in 0u64..5) {
        let shards = shards(distinct(&lengths), vec![]);
        let found = |layout| {
            let mut found = all_sentences(&by_epoch(&shards, Split::Train, BatchOptions { seed, ..options(layout) }), epoch..epoch + 1);
            found.sort();
            found
        };
        prop_assert_eq!(found(Rows::Sentence), found(Rows::Packed));
    }

    #[test]
    fn micro_batches_joined_are_the_batch(micro_rows in 1usize..20) {
        let batch = train(&shards(mixed(), vec![]), options(Rows::Packed)).at(3);
        let firsts = (0..batch.rows).step_by(micro_rows);
        let parts: Vec<Batch> = firsts.map(|first| batch.part(first..batch.rows.min(first + micro_rows))).collect();
        prop_assert!(parts.iter().all(|part| part.rows <= micro_rows));
        parts.iter().for_each(|part| drop(rows_of(part)));
        let joined = parts.into_iter().reduce(|mut all, part| {
            all.rows += part.rows;
            all.input_ids_bs.extend(part.input_ids_bs);
            all.segments_bs.extend(part.segments_bs);
            all.positions_bs.extend(part.positions_bs);
            all.asked.places_bm.extend(part.asked.places_bm);
            all.asked.labels_bm.extend(part.asked.labels_bm);
            all.asked.weights_bm.extend(part.asked.weights_bm);
            all.tokens += part.tokens;
            all.asked.count += part.asked.count;
            all
        });
        prop_assert_eq!(joined, Some(batch));
    }
}

#[test]
fn the_same_step_gives_the_same_batch_on_any_thread() {
    let batches = train(&shards(mixed(), vec![]), options(Rows::Packed));
    let here: Vec<Batch> = (0..40).map(|step| batches.at(step)).collect();
    let there = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..40)
            .rev()
            .map(|step| {
                scope.spawn({
                    let batches = &batches;
                    move || batches.at(step)
                })
            })
            .collect();
        handles.into_iter().rev().map(|handle| handle.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(here, there);
    let again = train(&shards(mixed(), vec![]), options(Rows::Packed));
    assert_eq!(here[20..], again.prefetch(20, 40, 3).collect::<Vec<_>>());
    let other = train(&shards(mixed(), vec![]), BatchOptions { seed: 8, ..options(Rows::Packed) });
    assert_ne!(here[0], other.at(0));
}

#[test]
fn a_batch_goes_on_into_the_next_epoch() {
    let batches = train(&shards(distinct(&[30; 6]), vec![]), BatchOptions { batch: 4, ..options(Rows::Sentence) });
    assert_eq!((batches.rows_per_epoch(), batches.steps_per_epoch(), batches.slots()), (6, 2, 9));
    assert_eq!(batches.tokens_per_row(), 32.0);
    let found = all_sentences(&batches, 0..3);
    let (first, second) = found.split_at(6);
    let sorted = |epoch: &[Found]| {
        let mut epoch = epoch.to_vec();
        epoch.sort();
        epoch
    };
    let ids = |epoch: &[Found]| sorted(epoch).into_iter().map(|sentence| sentence.ids).collect::<Vec<_>>();
    assert_eq!(ids(first), ids(second), "both epochs hold every sentence");
    let in_order = |epoch: &[Found]| epoch.iter().map(|sentence| sentence.ids[0]).collect::<Vec<_>>();
    assert_ne!(in_order(first), in_order(second), "each in an order of its own");
    for (a, b) in sorted(first).iter().zip(sorted(second)) {
        assert_ne!(a.masked, b.masked, "and with masks of its own");
    }
}

#[test]
fn one_sentence_fills_a_batch_of_eight_epochs() {
    for layout in [Rows::Sentence, Rows::Packed] {
        let batches = train(&shards(distinct(&[40]), vec![]), BatchOptions { batch: 8, ..options(layout) });
        assert_eq!((batches.rows_per_epoch(), batches.steps_per_epoch()), (1, 1));
        let found = all_sentences(&batches, 0..1);
        assert!(found.iter().all(|sentence| sentence.ids == found[0].ids) && found.len() == 8);
        let mut masks: Vec<_> = found.into_iter().map(|sentence| sentence.masked).collect();
        masks.sort();
        masks.dedup();
        assert_eq!(masks.len(), 8, "every epoch masks anew");
    }
}

#[test]
fn held_out_batches_are_the_same_for_every_run() {
    let shards = shards(distinct(&[30; 3]), distinct(&[20; 10]));
    for layout in [Rows::Sentence, Rows::Packed] {
        let of = |seed| Batches::new(&shards, Split::HeldOut, BatchOptions { seed, batch: 4, ..options(layout) }).unwrap();
        let (one, other) = (of(1), of(2));
        assert_eq!(one.sentences().len(), 10);
        let steps = one.steps_per_epoch() as u64;
        let pass: Vec<Batch> = (0..steps).map(|step| one.at(step)).collect();
        for (step, batch) in (0..).zip(&pass) {
            // The rows of a second pass have other numbers, and are the same.
            let again = Batch { first_row: batch.first_row, ..other.at(steps + step) };
            assert!(*batch == again, "{layout:?}, step {step}");
        }
        assert!(pass.iter().all(|batch| batch.rows == 4), "static shapes");
        let rows: Vec<_> = pass.iter().flat_map(rows_of).collect();
        assert!(rows[one.rows_per_epoch()..].iter().all(Vec::is_empty), "filled up with empty rows");
        let mut first: Vec<i32> = rows.into_iter().flatten().map(|sentence| sentence.ids[0]).collect();
        first.sort_unstable();
        assert!(first.into_iter().eq((0..10).map(|i| ORDINARY + 20 * i)), "each sentence once");
    }
}

#[test]
fn rare_tokens_are_masked_more_often() {
    // Token 5 is everywhere, token 6 once in twenty.
    let sentences: Vec<Vec<u32>> = (0..2000).map(|i| (0..20).map(|at| if at == i % 20 { 6 } else { 5 }).collect()).collect();
    let shards = shards(sentences, vec![]);
    let rare = |rarity| {
        let masking = Masking { rarity, ..Masking::default() };
        let found = all_sentences(
            &by_epoch(&shards, Split::Train, BatchOptions { objective: masking.into(), ..options(Rows::Packed) }),
            0..1,
        );
        found.iter().flat_map(|sentence| sentence.masked.iter().filter(|(at, _)| sentence.ids[*at] == 6)).count()
    };
    // Uniform: 3 of 20 places, 300. With counts of 38000 to 2000 and 0.7 the weight is 7.85 times higher.
    let (uniform, weighted) = (rare(0.0), rare(0.7));
    assert!((230..370).contains(&uniform), "{uniform}");
    assert!(weighted > 3 * uniform, "{weighted} against {uniform}");
}

#[test]
fn what_cannot_be_batched_says_what_to_do() {
    let shards = shards(distinct(&[5]), vec![vec![]]);
    let refuse = |split, options| Batches::new(&shards, split, options).err().expect("refused").to_string();
    let good = options(Rows::Packed);
    insta::assert_snapshot!(refuse(Split::HeldOut, good), @r"
    there are no held-out sentences
    help: build the data from more documents, or hold out a larger share
    ");
    insta::assert_snapshot!(refuse(Split::Train, BatchOptions { length: 2, ..good }), @r"
    a row of 2 tokens
    help: give a length from 3, for [CLS], a token and [SEP], to 65536
    ");
    insta::assert_snapshot!(refuse(Split::Train, BatchOptions { batch: 0, ..good }), @r"
    a batch of 0 rows
    help: give at least 1
    ");
    let masking = Masking { rate: 1.5, ..Masking::default() };
    insta::assert_snapshot!(refuse(Split::Train, BatchOptions { objective: masking.into(), ..good }), @r"
    the masking rate is 1.5
    help: give a share above 0 and at most 1; BERT's is 0.15
    ");
}

#[test]
fn a_batch_is_shown_as_a_person_reads_it() {
    let texts = [
        "the cat sat on the mat .",
        "a dog did not see it .",
        "the old king and his ##tor ##ian friend walk ##ed slowly from the large house to the small river , and then they sat on the green grass until it was dark .",
    ];
    let mut words: Vec<String> = texts.iter().flat_map(|text| text.split(' ')).map(String::from).collect();
    words.sort_unstable();
    words.dedup();
    let tokenizer = tokenizer(words);
    let sentences: Vec<Vec<u32>> = texts.map(|text| text.split(' ').map(|word| tokenizer.id(word).unwrap()).collect()).to_vec();
    let held_out = sentences[..1].to_vec();
    let shards = Shards::from_sentences(tokenizer, sentences, held_out);
    let masking = Masking { rate: 0.4, ..Masking::default() };
    let show = |layout| {
        let batches = train(&shards, BatchOptions { layout, batch: 3, objective: masking.into(), ..options(layout) });
        batches.at(0).show(shards.tokenizer(), 3)
    };
    insta::assert_snapshot!(show(Rows::Sentence), @r"
    row 0   [CLS] a [MASK] [MASK] not see [MASK] . [SEP]
                    dog    did            it
    row 1   [CLS] the not  king and his [MASK] ##ian [MASK] [MASK] [MASK] slowly small the large [MASK]
                      ~old              ##tor        friend walk   ##ed   =      ~from           house
            [MASK] the small [MASK] , friend then mat   sat on the green grass until it was [MASK] .
            to               river    ~and        ~they                                     dark
            [SEP]
    row 2   [CLS] the [MASK] sat on the [MASK] [MASK] [SEP]
                      cat               mat    .
    to be found:  word  behind [MASK]   ~word  behind a random token   =  the token shown
    ");
    insta::assert_snapshot!(show(Rows::Packed), @r"
    row 0   [CLS] the [MASK] sat on the [MASK] [MASK] [SEP]
                      cat               mat    .
            [CLS] a [MASK] [MASK] not see [MASK] . [SEP]
                    dog    did            it
            [CLS] the not  king and his [MASK] ##ian [MASK] [MASK] [MASK] slowly small the large [MASK]
                      ~old              ##tor        friend walk   ##ed   =      ~from           house
            [MASK] the small [MASK] , friend then mat   sat on the green grass until it was [MASK] .
            to               river    ~and        ~they                                     dark
            [SEP]
    row 1   [CLS] [MASK] cat sat on [MASK] mat . [SEP]
                  the    =          the
            [CLS] a [MASK] did [MASK] see [MASK] . [SEP]
                    dog        not        it
            [CLS] the old [MASK] and his ##tor ##ian friend [MASK] [MASK] slowly from the large [MASK]
                          king                              walk   ##ed                         house
            [MASK] the [MASK] river [MASK] [MASK] then they [MASK] on the dog    grass until it was dark
            to         small        ,      and              sat    =      ~green                =
            . [SEP]
            =
    row 2   [CLS] the [MASK] [MASK] on house mat . [SEP]
                      cat    sat       ~the
            [CLS] [MASK] dog did not ,    [MASK] . [SEP]
                  a                  ~see it
            [CLS] the [MASK] king and his ##tor ##ian friend [MASK] ##ed slowly [MASK] [MASK] [MASK]
                      old                                    walk               from   the    large
            house to the [MASK] walk   [MASK] [MASK] then they [MASK] on the they   grass until [MASK]
                         small  ~river ,      and              sat           ~green             it
            was [MASK] . [SEP]
                dark
    to be found:  word  behind [MASK]   ~word  behind a random token   =  the token shown
    ");
    let held_out = Batches::new(&shards, Split::HeldOut, BatchOptions { batch: 2, ..options(Rows::Sentence) }).unwrap();
    insta::assert_snapshot!(held_out.at(0).show(shards.tokenizer(), 9), @r"
    row 0   [CLS] the cat sat [MASK] the mat . [SEP]
                              on
    row 1   (empty)
    to be found:  word  behind [MASK]   ~word  behind a random token   =  the token shown
    ");
}

/// Every token but a sentence's last is asked for the one that comes next, and sees none after it.
#[test]
fn a_causal_batch_asks_every_token_for_the_next() {
    let shards = shards(mixed(), vec![]);
    for layout in [Rows::Sentence, Rows::Packed] {
        let causal = BatchOptions { objective: Objective::Causal, ..options(layout) };
        let (batch, masked) = (train(&shards, causal).at(0), train(&shards, options(layout)).at(0));
        assert_eq!((batch.order, masked.order), (TokenOrder::Causal, TokenOrder::Bidirectional));
        let mut asked = 0;
        for row in 0..batch.rows {
            let (s, m) = (row * batch.length, row * batch.asked.slots);
            for slot in (m..m + batch.asked.slots).filter(|&slot| batch.asked.weights_bm[slot] > 0.0) {
                let at = s + batch.asked.places_bm[slot] as usize;
                assert_eq!(batch.segments_bs[at], batch.segments_bs[at + 1], "within one sentence");
                assert_eq!(batch.asked.labels_bm[slot], batch.input_ids_bs[at + 1]);
                asked += 1;
            }
        }
        let sentences: i32 = batch.segments_bs.chunks(batch.length).map(|row| *row.iter().max().unwrap()).sum();
        assert_eq!((asked, batch.asked.count), (batch.tokens - sentences as usize, asked));
        let all = batch.part(0..1);
        assert!(all.asked.count > 0 && all.order == TokenOrder::Causal);
    }
}

/// A plan whose batches grow and whose tokens are masked less and less.
fn changing(shards: &Shards) -> upstill::Plan {
    let sets = [
        "preset=standalone",
        "data.rows=packed",
        "train.steps=12",
        "train.batch=2 -> 8 over 6 steps",
        "data.mask_rate=0.5 until 4 steps, then 0.2",
        "data.held_out_mask_rate=0.15",
    ];
    crate::common::plan(shards, &sets)
}

#[test]
fn batches_that_change_take_every_row_once_and_mask_what_their_step_says() {
    let shards = crate::common::shards();
    let plan = changing(&shards);
    let of = |rate: f64| {
        let objective = Masking { rate, ..Masking::default() }.into();
        let options = BatchOptions { layout: Rows::Packed, length: plan.data.length, batch: 8, seed: plan.seed, objective };
        train(&shards, options)
    };
    let changing = of(0.5).scheduled_by(&plan);
    let mut first_row = 0;
    for step in 0..12 {
        let batch = changing.at(step);
        assert_eq!((batch.rows, batch.first_row), (plan.train.rows_at(step), first_row), "step {step}");
        // Each row is the one that a batch of another size has, masked at the step's rate.
        for row in 0..batch.rows {
            let [whole, own] = [of(0.5).at((first_row + row as u64) / 8), batch.clone()];
            let there = ((first_row + row as u64) % 8) as usize;
            let ids = |batch: &Batch, row| sentences_of(batch, row).into_iter().map(|found| found.ids).collect::<Vec<_>>();
            assert_eq!(ids(&own, row), ids(&whole, there), "step {step}, row {row}");
            if step < 4 {
                assert_eq!(sentences_of(&own, row), sentences_of(&whole, there));
            }
            let masking = Masking { rate: if step < 4 { 0.5 } else { 0.2 }, ..Masking::default() };
            assert!(sentences_of(&own, row).iter().all(|found| found.masked.len() == masking.count(found.ids.len())));
        }
        let rows: Vec<usize> = changing.rows_of(step).into_iter().map(|(row, _)| row).collect();
        assert_eq!(rows.len(), batch.rows);
        first_row += batch.rows as u64;
    }
    assert_eq!(changing.clone().prefetch(3, 5, 1).collect::<Vec<_>>(), [changing.at(3), changing.at(4)]);
}

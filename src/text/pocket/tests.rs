use std::collections::HashSet;

use super::world::*;
use super::*;

fn sentences(count: u64) -> Vec<String> {
    (0..count).flat_map(|index| Pocket::new(5).document(index).sentences).collect()
}

/// The words of a sentence, punctuation apart.
fn split(sentence: &str) -> Vec<String> {
    sentence.replace(',', " ,").replace('.', " .").split(' ').map(str::to_owned).collect()
}

#[test]
fn one_document() {
    insta::assert_snapshot!(Pocket::new(1).document(3).sentences.join("\n"), @"
    many cars that have overtaken each fresh rose have blocked jack.
    above grace, each stew is boiling.
    many horses are tame.
    the tulips were wilting together.
    above all horses, this pie is steaming.
    yesterday, every mild wind was not tidy.
    many cakes near all girls were sweet yesterday.
    beside all furry horses, every tidy shop that this hungry dog has heard was leaning.
    each tall tree is faced by the bridge.
    every pie was boiling quietly.
    ");
}

#[test]
fn a_document_is_a_function_of_seed_and_index() {
    let (a, b) = (Pocket::new(3), Pocket::new(4));
    let backwards: Vec<Document> = (0..20).rev().map(|index| a.document(index)).collect();
    assert!((0..20).all(|index| a.document(index) == backwards[19 - index as usize]));
    assert!((0..20).all(|index| a.document(index) != b.document(index)));
    let distinct: HashSet<String> = (0..200).map(|index| a.document(index).sentences.concat()).collect();
    assert_eq!(distinct.len(), 200);
}

#[test]
fn every_word_is_listed_and_few_enough_for_a_small_vocabulary() {
    let known: HashSet<&str> = words().into_iter().collect();
    assert!((300..900).contains(&known.len()), "{} words", known.len());
    let mut seen = HashSet::new();
    for sentence in sentences(3000) {
        let parts = split(&sentence);
        assert!((4..=27).contains(&parts.len()), "{sentence}");
        for word in parts {
            assert!(known.contains(word.as_str()), "{word} in {sentence}");
            seen.insert(word);
        }
    }
    assert_eq!(seen.len(), known.len(), "every word comes up in 3,000 documents");
}

/// Reads a noun phrase that starts at `at`: the number of its noun, and where the phrase ends. Checks every verb
/// inside.
fn noun_phrase(words: &[&str], at: usize, checked: &mut usize) -> Option<(usize, usize)> {
    if PEOPLE.contains(words.get(at)?) {
        return Some((0, at + 1));
    }
    let noun = (at + 1..at + 3).find(|&at| words.get(at).is_some_and(|word| number(word).is_some()))?;
    let many = number(words[noun])?;
    let end = noun + 1;
    match *words.get(end)? {
        word if PLACES.contains(&word) => noun_phrase(words, end + 1, checked).map(|(_, end)| (many, end)),
        "that" if AUXILIARIES.concat().contains(words.get(end + 1)?) => {
            agrees(words, end + 1, many, checked);
            noun_phrase(words, end + 3, checked).map(|(_, end)| (many, end))
        }
        "that" => {
            let (inner, verb) = noun_phrase(words, end + 1, checked)?;
            agrees(words, verb, inner, checked);
            Some((many, verb + 2))
        }
        _ => Some((many, end)),
    }
}

/// 0 for a singular noun, 1 for a plural one.
fn number(word: &str) -> Option<usize> {
    let nouns = || KINDS.iter().flat_map(|kind| kind.nouns);
    let many = || word.strip_suffix('s').is_some_and(|one| nouns().any(|noun| noun == one));
    if nouns().any(|noun| noun == word) { Some(0) } else { many().then_some(1) }
}

fn agrees(words: &[&str], at: usize, number: usize, checked: &mut usize) {
    if words[at] != "will" {
        assert!(AUXILIARIES[number].contains(&words[at]), "{} at {at} of {words:?}", words[at]);
        *checked += 1;
    }
}

#[test]
fn verbs_agree_with_their_nouns_across_what_stands_between() {
    let mut checked = 0;
    for sentence in sentences(1000) {
        let words = split(&sentence);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let comma = if words[1] == "," || PLACES.contains(&words[0]) { words.iter().position(|word| *word == ",") } else { None };
        let start = comma.map_or(0, |comma| comma + 1);
        if DETERMINERS.concat().contains(&words[start])
            && let Some((many, verb)) = noun_phrase(&words, start, &mut checked)
        {
            agrees(&words, verb, many, &mut checked);
        }
    }
    assert!(checked > 5000, "only {checked} checked");
}

#[test]
fn facts_follow_the_world() {
    let mut checked = 0;
    for sentence in sentences(3000) {
        let words = split(&sentence);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (who, what): (&[&str], &[&str]) = match words.as_slice() {
            [who @ .., "lives", "in", city, "."] => (who, &["city", city]),
            [who @ .., "is", "a", job, "."] => (who, &["job", job]),
            [who @ .., "keeps", "a", pet, "."] => (who, &["pet", pet]),
            _ => continue,
        };
        let Some(mut person) = PEOPLE.iter().position(|name| Some(name) == who.last()) else { panic!("{sentence}") };
        for link in who[..who.len() - 1].chunks(3).rev() {
            let relation = RELATIONS.iter().find(|relation| relation.name == link[1]).unwrap_or_else(|| panic!("{sentence}"));
            person = relation.holder[relation.group.of(person)];
        }
        let truth = match what[0] {
            "city" => city(person),
            "job" => job(person),
            _ => pet(person),
        };
        assert_eq!(what[1], truth, "{sentence}");
        checked += 1;
    }
    assert!(checked > 1000, "only {checked} checked");
}

#[test]
fn relations_stay_within_their_group() {
    for relation in &RELATIONS {
        for (group, &holder) in relation.holder.iter().enumerate() {
            assert_eq!(relation.group.of(holder), group, "{}", relation.name);
        }
    }
}

#[test]
fn the_last_taker_has_the_thing_and_turns_add_up() {
    let (mut hands, mut turns) = (0, 0);
    for sentence in sentences(1000) {
        let words = split(&sentence);
        if let Some(so) = words.iter().position(|word| word == "so") {
            assert_eq!(words[so + 1], words[so - 2], "{sentence}");
            hands += 1;
        }
        if words[1] == "looked" {
            let at = |word: &String| DIRECTIONS.iter().position(|way| way == word);
            let quarters: usize =
                words.iter().filter_map(|word| TURNS.iter().position(|turn| turn == word).map(|turn| turn + 1)).sum();
            assert_eq!(Some((at(&words[2]).unwrap() + quarters) % 4), at(&words[words.len() - 2]), "{sentence}");
            turns += 1;
        }
    }
    assert!(hands > 100 && turns > 100, "{hands} {turns}");
}

#[test]
fn every_topic_is_as_common_as_the_others() {
    // The source loss is that of single sentences of any topic, so documents must have all topics equally often.
    let mut by_family = [0usize; 4];
    for sentence in sentences(16000) {
        let words = split(&sentence);
        if let ("keeps", Some(person)) = (words[1].as_str(), PEOPLE.iter().position(|name| *name == words[0])) {
            by_family[person / 4] += 1;
        }
    }
    let total: usize = by_family.iter().sum();
    assert!(total > 1500 && by_family.iter().all(|&n| n * 10 > total * 2 && n * 10 < total * 3), "{by_family:?}");
}

#[test]
fn the_source_loses_less_than_word_counts_and_always_the_same() {
    let (a, b) = (Pocket::new(1).source_loss(150, Channel::default()), Pocket::new(2).source_loss(150, Channel::default()));
    assert_eq!(a, Pocket::new(1).source_loss(150, Channel::default()));
    let apart = (a.mean - b.mean).abs() / a.standard_error.hypot(b.standard_error);
    assert!(apart < 4.0, "{a:?} {b:?}");
    assert!(a.mean > 0.3 && a.mean < unigram_entropy() / 2.0 && a.standard_error < 0.06, "{a:?}");
}

#[test]
fn the_measured_source_loss_is_this_language() {
    let (measured, sample) = (source_loss(), Pocket::new(6).source_loss(400, Channel::default()));
    let apart = (measured.mean - sample.mean).abs() / measured.standard_error.hypot(sample.standard_error);
    assert!(apart < 4.0, "the language changed: measure it again with Pocket::new(0).source_loss(20_000, ..); {sample:?}");
}

fn unigram_entropy() -> f64 {
    let mut counts = std::collections::BTreeMap::<String, f64>::new();
    sentences(500).iter().flat_map(|sentence| split(sentence)).for_each(|word| *counts.entry(word).or_default() += 1.0);
    let total: f64 = counts.values().sum();
    counts.values().map(|n| -n / total * (n / total).ln()).sum()
}

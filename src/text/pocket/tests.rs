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
    the carts that hit jack hit the storm.
    the cold soups that the furry cow chases boil together.
    the castle above the trams that the shops face leans.
    kate is a doctor.
    the film was not charming and the lesson was not charming.
    the wind that the sweet roast above the frost fills roars.
    the tame rabbits sleep.
    the father of the coach of sara is a doctor.
    the play was very dull but the lesson was lovely.
    today, the tower is narrow.
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
    assert!((400..900).contains(&known.len()), "{} words", known.len());
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

/// Walks a sentence from left to right with a stack of nouns that wait for their verb.
#[test]
fn verbs_agree_with_their_nouns_across_what_stands_between() {
    let number = |word: &str| {
        KINDS.iter().find_map(|kind| {
            kind.nouns.iter().find_map(|noun| {
                if word == *noun {
                    Some(0)
                } else if word.strip_suffix('s') == Some(noun) {
                    Some(1)
                } else {
                    None
                }
            })
        })
    };
    let does = |word: &str| {
        KINDS.iter().find_map(|kind| {
            kind.does.iter().find_map(|(plural, _)| {
                if word == *plural {
                    Some(1)
                } else if word == singular_verb(plural) {
                    Some(0)
                } else {
                    None
                }
            })
        })
    };
    let mut checked = 0;
    for sentence in sentences(2000) {
        // "the NOUN that the NOUN DOES ...": the inner verb agrees with the inner noun. The outer noun waits.
        let words = split(&sentence);
        for window in words.windows(6) {
            if let [the, outer, that, the2, inner, verb] = window
                && (the.as_str(), that.as_str(), the2.as_str()) == ("the", "that", "the")
                && let (Some(_), Some(inner), Some(verb)) = (number(outer), number(inner), does(verb))
            {
                assert_eq!(inner, verb, "{sentence}");
                checked += 1;
            }
        }
        // "the NOUN that DOES ..." and "... BE ... ": the first noun's number is the last verb's.
        let first =
            words.iter().position(|word| word == "the").and_then(|at| words[at + 1..].iter().find_map(|word| number(word)));
        let be = words.iter().rev().find_map(|word| match word.as_str() {
            "is" | "was" => Some(0),
            "are" | "were" => Some(1),
            _ => None,
        });
        if let (Some(first), Some(be), true) = (first, be, words[0] == "the") {
            assert_eq!(first, be, "{sentence}");
            checked += 1;
        }
    }
    assert!(checked > 1000, "only {checked} checked");
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

//! Minimal pairs in the pocket language: what pre-training on it teaches, asked without fine-tuning.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{MinimalPair, agreement, any_kind, any_number, below, city, draw, job, join, write};
use crate::text::pocket::world::{CITIES, JOBS, PEOPLE};

/// Words of a good sentence and of a bad one.
type Two = [Vec<&'static str>; 2];

/// Pairs of each paradigm that is drawn.
const EACH: usize = 200;

/// The pocket language's minimal pairs, always the same: a noun and its verb in one number, whatever stands between
/// them; verbs that go with a class of nouns; praise that goes with praise; facts of the world. The two sentences of a
/// pair differ in one word.
pub fn pocket_pairs() -> Vec<MinimalPair> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    rng.set_stream(1 << 32); // none of the tasks'
    let mut found = drawn(EACH * 5, &mut rng, |rng| {
        let mut same = rng.clone();
        let (paradigm, bad) = agreement(0, rng);
        (paradigm, "agreement", [agreement(1, &mut same).1, bad])
    });
    found.extend(drawn(EACH, &mut rng, |rng| ("selection", "selection", selection(rng))));
    found.extend(drawn(EACH, &mut rng, |rng| ("praise_and_blame", "coherence", coherence(rng))));
    found.extend(facts());
    found
}

/// So many pairs, all different.
fn drawn(
    count: usize,
    rng: &mut ChaCha8Rng,
    each: impl Fn(&mut ChaCha8Rng) -> (&'static str, &'static str, Two),
) -> Vec<MinimalPair> {
    let (mut pairs, mut seen) = (Vec::with_capacity(count), HashSet::new());
    while pairs.len() < count {
        let (paradigm, phenomenon, two) = each(rng);
        let pair = pair(paradigm, phenomenon, &two, pairs.len());
        if pair.good != pair.bad && seen.insert(pair.good.clone()) {
            pairs.push(pair);
        }
    }
    pairs
}

fn pair(paradigm: &str, phenomenon: &str, [good, bad]: &Two, at: usize) -> MinimalPair {
    MinimalPair {
        paradigm: paradigm.to_owned(),
        phenomenon: phenomenon.to_owned(),
        good: write(good),
        bad: write(bad),
        place: format!("the pocket language, {phenomenon} {}", at + 1),
    }
}

/// "the dogs near the barn were sleeping" and "... were rusting".
fn selection(rng: &mut ChaCha8Rng) -> Two {
    let (kind, number) = (any_kind(rng), any_number(rng));
    let other = loop {
        let other = any_kind(rng);
        if other != kind {
            break other;
        }
    };
    let between = if below(rng, 2) == 0 { Vec::new() } else { join(&[&draw("PLACE", rng), &draw("ANY.0", rng)]) };
    let subject = join(&[&draw(&format!("NOUN.{kind}.{number}"), rng), &between]);
    let mut same = rng.clone();
    let good = draw(&format!("ACTS.{kind}.{number}"), rng);
    let bad = draw(&format!("ACTS.{other}.{number}"), &mut same);
    [good, bad].map(|acts| join(&[&subject, &acts, &["."]]))
}

/// "anna was glad because the film was great" and "... because the film was awful".
fn coherence(rng: &mut ChaCha8Rng) -> Two {
    let way = below(rng, 2);
    let link = ["because", "although"][below(rng, 2)];
    let mood = draw(&format!("MOOD.{way}"), rng);
    let agrees = if link == "because" { way } else { 1 - way };
    let mut same = rng.clone();
    let good = draw(&format!("OPINION.{agrees}"), rng);
    let bad = draw(&format!("OPINION.{}", 1 - agrees), &mut same);
    [good, bad].map(|opinion| join(&[&mood, &[link], &opinion, &["."]]))
}

/// "anna lives in york" and "anna lives in rome": every person with every wrong city and job.
fn facts() -> Vec<MinimalPair> {
    let mut pairs = Vec::new();
    for (person, name) in PEOPLE.into_iter().enumerate() {
        let wrong = |all: &[&'static str; 4], right: &str| all.iter().copied().filter(|x| *x != right).collect::<Vec<_>>();
        let (home, work) = (city(person), job(person));
        let lives = |city| vec![name, "lives", "in", city, "."];
        let is = |job| vec![name, "is", "a", job, "."];
        let cities = wrong(&CITIES, home).into_iter().map(|other| [lives(home), lives(other)]);
        let jobs = wrong(&JOBS, work).into_iter().map(|other| [is(work), is(other)]);
        for two in cities.chain(jobs) {
            pairs.push(pair("people", "facts", &two, pairs.len()));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_sentences_of_a_pair_differ_in_one_word() {
        let pairs = pocket_pairs();
        assert_eq!(pairs, pocket_pairs(), "always the same");
        for pair in &pairs {
            let [good, bad] = [&pair.good, &pair.bad].map(|text| text.split(' ').collect::<Vec<_>>());
            let differ = good.iter().zip(&bad).filter(|(a, b)| a != b).count();
            assert!(good.len() == bad.len() && differ == 1, "{}: {} | {}", pair.paradigm, pair.good, pair.bad);
        }
    }

    #[test]
    fn pairs_as_people_read_them() {
        let mut first: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in pocket_pairs() {
            first.entry(pair.paradigm).or_default().push(format!("  {} | {}", pair.good, pair.bad));
        }
        let shown = first.iter().map(|(name, lines)| format!("{name} {}\n{}", lines.len(), lines[..2].join("\n")));
        insta::assert_snapshot!(shown.collect::<Vec<_>>().join("\n"), @"
        agreement 242
          all empty trucks are empty. | all empty trucks is empty.
          the mild clouds are not roaring together. | the mild clouds is not roaring together.
        agreement_across_a_clause 131
          the nurses that every dog has heard are not tame. | the nurses that every dog has heard is not tame.
          these gales that this old shop has bordered are dark. | these gales that this old shop has bordered is dark.
        agreement_across_a_place 231
          each dog above each mild shower was sleeping. | each dog above each mild shower were sleeping.
          the shy girls above the heavy axes were reading. | the shy girls above the heavy axes was reading.
        agreement_across_an_object 256
          many castles that have faced these tulips were not mild. | many castles that have faced these tulips was not mild.
          every train that has carried all farmers is leaving often. | every train that has carried all farmers are leaving often.
        agreement_inside_a_clause 140
          these salads that many light hammers have split are not cooling. | these salads that many light hammers has split are not cooling.
          the castle that many cold cakes have filled is old. | the castle that many cold cakes has filled is old.
        people 96
          anna lives in york. | anna lives in rome.
          anna lives in york. | anna lives in oslo.
        praise_and_blame 200
          paul was pleased because the song was very good. | paul was pleased because the song was very boring.
          david was not glad although the film was very superb. | david was not glad although the film was very terrible.
        selection 200
          each fern near all sweet salads was wilting. | each fern near all sweet salads was steaming.
          many fierce storms were lifting. | many fierce storms were closing.
        ");
    }
}

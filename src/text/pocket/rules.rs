//! The rules of the pocket language: how its sentences are made.
//!
//! Symbols carry features in their names: `NP.animal.many.1` is a noun phrase about several animals with one more
//! phrase allowed inside.

use super::grammar::{Builder, Grammar};
use super::world::*;

/// Number, as in the symbols' names.
pub const NUMBERS: [&str; 2] = ["one", "many"];
/// What agrees with them: now, then, and before.
pub const AUXILIARIES: [[&str; 3]; 2] = [["is", "was", "has"], ["are", "were", "have"]];
/// Topics: each prefers two classes of nouns and one family.
pub const TOPICS: usize = 4;

/// How often each sort of sentence comes.
const SHARES: [(&str, f64); 5] = [("CLAUSE", 0.58), ("FACT", 0.16), ("SENTIMENT", 0.12), ("HAND", 0.07), ("TURN", 0.07)];

/// The whole language. `S` is a sentence of any topic, `S.0` to `S.3` of one.
pub fn grammar() -> Grammar {
    let mut b = Builder::default();
    for t in 0..TOPICS {
        b.rule("S", 1.0, format!("S.{t}"));
        for (sort, share) in SHARES {
            let topical = matches!(sort, "CLAUSE" | "FACT");
            b.rule(format!("S.{t}"), share, if topical { format!("{sort}.{t} .") } else { format!("{sort} .") });
        }
    }
    lexicon(&mut b);
    noun_phrases(&mut b);
    clauses(&mut b);
    facts(&mut b);
    sentiment(&mut b);
    hands(&mut b);
    turns(&mut b);
    b.build()
}

fn lexicon(b: &mut Builder) {
    for kind in &KINDS {
        let k = kind.name;
        b.class(format!("N.{k}.one"), kind.nouns);
        b.class(format!("ADJ.{k}"), kind.is);
        b.class(format!("DOING.{k}"), kind.acts);
        b.class(format!("DONE.{k}"), kind.done);
        for noun in kind.nouns {
            b.rule(format!("N.{k}.many"), 1.0, format!("{noun}s"));
        }
        for n in NUMBERS {
            b.rule(format!("ACTS.{k}.{n}"), 0.8, format!("BE.{n} DOING.{k}"));
            b.rule(format!("ACTS.{k}.{n}"), 0.2, format!("BE.{n} not DOING.{k}"));
            b.rule(format!("DOES.{k}.{n}"), 1.0, format!("HAVE.{n} DONE.{k}"));
        }
    }
    for (n, [be, was, have]) in NUMBERS.iter().zip(AUXILIARIES) {
        b.class(format!("BE.{n}"), [be, was]);
        b.rule(format!("HAVE.{n}"), 1.0, have);
    }
    for (n, determiners) in NUMBERS.iter().zip(DETERMINERS) {
        for (at, determiner) in determiners.iter().enumerate() {
            b.rule(format!("DET.{n}"), if at == 0 { 0.28 } else { 0.24 }, *determiner);
        }
    }
    b.class("NAME", PEOPLE);
    b.class("PLACE", PLACES);
    b.class("MANNER", MANNERS);
}

/// `NP.kind.number.depth`: up to `depth` phrases inside one another between a noun and its verb.
fn noun_phrases(b: &mut Builder) {
    for (k, n) in kinds_and_numbers() {
        b.rule(format!("NOUN.{k}.{n}"), 0.65, format!("DET.{n} N.{k}.{n}"));
        b.rule(format!("NOUN.{k}.{n}"), 0.35, format!("DET.{n} ADJ.{k} N.{k}.{n}"));
        b.rule(format!("NP.{k}.{n}.0"), 0.7, format!("NOUN.{k}.{n}"));
        if (k, n) == ("person", "one") {
            b.rule("NP.person.one.0", 0.3, "NAME");
        }
        for depth in 0..2 {
            b.rule(format!("ANY.{depth}"), 1.0, format!("NP.{k}.{n}.{depth}"));
            b.rule(format!("THAT.{depth}"), 1.0, format!("NP.{k}.{n}.{depth} DOES.{k}.{n}"));
            let np = format!("NP.{k}.{n}.{}", depth + 1);
            b.rule(np.clone(), 0.45, format!("NOUN.{k}.{n}"));
            b.rule(np.clone(), 0.2, format!("NOUN.{k}.{n} PLACE ANY.{depth}"));
            b.rule(np.clone(), 0.22, format!("NOUN.{k}.{n} that THAT.{depth}"));
            b.rule(np, 0.13, format!("NOUN.{k}.{n} that DOES.{k}.{n} ANY.{depth}"));
        }
    }
}

/// `CLAUSE.topic`: a subject, however far from its verb, and what it does, is, or has done to it.
fn clauses(b: &mut Builder) {
    for (tense, adverb, one, many) in
        [("past", "yesterday", "was", "were"), ("now", "today", "is", "are"), ("next", "tomorrow", "will", "will")]
    {
        let be = if tense == "next" { " be" } else { "" };
        for (at, kind) in KINDS.iter().enumerate() {
            let (k, opposite) = (kind.name, KINDS[at ^ 1].name);
            for (n, verb) in [("one", one), ("many", many)] {
                b.rule(format!("IS.{tense}.{k}.{n}"), 0.7, format!("{verb}{be} ADJ.{k}"));
                b.rule(format!("IS.{tense}.{k}.{n}"), 0.3, format!("{verb} not{be} ADJ.{opposite}"));
                b.rule(format!("STATE.{k}.{n}"), 1.0, format!("{adverb} , NP.{k}.{n}.1 IS.{tense}.{k}.{n}"));
                b.rule(format!("STATE.{k}.{n}"), 1.5, format!("NP.{k}.{n}.2 IS.{tense}.{k}.{n}"));
                b.rule(format!("STATE.{k}.{n}"), 1.0, format!("NP.{k}.{n}.1 IS.{tense}.{k}.{n} {adverb}"));
            }
        }
    }
    for (k, n) in kinds_and_numbers() {
        b.rule("BY", 1.0, format!("DONE.{k} by NP.{k}.{n}.0"));
        b.rule(format!("ACT.{k}.{n}"), 1.5, format!("NP.{k}.{n}.2 ACTS.{k}.{n}"));
        b.rule(format!("ACT.{k}.{n}"), 1.0, format!("NP.{k}.{n}.1 ACTS.{k}.{n} MANNER"));
        b.rule(format!("ACT.{k}.{n}"), 1.0, format!("PLACE ANY.0 , NP.{k}.{n}.1 ACTS.{k}.{n}"));
        b.rule(format!("DO.{k}.{n}"), 1.0, format!("NP.{k}.{n}.1 DOES.{k}.{n} ANY.0"));
        b.rule(format!("DO.{k}.{n}"), 1.0, format!("NP.{k}.{n}.1 BE.{n} BY"));
        for t in 0..TOPICS {
            let liked =
                if KINDS.iter().position(|kind| kind.name == k) == Some(2 * t) || KINDS[2 * t + 1].name == k { 3.0 } else { 1.0 };
            for (sort, share) in [("STATE", 0.35), ("ACT", 0.35), ("DO", 0.3)] {
                b.rule(format!("CLAUSE.{t}"), liked * share, format!("{sort}.{k}.{n}"));
            }
        }
    }
}

/// `FACT.topic`: something about a person that is always true; `WHO.person.links.group` names the person by that many
/// links.
fn facts(b: &mut Builder) {
    for (person, name) in PEOPLE.iter().enumerate() {
        b.rule(format!("WHO.{person}.0"), 1.0, *name);
        for group in [Group::Family, Group::Team] {
            for links in 1..=2 {
                let phrases = naming(person, links, group);
                for phrase in &phrases {
                    b.rule(format!("WHO.{person}.{links}.{group:?}"), 1.0, phrase);
                }
                if !phrases.is_empty() {
                    // What is news after a link by family is the team, and the other way round.
                    let news = if group == Group::Family {
                        format!("is a {}", job(person))
                    } else {
                        format!("lives in {}", city(person))
                    };
                    about(
                        b,
                        person,
                        [0.9, 0.7][links - 1],
                        &format!("WHO.{person}.{links}.{group:?}"),
                        &[&news, &format!("is {name}")],
                    );
                }
            }
        }
        let (city, job, pet) = (city(person), job(person), pet(person));
        about(b, person, 1.0, name, &[&format!("lives in {city}"), &format!("is a {job}"), &format!("keeps a {pet}")]);
        about(b, person, 0.3, name, &[&format!(", the {job} from {city} , ACTS.person.one")]);
        for (other, _) in CITIES.iter().enumerate().filter(|&(_, c)| *c != city) {
            about(b, person, 0.05, name, &[&format!("does not live in {}", CITIES[other])]);
        }
        for (other, _) in JOBS.iter().enumerate().filter(|&(_, j)| *j != job) {
            about(b, person, 0.05, name, &[&format!("is not a {}", JOBS[other])]);
        }
    }
}

/// Adds `who` with each of `news` as facts of every topic.
fn about(b: &mut Builder, person: usize, weight: f64, who: &str, news: &[&str]) {
    for t in 0..TOPICS {
        let liked = if Group::Family.of(person) == t { 3.0 } else { 1.0 };
        for text in news {
            b.rule(format!("FACT.{t}"), weight * liked / news.len() as f64, format!("{who} {text}"));
        }
    }
}

/// The phrases that name a person by their relation to somebody else, the outermost relation going by `group`.
fn naming(person: usize, links: usize, group: Group) -> Vec<String> {
    let held = RELATIONS.iter().filter(|relation| relation.group == group && relation.holder[group.of(person)] == person);
    held.flat_map(|relation| {
        let others = (0..PEOPLE.len()).filter(move |&x| x != person && group.of(x) == group.of(person));
        let others = others.filter(move |&x| links == 1 || !naming(x, links - 1, group.other()).is_empty());
        others.map(move |x| {
            let inner = if links == 1 { PEOPLE[x].to_owned() } else { format!("WHO.{x}.{}.{:?}", links - 1, group.other()) };
            format!("the {} of {inner}", relation.name)
        })
    })
    .collect()
}

/// `SENTIMENT`: praise or blame, where "not" turns a word round and "but" and "although" a clause; the main clause
/// counts.
fn sentiment(b: &mut Builder) {
    b.class("EVENT", EVENTS);
    for (p, (judgements, feelings)) in JUDGEMENTS.iter().zip(&FEELINGS).enumerate() {
        let q = 1 - p;
        b.class(format!("JUDGED.{p}"), *judgements);
        b.class(format!("FELT.{p}"), *feelings);
        for (weight, text) in [
            (0.55, format!("JUDGED.{p}")),
            (0.25, format!("very JUDGED.{p}")),
            (0.13, format!("not JUDGED.{q}")),
            (0.07, format!("not very JUDGED.{q}")),
        ] {
            b.rule(format!("HOW.{p}"), weight, text);
        }
        b.rule(format!("OPINION.{p}"), 1.0, format!("the EVENT was HOW.{p}"));
        b.rule(format!("MOOD.{p}"), 1.0, format!("NAME was FELT.{p}"));
        b.rule(format!("MOOD.{p}"), 0.25, format!("NAME was not FELT.{q}"));
        for (weight, text) in [
            (0.1, format!("OPINION.{p}")),
            (0.3, format!("OPINION.{p} and OPINION.{p}")),
            (0.15, format!("OPINION.{q} but OPINION.{p}")),
            (0.3, format!("MOOD.{p} because OPINION.{p}")),
            (0.15, format!("MOOD.{p} although OPINION.{q}")),
        ] {
            b.rule(format!("SENTIMENT.{p}"), weight, text);
        }
        b.rule("SENTIMENT", 1.0, format!("SENTIMENT.{p}"));
    }
}

/// `HAND`: a thing goes from hand to hand, and the last one has it.
fn hands(b: &mut Builder) {
    let hands = &PEOPLE[..8];
    for thing in THINGS {
        for (a, giver) in hands.iter().enumerate() {
            b.rule(format!("HAS.{a}.{thing}"), 1.0, format!(", so {giver} has the {thing}"));
            for left in 1..=3 {
                let gives = format!("GIVES.{a}.{thing}.{left}");
                b.rule("HAND", 1.0, gives.clone());
                b.rule(gives, 1.0, format!("{giver} gave the {thing} to TAKES.{a}.{thing}.{left}"));
                for (c, taker) in hands.iter().enumerate().filter(|&(c, _)| c != a) {
                    let then = if left == 1 { format!("HAS.{c}.{thing}") } else { format!("THEN.{c}.{thing}.{left}") };
                    b.rule(format!("TAKES.{a}.{thing}.{left}"), 1.0, format!("{taker} {then}"));
                }
                if left > 1 {
                    b.rule(format!("THEN.{a}.{thing}.{left}"), 1.0, format!(", GIVES.{a}.{thing}.{}", left - 1));
                }
            }
        }
    }
}

/// `TURN`: somebody looks one way, turns, and looks another.
fn turns(b: &mut Builder) {
    for (at, way) in DIRECTIONS.iter().enumerate() {
        b.rule("TURN", 1.0, format!("NAME looked {way} , TURNS.{at}"));
        b.rule(format!("LOOKS.{at}.0"), 1.0, format!("and now looks {way}"));
        for left in 1..=3 {
            b.rule(format!("TURNS.{at}"), 1.0, format!("LOOKS.{at}.{left}"));
            for (quarter, turn) in TURNS.iter().enumerate() {
                b.rule(
                    format!("LOOKS.{at}.{left}"),
                    1.0,
                    format!("turned {turn} , LOOKS.{}.{}", (at + quarter + 1) % 4, left - 1),
                );
            }
        }
    }
}

/// Every class of nouns in both numbers.
fn kinds_and_numbers() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().flat_map(|kind| NUMBERS.map(|number| (kind.name, number)))
}

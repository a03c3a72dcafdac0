//! Tasks in the pocket language, in the style of GLUE: drawn from a seed, balanced, and made so that counting words doesn't
//! solve them. What they ask is what pre-training on the language teaches: agreement, classes of words, who does what to
//! whom, what "not" turns round, and facts of the world.

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Example, Kind, Label, Metric, Task};
use crate::text::pocket::grammar::below;
use crate::text::pocket::world::{Group, KINDS, PEOPLE, RELATIONS, THINGS, city, job, singular_verb};
use crate::text::pocket::{NUMBERS, draw, known, write};
use crate::{Error, Result};

/// How many examples a task has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// To learn from.
    pub train: usize,
    /// To be scored on.
    pub dev: usize,
}

impl Default for Sizes {
    /// 2,000 and 600.
    fn default() -> Self {
        Sizes { train: 2000, dev: 600 }
    }
}

/// The most examples a task can have in all: all of them still differ.
const MOST: usize = 20_000;

/// How one task is made.
struct Recipe {
    name: &'static str,
    classes: &'static [&'static str],
    pair: bool,
    metrics: &'static [Metric],
    /// Answers to draw equally often: classes, or scores from 0.
    answers: usize,
    example: fn(usize, &mut ChaCha8Rng) -> Texts,
}

/// The text of an example: the second is empty where the task has single sentences.
type Texts = [Vec<&'static str>; 2];

const RECIPES: [Recipe; 5] = [
    Recipe {
        name: "pocket-acceptability",
        classes: &["unacceptable", "acceptable"],
        pair: false,
        metrics: &[Metric::Matthews],
        answers: 2,
        example: acceptability,
    },
    Recipe {
        name: "pocket-sentiment",
        classes: &["negative", "positive"],
        pair: false,
        metrics: &[Metric::Accuracy],
        answers: 2,
        example: sentiment,
    },
    Recipe {
        name: "pocket-paraphrase",
        classes: &["different", "same"],
        pair: true,
        metrics: &[Metric::F1, Metric::Accuracy],
        answers: 2,
        example: paraphrase,
    },
    Recipe {
        name: "pocket-entailment",
        classes: &["does-not-follow", "follows"],
        pair: true,
        metrics: &[Metric::Accuracy],
        answers: 2,
        example: entailment,
    },
    Recipe {
        name: "pocket-similarity",
        classes: &[],
        pair: true,
        metrics: &[Metric::Pearson, Metric::Spearman],
        answers: 6,
        example: similarity,
    },
];

/// The names of the pocket tasks.
pub fn pocket_names() -> Vec<&'static str> {
    RECIPES.iter().map(|recipe| recipe.name).collect()
}

/// A pocket task by name, in its default size, always the same.
pub fn pocket_task(name: &str) -> Option<Task> {
    draw_pocket_task(name, 0, Sizes::default()).ok()
}

/// A pocket task by name, drawn from a seed. No first sentence of `dev` occurs in `train`.
///
/// # Errors
/// For a name that is not one of [`pocket_names`], or more examples than the language has distinct ones.
pub fn draw_pocket_task(name: &str, seed: u64, sizes: Sizes) -> Result<Task> {
    let at = RECIPES.iter().position(|recipe| recipe.name == name);
    let at = at.ok_or_else(|| {
        Error::new(format!("there is no pocket task {name:?}"))
            .help(format!("the pocket tasks are {}", pocket_names().join(", ")))
    })?;
    if sizes.train.saturating_add(sizes.dev) > MOST {
        return Err(Error::new(format!("{name} has at most {MOST} examples, train and dev together")).help("ask for fewer"));
    }
    let recipe = &RECIPES[at];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(at as u64);
    let mut used = HashSet::new();
    let train = split(recipe, sizes.train, &mut used, &mut rng);
    used.extend(train.iter().filter_map(|example| example.second.clone()));
    let dev = split(recipe, sizes.dev, &mut used, &mut rng);
    let kind = match recipe.classes {
        [] => Kind::Regression { low: 0.0, high: (recipe.answers - 1) as f64 },
        classes => Kind::Classification { classes: classes.iter().map(|&class| class.to_owned()).collect() },
    };
    Ok(Task { name: name.to_owned(), kind, pair: recipe.pair, metrics: recipe.metrics, train, dev })
}

/// Examples whose first sentences are new, every answer as often as the others, in random order.
fn split(recipe: &Recipe, count: usize, used: &mut HashSet<String>, rng: &mut ChaCha8Rng) -> Vec<Example> {
    let mut examples = Vec::with_capacity(count);
    while examples.len() < count {
        let answer = examples.len() % recipe.answers;
        let [first, second] = (recipe.example)(answer, rng).map(|words| write(&words));
        if used.insert(first.clone()) {
            let label = if recipe.classes.is_empty() { Label::Score(answer as f64) } else { Label::Class(answer) };
            examples.push(Example { first, second: recipe.pair.then_some(second), label });
        }
    }
    for at in (1..count).rev() {
        examples.swap(at, below(rng, at + 1));
    }
    examples
}

/// Whether every verb agrees with its own noun, where another noun of the other number stands between.
fn acceptability(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    let (kind, other) = (any_kind(rng), any_kind(rng));
    let right = any_number(rng);
    let wrong = opposite(right);
    let main = if answer == 1 { right } else { wrong };
    let inner = if answer == 1 { wrong } else { right };
    let outer = draw(&format!("NOUN.{kind}.{right}"), rng);
    let noun = draw(&format!("NP.{other}.{wrong}.{}", below(rng, 2)), rng);
    let between = match below(rng, 3) {
        0 => join(&[&draw("PLACE", rng), &noun]),
        1 => join(&[&["that"], &draw(&format!("VT.{kind}.{right}"), rng), &noun]),
        _ => join(&[&["that"], &noun, &draw(&format!("VT.{other}.{inner}"), rng)]),
    };
    let does = draw(&format!("{}.{kind}.{main}", ["VI", "BE.now", "BE.past"][below(rng, 3)]), rng);
    [join(&[&outer, &between, &does, &["."]]), Vec::new()]
}

/// What the main clause says, after every "not" and beside every "but".
fn sentiment(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    [join(&[&draw(&format!("SENTIMENT.{answer}"), rng), &["."]]), Vec::new()]
}

/// Whether two sentences with the same words say the same: who does it, and to whom.
fn paraphrase(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    let scene = Scene::draw(rng);
    let (a, b) = (&scene.a, &scene.b);
    let (x, y) = if answer == 1 { (a, b) } else { (b, a) };
    let pair = match below(rng, 3) {
        0 => [join(&[a, &[scene.verb], b, &["."]]), join(&[y, &[scene.be, scene.done, "by"], x, &["."]])],
        1 => {
            let told = join(&[x, &[scene.verb], y, &[",", "and"], b, &[scene.act, "."]]);
            [join(&[b, &["that"], a, &[scene.verb, scene.act, "."]]), told]
        }
        _ => {
            let place = draw("PLACE", rng);
            [join(&[&place, a, &[","], b, &[scene.act, "."]]), join(&[y, &place, x, &[scene.act, "."]])]
        }
    };
    let [first, second] = pair;
    if below(rng, 2) == 0 { [first, second] } else { [second, first] }
}

/// Whether the second sentence follows from the first, in the world of the language.
fn entailment(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    match below(rng, 3) {
        0 => within_a_sentence(answer, rng),
        1 => hand_to_hand(answer, rng),
        _ => about_a_person(answer, rng),
    }
}

fn within_a_sentence(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    let scene = Scene::draw(rng);
    let (a, b) = (&scene.a, &scene.b);
    let (x, y) = if answer == 1 { (a, b) } else { (b, a) };
    let first = join(&[b, &["that"], a, &[scene.verb, scene.act, "."]]);
    let second = if below(rng, 2) == 0 { join(&[x, &[scene.verb], y, &["."]]) } else { join(&[y, &[scene.act, "."]]) };
    [first, second]
}

fn hand_to_hand(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    let thing = THINGS[below(rng, THINGS.len())];
    let mut people = vec![PEOPLE[below(rng, 8)]];
    while people.len() < 3 + below(rng, 2) {
        people.push(other_than(&people, &PEOPLE[..8], rng));
    }
    let gave: Vec<Vec<&str>> = people.windows(2).map(|pair| vec![pair[0], "gave", "the", thing, "to", pair[1], ","]).collect();
    let mut first = gave.concat();
    first.pop();
    first.push(".");
    let last = people.len() - 1;
    let others: Vec<&str> = people.iter().copied().filter(|&person| person != people[last]).collect();
    let holder = if answer == 1 { people[last] } else { others[below(rng, others.len())] };
    [first, vec![holder, "has", "the", thing, "."]]
}

/// "anna helps the dog" and "the baker from york helps the dog", or "the mother of ben helps the dog".
fn about_a_person(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    let related = below(rng, 2) == 0;
    let holders: Vec<usize> = RELATIONS.iter().flat_map(|relation| relation.holder).collect();
    let any = |rng: &mut ChaCha8Rng| if related { holders[below(rng, holders.len())] } else { below(rng, PEOPLE.len()) };
    let person = any(rng);
    let mut meant = person;
    while answer == 0 && meant == person {
        meant = any(rng);
    }
    let does = join(&[&draw("VT.person.one", rng), &draw("ANY.1", rng), &["."]]);
    let who = if related {
        let groups: Vec<Group> =
            RELATIONS.iter().filter(|relation| relation.holder.contains(&meant)).map(|relation| relation.group).collect();
        draw(&format!("WHO.{meant}.1.{:?}", groups[below(rng, groups.len())]), rng)
    } else {
        vec!["the", job(meant), "from", city(meant)]
    };
    [join(&[&[PEOPLE[person]], &does]), join(&[&who, &does])]
}

/// How much two sentences share, whatever stands beside their subjects: 2 for a subject and a verb of the same class, and 1
/// each for the same noun, the same verb and the same number.
fn similarity(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    let kind = below(rng, KINDS.len());
    let number = below(rng, 2);
    let (noun, act) = (below(rng, 8), below(rng, 5));
    let first = happening(kind, number, noun, act, rng);
    if answer < 2 {
        let elsewhere = (kind + 1 + below(rng, KINDS.len() - 1)) % KINDS.len();
        let number = if answer == 1 { number } else { 1 - number };
        let (noun, act) = (below(rng, 8), below(rng, 5));
        return [first, happening(elsewhere, number, noun, act, rng)];
    }
    // Which of the three are the same: as many as the score asks for.
    let mut same = [false; 3];
    while same.iter().filter(|&&same| same).count() < answer - 2 {
        same[below(rng, 3)] = true;
    }
    let number = if same[0] { number } else { 1 - number };
    let noun = if same[1] { noun } else { (noun + 1 + below(rng, 7)) % 8 };
    let act = if same[2] { act } else { (act + 1 + below(rng, 4)) % 5 };
    [first, happening(kind, number, noun, act, rng)]
}

/// A sentence of this subject and verb, with something else beside the subject.
fn happening(kind: usize, number: usize, noun: usize, act: usize, rng: &mut ChaCha8Rng) -> Vec<&'static str> {
    let kind = &KINDS[kind];
    let (noun, act) = if number == 0 {
        (known(kind.nouns[noun]), known(&singular_verb(kind.acts[act])))
    } else {
        (known(&format!("{}s", kind.nouns[noun])), known(kind.acts[act]))
    };
    let beside = if below(rng, 3) == 0 { Vec::new() } else { join(&[&draw("PLACE", rng), &draw("ANY.0", rng)]) };
    let manner = if below(rng, 2) == 0 { draw("MANNER", rng) } else { Vec::new() };
    join(&[&["the", noun], &beside, &[act], &manner, &["."]])
}

/// Two noun phrases of the same class and number, and verbs that fit either.
struct Scene {
    a: Vec<&'static str>,
    b: Vec<&'static str>,
    verb: &'static str,
    act: &'static str,
    be: &'static str,
    done: &'static str,
}

impl Scene {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let (kind, number) = (&KINDS[below(rng, KINDS.len())], any_number(rng));
        let noun = format!("NOUN.{}.{number}", kind.name);
        let a = draw(&noun, rng);
        let mut b = draw(&noun, rng);
        while b.last() == a.last() {
            b = draw(&noun, rng);
        }
        let (plural, done) = kind.does[below(rng, kind.does.len())];
        let act = draw(&format!("VI.{}.{number}", kind.name), rng)[0];
        let one = number == "one";
        Scene {
            a,
            b,
            verb: if one { known(&singular_verb(plural)) } else { plural },
            act,
            be: if one { "is" } else { "are" },
            done,
        }
    }
}

fn join(parts: &[&[&'static str]]) -> Vec<&'static str> {
    parts.concat()
}

fn any_kind(rng: &mut ChaCha8Rng) -> &'static str {
    KINDS[below(rng, KINDS.len())].name
}

fn any_number(rng: &mut ChaCha8Rng) -> &'static str {
    NUMBERS[below(rng, 2)]
}

fn opposite(number: &str) -> &'static str {
    if number == NUMBERS[0] { NUMBERS[1] } else { NUMBERS[0] }
}

/// One of `all` that isn't the last of `people`.
fn other_than(people: &[&'static str], all: &[&'static str], rng: &mut ChaCha8Rng) -> &'static str {
    loop {
        let person = all[below(rng, all.len())];
        if people.last() != Some(&person) {
            return person;
        }
    }
}

#[cfg(test)]
mod tests;

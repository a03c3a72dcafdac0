//! Tasks in the pocket language, in the style of GLUE: drawn from a seed, balanced, and made so that counting words
//! doesn't solve them. What they ask is what pre-training on the language teaches: agreement, classes of words, who
//! does what to whom, what "not" turns round, and facts of the world.

mod pairs;

use std::collections::HashSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

pub use self::pairs::pocket_pairs;
use super::{Example, Kind, Label, Metric, MinimalPair, Split, Task};
use crate::text::pocket::grammar::below;
use crate::text::pocket::world::{FEELINGS, Group, JUDGEMENTS, KINDS, PEOPLE, RELATIONS, THINGS, city, job};
use crate::text::pocket::{AUXILIARIES, NUMBERS, draw, known, write};
use crate::{Error, Result};

/// How many examples a task has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PocketSizes {
    /// Examples to learn from.
    pub train: usize,
    /// Examples to be scored on.
    pub dev: usize,
}

impl Default for PocketSizes {
    /// 4,000 and 600.
    fn default() -> Self {
        PocketSizes { train: 4000, dev: 600 }
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
    example: fn(usize, Part, &mut ChaCha8Rng) -> Texts,
}

/// Which examples are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Dev,
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
    draw_pocket_task(name, 0, PocketSizes::default()).ok()
}

/// A pocket task by name, drawn from a seed. No first sentence of `dev` occurs in `train`.
///
/// # Errors
/// For a name that is not one of [`pocket_names`], or more examples than the language has distinct ones.
pub fn draw_pocket_task(name: &str, seed: u64, sizes: PocketSizes) -> Result<Task> {
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
    let train = examples(recipe, Part::Train, sizes.train, &mut used, &mut rng);
    used.extend(train.iter().filter_map(|example| example.second.clone()));
    let dev = examples(recipe, Part::Dev, sizes.dev, &mut used, &mut rng);
    let kind = match recipe.classes {
        [] => Kind::Regression { low: 0.0, high: (recipe.answers - 1) as f64 },
        classes => Kind::Classification { classes: classes.iter().map(|&class| class.to_owned()).collect() },
    };
    let (metrics, dev) = (recipe.metrics.to_vec(), vec![Split { name: "dev".to_owned(), examples: dev }]);
    Ok(Task { name: name.to_owned(), kind, pair: recipe.pair, metrics, train, dev, test: Vec::new(), notes: Vec::new() })
}

/// Examples whose first sentences are new, every answer as often as the others, in random order.
fn examples(recipe: &Recipe, part: Part, count: usize, used: &mut HashSet<String>, rng: &mut ChaCha8Rng) -> Vec<Example> {
    let mut examples = Vec::with_capacity(count);
    while examples.len() < count {
        let answer = examples.len() % recipe.answers;
        let [first, second] = (recipe.example)(answer, part, rng).map(|words| write(&words));
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

/// Whether every verb agrees with its own noun, whatever the number of a noun in between.
fn acceptability(answer: usize, _: Part, rng: &mut ChaCha8Rng) -> Texts {
    [agreement(answer, rng).1, Vec::new()]
}

/// A sentence for [`acceptability`], and what it tests. The same draws with the other answer give the same sentence but
/// for one verb.
fn agreement(answer: usize, rng: &mut ChaCha8Rng) -> (&'static str, Vec<&'static str>) {
    let (kind, other) = (any_kind(rng), any_kind(rng));
    let (number, between) = (any_number(rng), any_number(rng));
    let says = |number: &'static str| if answer == 1 { number } else { opposite(number) };
    let subject = draw(&format!("NOUN.{kind}.{number}"), rng);
    let noun = draw(&format!("NP.{other}.{between}.{}", below(rng, 2)), rng);
    // One verb is wrong in a wrong sentence: its last, or the one inside.
    let (mut main, mut inner) = (says(number), between);
    let (paradigm, between) = match below(rng, 4) {
        0 => ("agreement", Vec::new()),
        1 => ("agreement_across_a_place", join(&[&draw("PLACE", rng), &noun])),
        2 => ("agreement_across_an_object", join(&[&["that"], &draw(&format!("DOES.{kind}.{number}"), rng), &noun])),
        _ => {
            let is_inside = below(rng, 2) == 0;
            if is_inside {
                (main, inner) = (number, says(inner));
            }
            let paradigm = if is_inside { "agreement_inside_a_clause" } else { "agreement_across_a_clause" };
            (paradigm, join(&[&["that"], &noun, &draw(&format!("DOES.{other}.{inner}"), rng)]))
        }
    };
    let does = match below(rng, 4) {
        0 => draw(&format!("IS.now.{kind}.{main}"), rng),
        1 => draw(&format!("IS.past.{kind}.{main}"), rng),
        2 => draw(&format!("ACTS.{kind}.{main}"), rng),
        _ => join(&[&draw(&format!("ACTS.{kind}.{main}"), rng), &draw("MANNER", rng)]),
    };
    (paradigm, join(&[&subject, &between, &does, &["."]]))
}

/// What the main clause says, after every "not" and beside every "but". `train` holds half of the words of praise,
/// blame and mood, and `dev` all of them: what the others say is known from pre-training or not at all.
fn sentiment(answer: usize, part: Part, rng: &mut ChaCha8Rng) -> Texts {
    let unknown = |word: &&str| {
        let unknown = |words: &[&str]| words[words.len() / 2..].contains(word);
        JUDGEMENTS.iter().any(|words| unknown(words)) || FEELINGS.iter().any(|words| unknown(words))
    };
    loop {
        let words = draw(&format!("SENTIMENT.{answer}"), rng);
        if part == Part::Dev || !words.iter().any(unknown) {
            return [join(&[&words, &["."]]), Vec::new()];
        }
    }
}

/// Whether two sentences with the same words say the same: who does it, and to whom.
fn paraphrase(answer: usize, _: Part, rng: &mut ChaCha8Rng) -> Texts {
    let scene = Scene::draw(true, rng);
    let (a, b) = (&scene.a, &scene.b);
    let (x, y) = if answer == 1 { (a, b) } else { (b, a) };
    let pair = match below(rng, 3) {
        0 => [join(&[a, &scene.does, b, &["."]]), join(&[y, &scene.is_done, x, &["."]])],
        1 => {
            let told = join(&[x, &scene.does, y, &[",", "and"], b, &scene.acts, &["."]]);
            [join(&[b, &["that"], a, &scene.does, &scene.acts, &["."]]), told]
        }
        _ => {
            let place = draw("PLACE", rng);
            [join(&[&place, a, &[","], b, &scene.acts, &["."]]), join(&[y, &place, x, &scene.acts, &["."]])]
        }
    };
    let [first, second] = pair;
    if below(rng, 2) == 0 { [first, second] } else { [second, first] }
}

/// Whether the second sentence follows from the first, in the world of the language.
fn entailment(answer: usize, _: Part, rng: &mut ChaCha8Rng) -> Texts {
    match below(rng, 5) {
        0..=2 => within_a_sentence(answer, rng),
        3 => hand_to_hand(answer, rng),
        _ => about_a_person(answer, rng),
    }
}

fn within_a_sentence(answer: usize, rng: &mut ChaCha8Rng) -> Texts {
    let alike = below(rng, 3) == 0;
    let scene = Scene::draw(alike, rng);
    let (a, b) = (&scene.a, &scene.b);
    let (x, y) = if answer == 1 { (a, b) } else { (b, a) };
    let first = join(&[b, &["that"], a, &scene.does, &scene.acts, &["."]]);
    let second = if below(rng, 2) == 0 { join(&[x, &scene.does, y, &["."]]) } else { join(&[y, &scene.acts, &["."]]) };
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
    let does = join(&[&draw("DOES.person.one", rng), &draw("ANY.1", rng), &["."]]);
    let who = if related {
        let groups: Vec<Group> =
            RELATIONS.iter().filter(|relation| relation.holder.contains(&meant)).map(|relation| relation.group).collect();
        draw(&format!("WHO.{meant}.1.{:?}", groups[below(rng, groups.len())]), rng)
    } else {
        vec!["the", job(meant), "from", city(meant)]
    };
    [join(&[&[PEOPLE[person]], &does]), join(&[&who, &does])]
}

/// How much two sentences share, whatever stands beside their subjects: 2 for a subject and a verb of the same class,
/// and 1 each for the same noun, the same verb and the same number.
fn similarity(answer: usize, _: Part, rng: &mut ChaCha8Rng) -> Texts {
    let kind = below(rng, KINDS.len());
    let number = below(rng, 2);
    let (noun, act) = (below(rng, 6), below(rng, 4));
    let first = happening([kind, number, noun, act], None, rng);
    // The first sentence's subject comes up in the second where it isn't the subject.
    let subject = [draw(&format!("DET.{}", NUMBERS[number]), rng)[0], first[1]];
    let beside = |rng: &mut ChaCha8Rng| (below(rng, 4) > 0).then_some(subject);
    if answer < 2 {
        let elsewhere = (kind + 1 + below(rng, KINDS.len() - 1)) % KINDS.len();
        let number = if answer == 1 { number } else { 1 - number };
        let (noun, act) = (below(rng, 6), below(rng, 4));
        let beside = beside(rng);
        return [first, happening([elsewhere, number, noun, act], beside, rng)];
    }
    // Which of the three are the same: as many as the score asks for.
    let mut same = [false; 3];
    while same.iter().filter(|&&same| same).count() < answer - 2 {
        same[below(rng, 3)] = true;
    }
    let number = if same[0] { number } else { 1 - number };
    let beside = if same[1] { None } else { beside(rng) };
    let noun = if same[1] { noun } else { (noun + 1 + below(rng, 5)) % 6 };
    let act = if same[2] { act } else { (act + 1 + below(rng, 3)) % 4 };
    [first, happening([kind, number, noun, act], beside, rng)]
}

/// A sentence of this class, number, noun and verb, with this or something else beside the subject.
fn happening(
    [kind, number, noun, act]: [usize; 4],
    beside: Option<[&'static str; 2]>,
    rng: &mut ChaCha8Rng,
) -> Vec<&'static str> {
    let kind = &KINDS[kind];
    let noun = if number == 0 { kind.nouns[noun] } else { known(&format!("{}s", kind.nouns[noun])) };
    let beside = match beside {
        Some(beside) => join(&[&draw("PLACE", rng), &beside]),
        None if below(rng, 3) == 0 => Vec::new(),
        None => join(&[&draw("PLACE", rng), &draw("ANY.0", rng)]),
    };
    let manner = if below(rng, 2) == 0 { draw("MANNER", rng) } else { Vec::new() };
    join(&[&["the", noun], &beside, &[AUXILIARIES[number][below(rng, 2)], kind.acts[act]], &manner, &["."]])
}

/// Two noun phrases of the same number, what the first does to the second, and what the second does.
struct Scene {
    a: Vec<&'static str>,
    b: Vec<&'static str>,
    does: Vec<&'static str>,
    is_done: Vec<&'static str>,
    acts: Vec<&'static str>,
}

impl Scene {
    /// Of `alike` phrases, the nouns are of the same class and each verb fits either; otherwise each fits one only.
    fn draw(alike: bool, rng: &mut ChaCha8Rng) -> Self {
        let number = any_number(rng);
        let first = below(rng, KINDS.len());
        let second = if alike { first } else { (first + 1 + below(rng, KINDS.len() - 1)) % KINDS.len() };
        let [first, second] = [&KINDS[first], &KINDS[second]];
        let a = noun(first.name, number, rng);
        let mut b = noun(second.name, number, rng);
        while b.last() == a.last() {
            b = noun(second.name, number, rng);
        }
        let done = first.done[below(rng, first.done.len())];
        let [is, _, has] = AUXILIARIES[usize::from(number == NUMBERS[1])];
        let acts = draw(&format!("ACTS.{}.{number}", second.name), rng);
        Scene { a, b, does: vec![has, done], is_done: vec![is, done, "by"], acts }
    }
}

/// A noun phrase about certain things: what holds of every mill near a barn needn't hold of every mill.
fn noun(kind: &str, number: &str, rng: &mut ChaCha8Rng) -> Vec<&'static str> {
    loop {
        let words = draw(&format!("NOUN.{kind}.{number}"), rng);
        if ["the", "this", "these"].contains(&words[0]) {
            return words;
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

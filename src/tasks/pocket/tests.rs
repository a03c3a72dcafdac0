use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::text::pocket::words;

fn all() -> Vec<Task> {
    pocket_names().into_iter().map(|name| draw_pocket_task(name, 3, Sizes::default()).unwrap()).collect()
}

fn text(example: &Example) -> String {
    match &example.second {
        Some(second) => format!("{} | {second}", example.first),
        None => example.first.clone(),
    }
}

fn index(label: Label) -> usize {
    match label {
        Label::Class(class) => class,
        Label::Score(score) => score as usize,
    }
}

#[test]
fn examples_as_people_read_them() {
    let shown: Vec<String> = all()
        .iter()
        .map(|task| {
            let lines: Vec<String> =
                task.train[..6].iter().map(|example| format!("  {} {}", index(example.label), text(example))).collect();
            format!("{}\n{}", task.name, lines.join("\n"))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @"
    pocket-acceptability
      1 the boat that the tidy shops above the breezes protect is full.
      0 the full trucks that overtake the fierce breeze was empty.
      0 the distant flood that the boats that the hot stews stain overtakes end.
      1 the needles that scrape the pudding bend.
      1 the old shop above the axes was not distant.
      0 the frosts that the polite guard know is not cosy.
    pocket-sentiment
      1 the trip was not awful.
      0 david was sad because the meal was poor.
      0 david was sad because the film was not very charming.
      0 mary was bored because the song was bad.
      1 ben was pleased although the lesson was very poor.
      0 paul was not glad because the play was very dull.
    pocket-paraphrase
      1 the drills scrape the sharp hammers. | the sharp hammers are scraped by the drills.
      0 the narrow mill that the old shop overlooks stands. | the narrow mill overlooks the old shop, and the narrow mill stands.
      1 the storms are shaken by the clouds. | the clouds shake the storms.
      1 above the narrow shop, the bridge leans. | the bridge above the narrow shop leans.
      0 the breeze chills the gale, and the breeze rises. | the breeze that the gale chills rises.
      0 the barn faces the cosy house. | the barn is faced by the cosy house.
    pocket-entailment
      1 emma gave the key to anna, anna gave the key to ben. | ben has the key.
      1 anna gave the letter to henry, henry gave the letter to emma. | emma has the letter.
      0 kate greets the barns that the stew stains. | the father of mary greets the barns that the stew stains.
      0 david thanks the rose that the boys help. | the boss of frank thanks the rose that the boys help.
      0 jack greets the noisy trains. | the mother of mary greets the noisy trains.
      1 the blunt spades that the needles scrape break. | the needles scrape the blunt spades.
    pocket-similarity
      3 the horses jump slowly. | the horse beside the cold soups eats often.
      2 the needle above the trams cuts quietly. | the drills bend.
      2 the tower near the hammers leans. | the temples open.
      2 the cart stops. | the trams brake.
      3 the floods beside the salads end again. | the breezes near the puddings fade together.
      1 the guards near the rose read. | the cats above the soup drink quietly.
    ");
}

#[test]
fn a_task_is_a_function_of_its_name_and_seed() {
    for name in pocket_names() {
        let sizes = Sizes { train: 40, dev: 10 };
        assert_eq!(draw_pocket_task(name, 1, sizes).unwrap(), draw_pocket_task(name, 1, sizes).unwrap());
        assert_ne!(draw_pocket_task(name, 1, sizes).unwrap().train, draw_pocket_task(name, 2, sizes).unwrap().train);
    }
}

#[test]
fn answers_are_equally_common() {
    for task in all() {
        for split in [&task.train, &task.dev] {
            let mut counts = BTreeMap::<usize, usize>::new();
            split.iter().for_each(|example| *counts.entry(index(example.label)).or_default() += 1);
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            assert!(counts.len() >= 2 && most - least <= 1, "{}: {counts:?}", task.name);
        }
    }
}

#[test]
fn no_dev_sentence_was_learnt_from() {
    for task in all() {
        let train: HashSet<&str> =
            task.train.iter().flat_map(|example| [Some(example.first.as_str()), example.second.as_deref()]).flatten().collect();
        assert!(task.dev.iter().all(|example| !train.contains(example.first.as_str())), "{}", task.name);
        assert_eq!(task.pair, task.dev[0].second.is_some());
    }
}

#[test]
fn every_word_is_one_of_the_language() {
    let known: HashSet<&str> = words().into_iter().collect();
    for task in all() {
        for example in &task.train {
            for word in text(example).replace(" |", "").replace(',', " ,").replace('.', " .").split_whitespace() {
                assert!(known.contains(word), "{word}: {}", text(example));
            }
        }
    }
}

/// A logistic regression (least squares for scores) on the counts of words, apart for the first and the second sentence,
/// and of words that both have.
fn bag_of_words(task: &Task) -> f64 {
    let known = words();
    let features = |example: &Example| -> Vec<usize> {
        let bag = |text: &str| -> Vec<usize> {
            let text = text.replace(',', " ,").replace('.', " .");
            text.split(' ').map(|word| known.binary_search(&word).unwrap()).collect()
        };
        let first = bag(&example.first);
        let second = example.second.as_deref().map(bag).unwrap_or_default();
        let both: Vec<usize> = second.iter().filter(|word| first.contains(word)).map(|word| word + 2 * known.len()).collect();
        [first, second.iter().map(|word| word + known.len()).collect(), both, vec![3 * known.len()]].concat()
    };
    let classes = matches!(task.kind, Kind::Classification { .. });
    let mut weights = vec![0.0; 3 * known.len() + 1];
    let output = |weights: &[f64], x: &[usize]| {
        let sum: f64 = x.iter().map(|&at| weights[at]).sum();
        if classes { 1.0 / (1.0 + (-sum).exp()) } else { sum }
    };
    let train: Vec<(Vec<usize>, f64)> =
        task.train.iter().map(|example| (features(example), index(example.label) as f64)).collect();
    for epoch in 0..30 {
        for (x, y) in &train {
            let step = 0.02 / (1.0 + f64::from(epoch) / 10.0) * (y - output(&weights, x));
            x.iter().for_each(|&at| weights[at] += step);
        }
    }
    let rows: Vec<Vec<f32>> = task
        .dev
        .iter()
        .map(|example| {
            let out = output(&weights, &features(example)) as f32;
            if classes { vec![1.0 - out, out] } else { vec![out] }
        })
        .collect();
    task.main_score(&task.score(&rows))
}

#[test]
fn counting_words_does_not_solve_a_task() {
    for task in all() {
        let score = bag_of_words(&task);
        println!("{} {score:.3}", task.name);
        let most = match task.name.as_str() {
            "pocket-acceptability" => 0.15,
            "pocket-sentiment" => 0.8,
            "pocket-similarity" => 0.6,
            _ => 0.65,
        };
        assert!(score < most, "{}: {score}", task.name);
    }
}

#[test]
fn mistakes_are_said() {
    let said = |name: &str, train: usize| draw_pocket_task(name, 0, Sizes { train, dev: 1 }).unwrap_err().to_string();
    insta::assert_snapshot!(said("pocket-sentimnt", 1), @r#"
    there is no pocket task "pocket-sentimnt"
    help: the pocket tasks are pocket-acceptability, pocket-sentiment, pocket-paraphrase, pocket-entailment, pocket-similarity
    "#);
    insta::assert_snapshot!(said("pocket-sentiment", usize::MAX), @"
    pocket-sentiment has at most 20000 examples, train and dev together
    help: ask for fewer
    ");
}

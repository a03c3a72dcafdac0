use std::collections::{BTreeMap, HashSet};

use super::*;
use crate::text::pocket::words;

fn all() -> Vec<Task> {
    pocket_names().into_iter().map(|name| draw_pocket_task(name, 3, PocketSizes::default()).unwrap()).collect()
}

fn text(example: &Example) -> String {
    match &example.second {
        Some(second) => format!("{} | {second}", example.first),
        None => example.first.clone(),
    }
}

fn index(label: Label) -> usize {
    label.value() as usize
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
      1 all trucks beside all hungry dogs that emma has thanked were arriving.
      1 many barns are burning early.
      1 the empty train that has hit every sharp hammer above all trams was empty.
      0 these gales that every mild gale have shaken were distant.
      1 the heavy drill that many trucks that the boat has blocked have blocked was shining again.
      0 this house that has faced all proud farmers behind the hot pie are grand.
    pocket-sentiment
      1 oscar was pleased because the film was very great.
      1 leo was not sad because the film was not awful.
      1 the game was lovely and the game was good.
      0 the party was very great but the trip was awful.
      0 david was sad because the game was very boring.
      1 paul was pleased because the film was very lovely.
    pocket-paraphrase
      1 this tower that the barn has faced was closing. | the barn has faced this tower, and this tower was closing.
      0 this rake has scraped this saw, and this rake is rusting. | this rake that this saw has scraped is rusting.
      1 the shops are protected by the narrow bridges. | the narrow bridges have protected the shops.
      0 near the showers, the storms were lifting. | the showers near the storms were lifting.
      1 the trains have hit these vans. | these vans are hit by the trains.
      1 this salad that this pie has sweetened was cooling. | this pie has sweetened this salad, and this salad was cooling.
    pocket-entailment
      1 ben gave the key to david, david gave the key to emma, emma gave the key to anna. | anna has the key.
      1 the heavy hammer that this axe has dented was rusting. | this axe has dented the heavy hammer.
      0 these winds that the floods have chilled are fading. | these winds have chilled the floods.
      0 ben gave the letter to henry, henry gave the letter to ben, ben gave the letter to grace. | henry has the letter.
      0 david has thanked this tower. | the mother of david has thanked this tower.
      0 the late car that the spade has scraped was arriving. | the late car has scraped the spade.
    pocket-similarity
      4 the cat behind all tulips was jumping. | the cat near this hammer is biting.
      0 the pie above this bridge was cooling again. | the trucks beside the pie are leaving.
      2 the roses above each saw are wilting. | the tree above the roses was blooming.
      0 the drills beside these spades were shining again. | the rabbit is jumping quietly.
      4 the boats were stopping often. | the boats behind the noisy truck were arriving early.
      0 the cars beside many salads were turning. | the storm above many cars was roaring.
    ");
}

#[test]
fn a_task_is_a_function_of_its_name_and_seed() {
    for name in pocket_names() {
        let sizes = PocketSizes { train: 40, dev: 10 };
        assert_eq!(draw_pocket_task(name, 1, sizes).unwrap(), draw_pocket_task(name, 1, sizes).unwrap());
        assert_ne!(draw_pocket_task(name, 1, sizes).unwrap().train, draw_pocket_task(name, 2, sizes).unwrap().train);
    }
}

#[test]
fn answers_are_equally_common() {
    for task in all() {
        for split in [&task.train, &task.dev[0].examples] {
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
        assert!(task.dev[0].examples.iter().all(|example| !train.contains(example.first.as_str())), "{}", task.name);
        assert_eq!(task.pair, task.dev[0].examples[0].second.is_some());
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

/// A logistic regression (least squares for scores) on the counts of words, apart for the first and the second
/// sentence, and of words that both have.
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
    let rows: Vec<Vec<f32>> = task.dev[0]
        .examples
        .iter()
        .map(|example| {
            let out = output(&weights, &features(example)) as f32;
            if classes { vec![1.0 - out, out] } else { vec![out] }
        })
        .collect();
    task.main_score(&task.score(&[rows]))
}

#[test]
fn counting_words_does_not_solve_a_task() {
    for task in all() {
        let score = bag_of_words(&task);
        println!("{} {score:.3}", task.name);
        let most = match task.name.as_str() {
            "pocket-acceptability" => 0.15,
            "pocket-sentiment" => 0.8,
            // Words that both have do tell something, as in STS-B.
            "pocket-similarity" => 0.75,
            _ => 0.65,
        };
        assert!(score < most, "{}: {score}", task.name);
    }
}

#[test]
fn mistakes_are_said() {
    let said = |name: &str, train: usize| draw_pocket_task(name, 0, PocketSizes { train, dev: 1 }).unwrap_err().to_string();
    insta::assert_snapshot!(said("pocket-sentimnt", 1), @r#"
    there is no pocket task "pocket-sentimnt"
    help: the pocket tasks are pocket-acceptability, pocket-sentiment, pocket-paraphrase, pocket-entailment, pocket-similarity
    "#);
    insta::assert_snapshot!(said("pocket-sentiment", usize::MAX), @"
    pocket-sentiment has at most 20000 examples, train and dev together
    help: ask for fewer
    ");
}

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// Values at some steps of a run, against numbers worked out by hand.
fn values(text: &str, total: u64, expected: &[(u64, f64)]) {
    for &(step, value) in expected {
        let got = schedule(text).at(step, total);
        assert!((got - value).abs() <= 1e-12 * value.abs().max(1.0), "{text} at {step} of {total}: {got}, not {value}");
    }
}

#[test]
fn every_shape_gives_the_values_worked_out_by_hand() {
    values("2.0", 10, &[(0, 2.0), (9, 2.0), (99, 2.0)]);
    values("4 -> 1 linear", 100, &[(0, 4.0), (50, 2.5), (99, 1.03), (100, 1.0), (1000, 1.0)]);
    values("4 -> 1 cosine over 60%", 100, &[(0, 4.0), (20, 3.25), (30, 2.5), (40, 1.75), (60, 1.0), (99, 1.0)]);
    values("1 -> 0.01 exponential", 100, &[(0, 1.0), (25, 0.1f64.sqrt()), (50, 0.1), (75, 0.1f64.powf(1.5))]);
    values("4 until 50%, then 1", 10, &[(0, 4.0), (4, 4.0), (5, 1.0), (9, 1.0)]);
    values(
        "1 over 2 steps, then 3 -> 5 over 4 steps, then -> 1 until 8 steps",
        20,
        &[(1, 1.0), (2, 3.0), (4, 4.0), (6, 5.0), (7, 3.0), (8, 1.0), (19, 1.0)],
    );
}

/// The lambda of `transformers.get_linear_schedule_with_warmup(optimizer, warmup, total)`, times the peak rate.
fn hugging_face(step: u64, warmup: u64, total: u64) -> f64 {
    let share = if step < warmup {
        step as f64 / warmup.max(1) as f64
    } else {
        (total.saturating_sub(step)) as f64 / (total - warmup).max(1) as f64
    };
    5e-4 * share
}

#[test]
fn warm_up_and_decay_are_those_of_hugging_face() {
    let lr = schedule("0 -> 5e-4 over 5%, then -> 0 linear");
    // 5 warm-up steps of 100: the rates of updates 0, 1, 5, 6 and 99, by hand.
    values(
        "0 -> 5e-4 over 5%, then -> 0 linear",
        100,
        &[(0, 0.0), (1, 1e-4), (5, 5e-4), (6, 5e-4 * 94.0 / 95.0), (99, 5e-4 / 95.0)],
    );
    for total in [1, 2, 7, 20, 99, 1000] {
        let warmup = (total as f64 * 0.05).ceil() as u64;
        for step in 0..total {
            let (got, expected) = (lr.at(step, total), hugging_face(step, warmup, total));
            assert!((got - expected).abs() < 1e-16, "{step} of {total}: {got}, not {expected}");
        }
    }
}

#[test]
fn shares_that_make_the_whole_run_end_with_it() {
    for total in 1..200 {
        schedule("1 over 33.3%, then 2 over 33.3%, then 3 over 33.4%").fits(total).unwrap();
        schedule("1 over 50%, then 2 over 50%").fits(total).unwrap();
    }
}

#[test]
fn bounds_and_constants() {
    assert_eq!(schedule("0 -> 5e-4 over 5%, then -> -1").bounds(), (-1.0, 5e-4));
    assert_eq!(schedule("3 until 5%, then 3").as_constant(), Some(3.0));
    assert_eq!(schedule("3 -> 4").as_constant(), None);
}

#[test]
fn canonical_text() {
    for (written, canonical) in [
        ("2.0", "2"),
        ("4->1", "4 -> 1 linear"),
        ("0 -> 0.0005 over 5 %, then -> 0", "0 -> 5e-4 linear over 5%, then -> 0 linear"),
        ("4 until 50%, then 1", "4 until 50%, then 1"),
        ("1 over 1 steps , then -2 -> -1e-9 exponential", "1 over 1 step, then -2 -> -1e-9 exponential"),
    ] {
        assert_eq!(schedule(written).to_string(), canonical);
    }
}

#[test]
fn errors_name_the_column_and_show_examples() {
    let error = |text: &str| text.parse::<Schedule>().unwrap_err();
    assert_snapshot!(error("4 -> 1 linar"), @r#"
    expected linear, cosine, exponential, `over` or `until`, found `linar` (column 8 of "4 -> 1 linar")
    help: examples: 2.0, "4 -> 1 linear", "1 -> 0.1 cosine over 60%", "4 until 50%, then 1", "0 -> 5e-4 over 200 steps, then -> 0 linear"
    "#);
    let what = |text: &str| error(text).what().to_owned();
    assert_snapshot!(what(""), @r#"expected a number, found the end (column 1 of "")"#);
    assert_snapshot!(what("fast"), @r#"expected a number, found `fast` (column 1 of "fast")"#);
    assert_snapshot!(what("1 ->"), @r#"expected a number after `->`, found the end (column 5 of "1 ->")"#);
    assert_snapshot!(what("-> 3"), @r#"the first piece has no value to start from (column 1 of "-> 3")"#);
    assert_snapshot!(what("1 -> inf"), @r#"expected a number after `->`, found `inf` (column 6 of "1 -> inf")"#);
    assert_snapshot!(what("1 -> 0 exponential"), @r#"an exponential can't go from 1 to 0: both must have one sign and not be 0 (column 1 of "1 -> 0 exponential")"#);
    assert_snapshot!(what("1 over 5"), @r#"expected `%` or `steps`, found the end (column 9 of "1 over 5")"#);
    assert_snapshot!(what("1 over 120%"), @r#"120% is not between 0% and 100% of the run (column 8 of "1 over 120%")"#);
    assert_snapshot!(what("1 over 2.5 steps"), @r#"2.5 is not a whole number of steps (column 8 of "1 over 2.5 steps")"#);
    assert_snapshot!(what("1 over long"), @r#"expected a length such as `5%` or `200 steps`, found `long` (column 8 of "1 over long")"#);
    assert_snapshot!(what("1, then 2"), @r#"only the last piece may go without `over` or `until` (column 2 of "1, then 2")"#);
    assert_snapshot!(what("1 over 5%, 2"), @r#"expected `then`, found `2` (column 12 of "1 over 5%, 2")"#);
    assert_snapshot!(what("1 2"), @r#"expected `, then` or the end, found `2` (column 3 of "1 2")"#);
    assert_snapshot!(what("é"), @r#"expected a number, found `é` (column 1 of "é")"#);
}

#[test]
fn a_piece_must_fit_the_run() {
    let error = |text: &str, total| schedule(text).fits(total).unwrap_err().what().to_owned();
    assert_snapshot!(error("0 -> 1 over 200 steps, then -> 0", 100), @"`0 -> 1 linear over 200 steps` ends at step 200, but the run has 100 steps");
    assert_snapshot!(error("1 until 50%, then 2 until 10 steps", 100), @"`2 until 10 steps` ends before it begins, which is at step 50 of 100");
    schedule("0 -> 1 over 100 steps, then -> 0").fits(100).unwrap();
}

#[test]
fn serde_writes_numbers_and_text_and_reads_both() {
    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    struct Two {
        a: Schedule,
        b: Schedule,
    }
    let two: Two = toml::from_str("a = 2\nb = '4->1'").unwrap();
    let text = toml::to_string(&two).unwrap();
    assert_eq!(text, "a = 2.0\nb = \"4 -> 1 linear\"\n");
    assert_eq!(toml::from_str::<Two>(&text).unwrap(), two);
    assert!(toml::from_str::<Two>("a = nan\nb = 1").is_err());
    assert!(toml::from_str::<Two>("a = true\nb = 1").unwrap_err().to_string().contains("a number or a schedule"));
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(0.0),
        Just(5e-4),
        -10.0..10.0f64,
        (1i64..100_000).prop_map(|n| n as f64),
        any::<f64>().prop_filter("finite", |v| v.is_finite())
    ]
}

fn any_span() -> impl Strategy<Value = Span> {
    prop_oneof![(0.0..=100.0f64).prop_map(Span::Percent), (0u64..1 << 53).prop_map(Span::Steps)]
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let shape = prop_oneof![Just(Shape::Hold), Just(Shape::Linear), Just(Shape::Cosine), Just(Shape::Exponential)];
    let end = prop_oneof![any_span().prop_map(End::Over), any_span().prop_map(End::Until)];
    let piece = (proptest::option::of(any_value()), any_value(), shape, end);
    (proptest::collection::vec(piece, 1..5), any::<bool>()).prop_map(|(parts, rest)| {
        let mut pieces: Vec<Piece> = Vec::new();
        for (from, to, shape, end) in parts {
            let from = from.or(pieces.last().map(|piece| piece.to)).unwrap_or(1.0);
            let shape = if shape == Shape::Exponential && from * to <= 0.0 { Shape::Linear } else { shape };
            pieces.push(Piece { from: if shape == Shape::Hold { to } else { from }, to, shape, end });
        }
        if let (true, Some(last)) = (rest, pieces.last_mut()) {
            last.end = End::Rest;
        }
        Schedule { pieces }
    })
}

proptest! {
    #[test]
    fn reading_what_was_printed_gives_it_back(schedule in any_schedule()) {
        prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "\\PC*") {
        let _ = text.parse::<Schedule>();
    }

    #[test]
    fn values_stay_within_the_bounds(schedule in any_schedule(), total in 1u64..1000, step in 0u64..1000) {
        let (min, max) = schedule.bounds();
        let slack = 1e-9 * max.abs().max(min.abs());
        let value = schedule.at(step, total);
        prop_assert!(min - slack <= value && value <= max + slack, "{} outside {}..{}", value, min, max);
    }
}

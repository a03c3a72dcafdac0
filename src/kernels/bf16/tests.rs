use super::super::dwt_loss::spread;
use super::*;

/// What a product of bf16 factors is: the sum, in f32, of products of rounded factors; numbers below 2^-126 may count
/// as 0.
fn defined(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> (Vec<f32>, Vec<f32>) {
    let (mut sums, mut sizes) = (vec![0.0; m * n], vec![0.0; m * n]);
    for (row, column, inner) in
        (0..m).flat_map(|row| (0..n).flat_map(move |column| (0..k).map(move |inner| (row, column, inner))))
    {
        let term = plain::round(a[row * k + inner]) * plain::round(b[inner * n + column]);
        sums[row * n + column] += term;
        sizes[row * n + column] += term.abs();
    }
    (sums, sizes)
}

/// All that this processor has.
fn units() -> Vec<Unit> {
    match Unit::here() {
        Unit::Amx => vec![Unit::Amx, Unit::Avx512, Unit::Rounded],
        Unit::Avx512 => vec![Unit::Avx512, Unit::Rounded],
        Unit::Neon => vec![Unit::Neon, Unit::Rounded],
        Unit::Rounded => vec![Unit::Rounded],
    }
}

fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    let rows = x.len() / columns.max(1);
    (0..columns).flat_map(|column| (0..rows).map(move |row| x[row * columns + column])).collect()
}

#[test]
fn two_factors_of_one_reading_are_those_of_two() {
    for [rows, columns] in [[1, 1], [3, 70], [32, 32], [33, 31], [64, 2100], [0, 5], [17, 16]] {
        let (x, times) = (spread(rows * columns, 1), spread(rows * columns, 2));
        let product: Vec<f32> = x.iter().zip(&times).map(|(x, times)| x * times).collect();
        let (right, turned) = (spread(columns * 3, 3), spread(rows * 3, 4));
        for unit in units() {
            let right = Factor::by(unit, Matrix::new(&right, 3), Side::Right);
            let turned = Matrix { data: &turned, rows, columns: 3, row_stride: 3, column_stride: 1 };
            for (times, x_times) in [(None, &x), (Some(&times[..]), &product)] {
                let matrix = Matrix { data: x_times, rows, columns, row_stride: columns, column_stride: 1 };
                let ([left, second], sums) = Factor::two_by(unit, &x, times, columns, Second::Turned);
                assert_eq!(multiply(&left, &right), multiply(&Factor::by(unit, matrix, Side::Left), &right));
                let by = Factor::by(unit, turned, Side::Right);
                assert_eq!(multiply(&second, &by), multiply(&Factor::by(unit, matrix.transposed(), Side::Left), &by));
                let ([_, second], _) = Factor::two_by(unit, &x, times, columns, Second::Right);
                let by = Factor::by(unit, turned.transposed(), Side::Left);
                assert_eq!(multiply(&by, &second), multiply(&by, &Factor::by(unit, matrix, Side::Right)));
                for (column, sum) in sums.iter().enumerate() {
                    let wanted: f64 = (0..rows).map(|row| f64::from(x_times[row * columns + column])).sum();
                    // Sums of up to 64 numbers below 9.
                    assert!((f64::from(*sum) - wanted).abs() < 1e-4, "{sum} and {wanted}");
                }
            }
        }
    }
}

/// Holds a product to its definition: by every unit, and from either layout of each factor.
fn hold(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) {
    let (wanted, sizes) = defined(a, b, [m, k, n]);
    let (a_turned, b_turned) = (transposed(a, k), transposed(b, n));
    let of = |data, rows, columns| Matrix { data, rows, columns, row_stride: columns, column_stride: 1 };
    let lefts = [of(a, m, k), of(&a_turned, k, m).transposed()];
    let rights = [of(b, k, n), of(&b_turned, n, k).transposed()];
    for unit in units() {
        for (left, right) in lefts.iter().flat_map(|left| rights.iter().map(move |right| (left, right))) {
            let (left, right) = (Factor::by(unit, *left, Side::Left), Factor::by(unit, *right, Side::Right));
            let mut twice = multiply(&left, &right);
            let [found, places] = finished(&left, &right, |row, column, [sums, places]| {
                places.iter_mut().enumerate().for_each(|(at, place)| *place = (row * n + column + at) as f32);
                sums.iter_mut().for_each(|sum| *sum += 1.0);
            });
            assert!(places.iter().enumerate().all(|(at, place)| *place == at as f32), "each place once");
            add_product(&mut twice, &left, &right);
            for at in 0..m * n {
                // Terms are exact in f32; a sum of k of them is off by 2^-24 of their sizes for each addition.
                let allowed = sizes[at] * (k as f32 + 2.0) * f32::EPSILON / 2.0 + k as f32 * f32::MIN_POSITIVE;
                for (found, wanted, allowed) in [
                    (found[at], wanted[at] + 1.0, allowed + f32::EPSILON * (1.0 + wanted[at].abs())),
                    (twice[at], 2.0 * wanted[at], 2.0 * allowed),
                ] {
                    let is_same = found == wanted || found.is_nan() && wanted.is_nan() || (found - wanted).abs() <= allowed;
                    assert!(is_same, "{unit:?}, {m} x {k} x {n}, at {at}: {found} and {wanted}");
                }
            }
        }
    }
}

#[test]
fn products_of_all_sizes_are_what_they_are_defined_as() {
    // One of each, none of each, a tile's, a block's and a large block's sizes, and one more or less.
    for [m, k, n] in [
        [1, 1, 1],
        [0, 3, 2],
        [3, 0, 2],
        [3, 2, 0],
        [16, 32, 16],
        [17, 33, 15],
        [31, 31, 33],
        [5, 64, 32],
        [130, 7, 65],
        [33, 513, 34],
        [257, 40, 300],
        [2, 1100, 3],
    ] {
        hold(&spread(m * k, 1), &spread(k * n, 2), [m, k, n]);
    }
}

#[test]
fn what_is_no_ordinary_number_is_multiplied_as_such() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        f32::NAN,
        -f32::NAN,
        f32::from_bits(0x7f80_0001), // a NaN whose bits are all in the half that is cut off
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,       // rounds to infinity
        3.389_531_4e38, // bf16's largest
        f32::MIN_POSITIVE,
        1e-40,
        1.0 + 1.0 / 256.0, // a tie, to the even one below
        1.0 + 3.0 / 256.0, // a tie, to the even one above
        1e-30,
    ];
    let ones = [1.0; 16];
    hold(&special, &ones, [16, 1, 16]);
    hold(&ones, &special, [16, 1, 16]);
    for (at, value) in special.into_iter().enumerate() {
        // Among ordinary numbers of a longer sum: every row and column without it stays ordinary.
        let (mut a, b) = (spread(20 * 37, 5), spread(37 * 18, 6));
        a[at * 41] = value;
        hold(&a, &b, [20, 37, 18]);
        hold(&transposed(&b, 18), &transposed(&a, 37), [18, 37, 20]);
    }
}

#[test]
fn a_number_is_rounded_to_the_nearest_and_ties_to_even() {
    for x in spread(10_000, 3).into_iter().chain([0.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, 3.4e38, f32::INFINITY, -1e-30]) {
        let wanted = burn::tensor::bf16::from_f32(x).to_f32();
        assert_eq!(plain::round(x).to_bits(), wanted.to_bits(), "{x}");
    }
    assert!(plain::round(f32::from_bits(0x7f80_0001)).is_nan());
}

/// Each of AVX-512's ways into tiles writes what plain Rust writes.
#[cfg(target_arch = "x86_64")]
#[test]
fn tiles_are_those_of_plain_rust() {
    use super::block::{TILE, WIDE};
    #[repr(align(64))]
    struct Tiles([u16; 3 * TILE]);
    if !avx512::is_there() {
        eprintln!("SKIPPED: this processor has no AVX512-BF16");
        return;
    }
    let (x, factors) = (spread(40 * 32, 1), spread(40 * 32, 2));
    for [rows, columns] in [[32, 32], [16, 16], [1, 1], [31, 17], [7, 32], [32, 3], [16, 31]] {
        for case in 0..7 {
            macro_rules! written_by {
                ($by:ident) => {{
                    let (mut tiles, mut sums) = (Box::new(Tiles([7; 3 * TILE])), [0.0; WIDE]);
                    let to = [0, 1, 2].map(|at| tiles.0[at * TILE..].as_mut_ptr());
                    let (x, factors) = (x.as_ptr(), (case % 2 == 0).then_some(factors.as_ptr()));
                    // SAFETY: 32 rows of 32 columns can be read, 40 apart; three tiles and a row of sums be written.
                    unsafe {
                        match case {
                            0 => $by::rows(x, 40, [rows.min(16), columns], to[0]),
                            1 => $by::pairs(x, 40, [rows, columns.min(16)], to[0]),
                            2 => {
                                $by::rows(x, 40, [rows.min(16), columns], to[0]);
                                $by::transpose(to[0]);
                            }
                            _ => {
                                $by::square(x, factors, 40, [rows, columns], [to[0], to[1]], sums.as_mut_ptr());
                                $by::turn([to[0], to[1]], case / 2 % 2, case < 5, to[2]);
                            }
                        }
                    }
                    (tiles.0, sums)
                }};
            }
            assert!(written_by!(avx512) == written_by!(lay_out), "case {case}, {rows} x {columns}");
        }
    }
}

/// Billions of operations a second of products that three models have, the fastest of many: f32 beside every unit.
#[test]
#[ignore = "prints times: cargo test --release --lib products_are_timed -- --ignored --nocapture"]
fn products_are_timed() {
    use super::super::matrix;
    for (of, [m, k, n]) in [
        ("2 x 128, up", [2048, 128, 512]),
        ("4 x 256, up", [2048, 256, 1024]),
        ("6 x 384, up", [2048, 384, 1536]),
        ("2 x 128, down", [2048, 512, 128]),
        ("4 x 256, down", [2048, 1024, 256]),
        ("6 x 384, down", [2048, 1536, 384]),
        ("4 x 256, of weights", [256, 2048, 1024]),
        ("2 x 128, head", [320, 128, 30522]),
        ("4 x 256, head", [320, 256, 30522]),
        ("6 x 384, head", [320, 384, 30522]),
        ("4 x 256, head back", [320, 30522, 256]),
        ("4 x 256, words back", [30522, 320, 256]),
    ] {
        let (a, b) = (spread(m * k, 1), spread(k * n, 2));
        let (left, right) = (Matrix::new(&a, k), Matrix::new(&b, n));
        let fastest = |work: &dyn Fn() -> f32| {
            let second = |_| {
                let started = std::time::Instant::now();
                std::hint::black_box(work());
                started.elapsed().as_secs_f64()
            };
            (0..30).map(second).fold(f64::INFINITY, f64::min)
        };
        let speed = |seconds: f64| 2e-9 * (m * k * n) as f64 / seconds;
        let mut line =
            format!("{of:<20} {m:>5} x {k:>5} x {n:>5}  f32 {:>5.0}", speed(fastest(&|| matrix::multiply(left, right)[0])));
        for unit in units() {
            let all = fastest(&|| multiply(&Factor::by(unit, left, Side::Left), &Factor::by(unit, right, Side::Right))[0]);
            let (left, right) = (Factor::by(unit, left, Side::Left), Factor::by(unit, right, Side::Right));
            let product = fastest(&|| multiply(&left, &right)[0]);
            line += &format!("   {unit:?} {:>5.0}, packed {:>5.0}", speed(all), speed(product));
        }
        eprintln!("{line}");
    }
}

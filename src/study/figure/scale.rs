//! From values to pixels, and the round numbers in between.

/// A linear or logarithmic map of values to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    from_px: f64,
    to_px: f64,
    log: bool,
}

impl Scale {
    /// A scale over `values` (at least a little wide). A logarithmic one leaves out what is not above 0.
    pub fn over(values: impl Iterator<Item = f64>, log: bool, px: (f64, f64)) -> Self {
        let usable = values.filter(|v| v.is_finite() && (!log || *v > 0.0));
        let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = match (low <= high, log) {
            (false, _) => (1.0, 2.0),
            (true, true) => (low / 1.05, high * 1.05),
            (true, false) if high - low <= 1e-12 * high.abs() => {
                (low - low.abs().max(1.0) * 0.1, high + high.abs().max(1.0) * 0.1)
            }
            (true, false) => (low, high),
        };
        Self { low, high, from_px: px.0, to_px: px.1, log }
    }

    /// This scale with room at both ends, but not across zero: what can't be negative shows no negative axis.
    pub fn with_room(mut self) -> Self {
        if !self.log {
            let room = (self.high - self.low) * 0.06;
            let (low, high) = (self.low - room, self.high + room);
            self.low = if self.low >= 0.0 { low.max(0.0) } else { low };
            self.high = high;
        }
        self
    }

    pub fn px(&self, value: f64) -> f64 {
        let share = if self.log {
            (value.max(1e-300).ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from_px + share * (self.to_px - self.from_px)
    }

    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// About `wanted` round values inside the scale.
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        if !self.log {
            return linear_ticks(self.low, self.high, wanted);
        }
        let decades = |steps: &[f64]| -> Vec<f64> {
            let exponents = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            exponents.flat_map(|e| steps.iter().map(move |s| s * 10_f64.powi(e))).filter(|v| self.holds(*v)).collect()
        };
        let choices = [&[1.0][..], &[1.0, 3.0], &[1.0, 2.0, 5.0]];
        choices
            .iter()
            .map(|steps| decades(steps))
            .find(|ticks| ticks.len() >= 3)
            .unwrap_or_else(|| linear_ticks(self.low, self.high, wanted))
    }
}

fn linear_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let rough = (high - low) / wanted.max(1) as f64;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|s| s * magnitude).into_iter().find(|s| *s >= rough * 0.999).unwrap_or(rough);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Labels of ticks, all to the same number of decimals.
pub(super) fn labels(ticks: &[f64]) -> Vec<String> {
    let step = ticks.windows(2).map(|w| (w[1] - w[0]).abs()).fold(f64::INFINITY, f64::min);
    let largest = ticks.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let ratio = ticks.windows(2).map(|w| w[1] / w[0]).fold(f64::INFINITY, f64::min);
    let logarithmic = ratio > 1.9 && ticks.first().is_some_and(|t| *t > 0.0) && ticks.len() > 2 && largest / ticks[0] > 15.0;
    if logarithmic || largest >= 1e5 || (largest > 0.0 && largest < 1e-2) {
        return ticks.iter().map(|tick| number(*tick)).collect();
    }
    let decimals = (0..6).find(|d| ticks.iter().all(|t| is_round(*t, *d, step))).unwrap_or(6);
    ticks.iter().map(|tick| grouped(&format!("{tick:.decimals$}"))).collect()
}

fn is_round(value: f64, decimals: usize, step: f64) -> bool {
    let shown: f64 = format!("{value:.decimals$}").parse().unwrap_or(value);
    (shown - value).abs() < step.min(1e12) * 1e-3
}

/// A number as people write it: four significant digits at most, thousands apart, powers of ten for the very small and
/// large.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".into();
    }
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-2..1e6).contains(&size) {
        let exponent = size.log10().floor() as i32;
        // Rounding may reach the next power: 9.996e5 is 1 × 10⁶.
        let mantissa = trimmed(&format!("{:.2}", value / 10_f64.powi(exponent)));
        let power: String = exponent.to_string().chars().map(superscript).collect();
        return match mantissa.as_str() {
            "1" => format!("10{power}"),
            m => format!("{m}\u{2009}×\u{2009}10{power}"),
        };
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 4) as usize;
    grouped(&trimmed(&format!("{value:.decimals$}")))
}

fn trimmed(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text.into() }
}

fn superscript(c: char) -> char {
    match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4'..='9' => char::from_u32('⁴' as u32 + c as u32 - '4' as u32).unwrap_or(c),
        _ => '⁰',
    }
}

/// A true minus sign, and thin spaces between thousands from 10 000 on.
fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("−", rest));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (i, c) in whole.chars().enumerate() {
        if whole.len() > 4 && i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push('\u{2009}');
        }
        out.push(c);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(low: f64, high: f64, log: bool) -> String {
        labels(&Scale::over([low, high].into_iter(), log, (0.0, 100.0)).ticks(5)).join(" ").replace('\u{2009}', "_")
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let linear = [(0.0, 1000.0), (0.0, 30_000.0), (3.871, 3.952), (-1.0, 4.0), (0.0, 5e-4), (4.0, 4.0)];
        let all = linear
            .map(|(low, high)| ticks(low, high, false))
            .into_iter()
            .chain([ticks(0.03, 900.0, true), ticks(1.1, 6.0, true)]);
        insta::assert_snapshot!(all.collect::<Vec<_>>().join("\n"), @r"
        0 200 400 600 800 1000
        0 10_000 20_000 30_000
        3.88 3.90 3.92 3.94
        −1 0 1 2 3 4
        0 10⁻⁴ 2_×_10⁻⁴ 3_×_10⁻⁴ 4_×_10⁻⁴ 5_×_10⁻⁴
        3.6 3.8 4.0 4.2 4.4
        0.1 1 10 100
        2 4 6
        ");
    }

    #[test]
    fn numbers_read_well() {
        let shown =
            [0.0, 1.0, 3.91234, -0.0432, 12_345.6, 5e-4, 1.5e7, f64::NAN, 0.5].map(number).join(" | ").replace('\u{2009}', "_");
        insta::assert_snapshot!(shown, @"0 | 1 | 3.912 | −0.0432 | 12_346 | 5_×_10⁻⁴ | 1.5_×_10⁷ | – | 0.5");
    }

    #[test]
    fn a_scale_is_exact_at_its_ends() {
        let linear = Scale::over([2.0, 4.0].into_iter(), false, (10.0, 20.0));
        assert_eq!([2.0, 3.0, 4.0].map(|v| linear.px(v)), [10.0, 15.0, 20.0]);
        assert!(linear.with_room().px(2.0) > 10.0 && linear.with_room().holds(4.1));
        assert_eq!(Scale::over([0.0, 4.0].into_iter(), false, (0.0, 1.0)).with_room().px(0.0), 0.0);
    }

    #[test]
    fn a_scale_over_nothing_still_works() {
        for log in [false, true] {
            let scale = Scale::over(std::iter::empty(), log, (0.0, 1.0));
            assert!(scale.px(1.5).is_finite() && !scale.ticks(5).is_empty());
        }
    }
}

//! What an ideal reader knows: the exact probability of each word behind a mask, by the inside-outside algorithm
//! (Baker 1979; Lari & Young 1990) over every way in which the grammar makes a sentence of that length.

use super::grammar::{Expansion, Grammar, Symbol, bits};

/// The masking of BERT: of the words chosen to be predicted, how many are hidden, replaced or kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Channel {
    /// The share of words chosen.
    pub rate: f64,
    /// Of those, the share shown as `[MASK]`.
    pub hidden: f64,
    /// Of those, the share replaced by a word drawn uniformly from the language's words; the rest is kept.
    pub replaced: f64,
}

impl Default for Channel {
    /// 15 % chosen, of which 80 % hidden, 10 % replaced and 10 % kept.
    fn default() -> Self {
        Channel { rate: 0.15, hidden: 0.8, replaced: 0.1 }
    }
}

impl Channel {
    /// The probability of seeing a word as it is, and that of seeing one given other word, when the word was chosen.
    fn chosen(&self, words: usize) -> (f64, f64) {
        let other = self.replaced / words as f64;
        (1.0 - self.hidden - self.replaced + other, other)
    }

    /// The probability of seeing a word as it is, and that of seeing one given other word, when nobody says whether it
    /// was chosen.
    fn unknown(&self, words: usize) -> (f64, f64) {
        let (same, other) = self.chosen(words);
        (1.0 - self.rate + self.rate * same, self.rate * other)
    }

    /// The probability that `truth` was at a place that was chosen and shows `seen`, given what the other places say of
    /// it.
    pub fn behind(&self, context: &[f64], truth: u16, seen: Seen) -> f64 {
        let of_truth = context[usize::from(truth)];
        let Some(seen) = seen else { return of_truth };
        let (same, other) = self.chosen(context.len());
        let weight = if seen == truth { same } else { other };
        weight * of_truth / (other + (same - other) * context[usize::from(seen)])
    }

    /// What an ideal reader loses in nats on a place that is chosen, on average over what may be shown there.
    pub fn loss(&self, context: &[f64], truth: u16) -> f64 {
        let words = context.len();
        let lost = |seen| -self.behind(context, truth, seen).ln();
        let replaced: f64 = (0..words as u16).map(|word| lost(Some(word))).sum::<f64>() / words as f64;
        self.hidden * lost(None) + self.replaced * replaced + (1.0 - self.hidden - self.replaced) * lost(Some(truth))
    }
}

/// What is seen at one place of a corrupted sentence: a word, or `None` for `[MASK]`.
pub type Seen = Option<u16>;

/// A rule with at most two symbols on the right.
struct Rule {
    from: usize,
    left: usize,
    right: Option<usize>,
    p: f64,
}

/// The exact reader of one grammar.
pub struct Reader<'g> {
    grammar: &'g Grammar,
    start: Symbol,
    /// Word classes: symbol and its words.
    classes: Vec<(usize, &'g [(u16, f64)])>,
    /// Every rule in two symbols at most; a rule stands after the rules of its parts.
    rules: Vec<Rule>,
    /// Lengths by symbol, for the grammar's symbols and then those made by splitting long rules.
    lengths: Vec<u64>,
}

impl<'g> Reader<'g> {
    /// A reader of sentences that come from `start`.
    pub fn new(grammar: &'g Grammar, start: Symbol) -> Self {
        let mut reader = Reader {
            grammar,
            start,
            classes: Vec::new(),
            rules: Vec::new(),
            lengths: grammar.symbols().iter().map(|entry| entry.lengths).collect(),
        };
        let mut reached = vec![false; grammar.symbols().len()];
        reached[start] = true;
        for (symbol, entry) in grammar.symbols().iter().enumerate().rev() {
            if let (true, Expansion::Rules(rules)) = (reached[symbol], &entry.expansion) {
                rules.iter().flat_map(|(_, body)| body).for_each(|&part| reached[part] = true);
            }
        }
        for (symbol, entry) in grammar.symbols().iter().enumerate().filter(|&(symbol, _)| reached[symbol]) {
            match &entry.expansion {
                Expansion::Words(class) => reader.classes.push((symbol, class)),
                Expansion::Rules(rules) => rules.iter().for_each(|(p, body)| reader.split(symbol, *p, body)),
            }
        }
        reader
    }

    /// Adds `from -> body`, with a symbol of its own for each rest of the body that is longer than one.
    fn split(&mut self, from: usize, p: f64, body: &[Symbol]) {
        let right = match body.len() {
            0 | 1 => None,
            2 => Some(body[1]),
            _ => {
                self.lengths.push(self.grammar.lengths_of(&body[1..]));
                let rest = self.lengths.len() - 1;
                self.split(rest, 1.0, &body[1..]);
                Some(rest)
            }
        };
        self.rules.push(Rule { from, left: body[0], right, p });
    }

    /// For each place, the probability of each word there given all the *other* places of a corrupted sentence; by
    /// word. `None` where the grammar cannot make a sentence of this length.
    ///
    /// The reader doesn't know which of the words that it sees were chosen. [`Channel::behind`] adds what is seen at
    /// the place itself.
    pub fn contexts(&self, seen: &[Seen], channel: Channel) -> Option<Vec<Vec<f64>>> {
        let outside = self.outside(seen, channel)?;
        let context = |outs: Vec<f64>| {
            let total: f64 = outs.iter().sum();
            let mut words = vec![0.0; self.grammar.words().len()];
            for ((_, class), out) in self.classes.iter().zip(outs) {
                class.iter().for_each(|&(word, p)| words[usize::from(word)] += out / total * p);
            }
            words
        };
        Some(outside.into_iter().map(context).collect())
    }

    /// For each place and word class, how likely the rest of the sentence is around a word of that class, up to a
    /// factor that is the same for all.
    fn outside(&self, seen: &[Seen], channel: Channel) -> Option<Vec<Vec<f64>>> {
        let n = seen.len();
        if n >= 64 || self.lengths[self.start] >> n & 1 == 0 {
            return None;
        }
        let chart = self.inside(seen, channel);
        let mut outside = vec![0.0; chart.len()];
        let at = Spans { n, symbols: self.lengths.len() };
        outside[at.of(0, n, self.start)] = 1.0;
        for length in (1..=n).rev() {
            for rule in self.rules.iter().rev().filter(|rule| self.lengths[rule.from] >> length & 1 == 1) {
                for from in 0..=n - length {
                    let out = outside[at.of(from, length, rule.from)] * rule.p;
                    if out == 0.0 {
                        continue;
                    }
                    match rule.right {
                        None => outside[at.of(from, length, rule.left)] += out,
                        Some(right) => {
                            for k in self.splits(rule.left, right, length) {
                                let (l, r) = (at.of(from, k, rule.left), at.of(from + k, length - k, right));
                                outside[l] += out * chart[r];
                                outside[r] += out * chart[l];
                            }
                        }
                    }
                }
            }
        }
        Some((0..n).map(|place| self.classes.iter().map(|&(symbol, _)| outside[at.of(place, 1, symbol)]).collect()).collect())
    }

    /// How likely each symbol makes what is seen in each span.
    fn inside(&self, seen: &[Seen], channel: Channel) -> Vec<f64> {
        let n = seen.len();
        let (same, other) = channel.unknown(self.grammar.words().len());
        let at = Spans { n, symbols: self.lengths.len() };
        let mut chart = vec![0.0; n * n * self.lengths.len()];
        for (place, seen) in seen.iter().enumerate() {
            for &(symbol, class) in &self.classes {
                // Scaled by `same`, so that a long sentence stays far from the smallest number.
                chart[at.of(place, 1, symbol)] =
                    seen.map_or(1.0, |word| (other + (same - other) * probability(class, word)) / same);
            }
        }
        for length in 1..=n {
            for rule in self.rules.iter().filter(|rule| self.lengths[rule.from] >> length & 1 == 1) {
                for from in 0..=n - length {
                    let p = match rule.right {
                        None => chart[at.of(from, length, rule.left)],
                        Some(right) => self
                            .splits(rule.left, right, length)
                            .map(|k| chart[at.of(from, k, rule.left)] * chart[at.of(from + k, length - k, right)])
                            .sum(),
                    };
                    chart[at.of(from, length, rule.from)] += rule.p * p;
                }
            }
        }
        chart
    }

    /// The lengths that `left` can have where `left right` together have this length.
    fn splits(&self, left: usize, right: usize, length: usize) -> impl Iterator<Item = usize> + use<'g> {
        let right = self.lengths[right];
        bits(self.lengths[left] & ((1 << length) - 1)).filter(move |k| (right >> (length - k)) & 1 == 1)
    }
}

/// Where a symbol over a span lies in a chart.
#[derive(Clone, Copy)]
struct Spans {
    n: usize,
    symbols: usize,
}

impl Spans {
    fn of(self, from: usize, length: usize, symbol: usize) -> usize {
        ((length - 1) * self.n + from) * self.symbols + symbol
    }
}

/// The probability of a word in a class.
fn probability(class: &[(u16, f64)], word: u16) -> f64 {
    class.binary_search_by_key(&word, |&(known, _)| known).map_or(0.0, |at| class[at].1)
}

#[cfg(test)]
mod tests {
    use super::super::grammar::{Builder, Grammar};
    use super::*;

    fn small() -> Grammar {
        let mut b = Builder::default();
        b.rule("S", 0.7, "the N.one runs");
        b.rule("S", 0.3, "the N.many run");
        b.rule("S", 1.0, "the N.one near the N.many runs");
        b.rule("S", 0.5, "the N.many that the N.one sees run");
        b.rule("S", 0.5, "THE.dogs run");
        b.rule("THE.dogs", 1.0, "the dogs that the N.one sees");
        b.rule("N.one", 3.0, "dog");
        b.rule("N.one", 1.0, "cat");
        b.class("N.many", ["dogs", "cats"]);
        b.build()
    }

    /// Every sentence of a symbol with its probability, by writing them all out.
    fn all(grammar: &Grammar, symbol: Symbol) -> Vec<(Vec<u16>, f64)> {
        match &grammar.symbols()[symbol].expansion {
            Expansion::Words(class) => class.iter().map(|&(word, p)| (vec![word], p)).collect(),
            Expansion::Rules(rules) => rules
                .iter()
                .flat_map(|(p, body)| {
                    body.iter().fold(vec![(Vec::new(), *p)], |so_far, &part| {
                        let next = all(grammar, part);
                        so_far
                            .iter()
                            .flat_map(|(a, p)| next.iter().map(move |(b, q)| ([a.as_slice(), b].concat(), p * q)))
                            .collect()
                    })
                })
                .collect(),
        }
    }

    /// P(word at `place` | corrupted sentence, `place` was chosen), by Bayes over every sentence written out.
    fn by_hand(grammar: &Grammar, seen: &[Seen], place: usize, truth: u16, channel: Channel) -> f64 {
        let v = grammar.words().len() as f64;
        let (mut this, mut total) = (0.0, 0.0);
        for (sentence, mut p) in
            all(grammar, grammar.symbol("S").unwrap()).into_iter().filter(|(sentence, _)| sentence.len() == seen.len())
        {
            for (at, (&word, &seen)) in sentence.iter().zip(seen).enumerate() {
                let rate = if at == place { 1.0 } else { channel.rate };
                let shown = match seen {
                    None => rate * channel.hidden,
                    Some(seen) => {
                        let kept = if seen == word { 1.0 - rate + rate * (1.0 - channel.hidden - channel.replaced) } else { 0.0 };
                        kept + rate * channel.replaced / v
                    }
                };
                p *= shown;
            }
            total += p;
            this += if sentence[place] == truth { p } else { 0.0 };
        }
        this / total
    }

    #[test]
    fn the_reader_agrees_with_writing_every_sentence_out() {
        let grammar = small();
        let reader = Reader::new(&grammar, grammar.symbol("S").unwrap());
        let word = |text: &str| grammar.word(text).unwrap();
        let channel = Channel::default();
        for (truth, seen) in [
            ("the dog runs", "the # runs"),
            ("the dog runs", "the dog #"),
            ("the dogs run", "the dog run"),
            ("the cat near the dogs runs", "the # near # dogs #"),
            ("the dogs that the cat sees run", "# # that the dogs sees #"),
            ("the cats that the cat sees run", "# # # # # # #"),
        ] {
            let truth: Vec<u16> = truth.split(' ').map(word).collect();
            let seen: Vec<Seen> = seen.split(' ').map(|text| grammar.word(text)).collect();
            let contexts = reader.contexts(&seen, channel).unwrap();
            for (place, context) in contexts.iter().enumerate() {
                let (ours, want) =
                    (channel.behind(context, truth[place], seen[place]), by_hand(&grammar, &seen, place, truth[place], channel));
                assert!((ours - want).abs() < 1e-12, "{seen:?} at {place}: {ours} against {want}");
            }
        }
    }

    #[test]
    fn a_word_known_for_sure_costs_nothing_and_a_coin_costs_ln_2() {
        let mut b = Builder::default();
        b.rule("S", 1.0, "the COIN");
        b.class("COIN", ["heads", "tails"]);
        let grammar = b.build();
        let reader = Reader::new(&grammar, grammar.symbol("S").unwrap());
        let hidden = Channel { rate: 0.15, hidden: 1.0, replaced: 0.0 };
        let contexts = reader.contexts(&[None, None], hidden).unwrap();
        assert!(hidden.behind(&contexts[0], grammar.word("the").unwrap(), None).ln().abs() < 1e-12);
        assert!((hidden.behind(&contexts[1], grammar.word("heads").unwrap(), None).ln() + 2f64.ln()).abs() < 1e-12);
        assert!(reader.contexts(&[None], hidden).is_none(), "no sentence has one word");
    }
}

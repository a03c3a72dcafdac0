//! A weighted context-free grammar without recursion: what the pocket language is written in.
//!
//! One grammar serves both to draw sentences and to say how likely each word is (`inside.rs`), so the two cannot drift
//! apart.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

/// The longest sentence a grammar may make, in words: lengths are kept as the bits of a `u64`.
pub const LONGEST: usize = 63;

/// A symbol of the grammar: its index in [`Grammar::symbols`].
pub type Symbol = usize;

/// What a symbol may become.
#[derive(Debug)]
pub enum Expansion {
    /// One word of a class, each with its probability; sorted by word.
    Words(Vec<(u16, f64)>),
    /// One of several sequences of symbols, each with its probability.
    Rules(Vec<(f64, Vec<Symbol>)>),
}

/// One symbol.
#[derive(Debug)]
pub struct Entry {
    /// As written in the rules: `NP.animal.many`; a literal word is written in quotes.
    pub name: String,
    /// What it becomes.
    pub expansion: Expansion,
    /// Bit `n` is set where the symbol can become `n` words.
    pub lengths: u64,
}

/// A weighted context-free grammar without recursion. Symbols stand after everything they expand to.
#[derive(Debug)]
pub struct Grammar {
    words: Vec<String>,
    symbols: Vec<Entry>,
    by_name: HashMap<String, Symbol>,
}

/// Collects rules, then checks and orders them.
///
/// In a rule's text, a word with a capital first letter is a symbol and any other is itself.
#[derive(Debug, Default)]
pub struct Builder {
    rules: Vec<(String, Vec<(f64, String)>)>,
    by_name: HashMap<String, usize>,
}

impl Builder {
    /// `symbol` becomes `text` with this weight; the weights of a symbol's rules are scaled to a sum of 1.
    pub fn rule(&mut self, symbol: impl Into<String>, weight: f64, text: impl Into<String>) {
        let symbol = symbol.into();
        let at = *self.by_name.entry(symbol.clone()).or_insert_with(|| {
            self.rules.push((symbol, Vec::new()));
            self.rules.len() - 1
        });
        self.rules[at].1.push((weight, text.into()));
    }

    /// `symbol` becomes any of `words`, equally often.
    pub fn class<'a>(&mut self, symbol: impl Into<String>, words: impl IntoIterator<Item = &'a str>) {
        let symbol = symbol.into();
        for word in words {
            self.rule(symbol.clone(), 1.0, word);
        }
    }

    /// The grammar of these rules.
    ///
    /// # Panics
    /// Where a symbol is not defined, is defined through itself, or can be empty or longer than [`LONGEST`]: the rules
    /// are part of the program, and a test builds them.
    pub fn build(self) -> Grammar {
        let mut words: Vec<String> = self
            .rules
            .iter()
            .flat_map(|(_, rules)| rules)
            .flat_map(|(_, text)| text.split(' '))
            .filter(|part| !is_symbol(part))
            .map(str::to_owned)
            .collect();
        words.sort_unstable();
        words.dedup();
        let mut grammar = Grammar { words, symbols: Vec::new(), by_name: HashMap::new() };
        for (name, _) in &self.rules {
            self.place(name, &mut grammar, &mut Vec::new());
        }
        grammar
    }

    /// Puts `name` into the grammar, after everything that it expands to.
    fn place<'a>(&'a self, name: &'a str, grammar: &mut Grammar, open: &mut Vec<&'a str>) -> Symbol {
        if let Some(&symbol) = grammar.by_name.get(name) {
            return symbol;
        }
        if !is_symbol(name) {
            let word = grammar.word(name).expect("every literal word was collected first");
            return grammar.add(format!("\"{name}\""), name, Expansion::Words(vec![(word, 1.0)]));
        }
        assert!(!open.contains(&name), "the pocket language defines {name} through itself");
        let &at =
            self.by_name.get(name).unwrap_or_else(|| panic!("the pocket language has no rule for {name} (wanted by {open:?})"));
        let rules = &self.rules[at].1;
        let total: f64 = rules.iter().map(|(weight, _)| weight).sum();
        if rules.iter().all(|(_, text)| !is_symbol(text) && !text.contains(' ')) {
            let mut class: Vec<(u16, f64)> = rules
                .iter()
                .map(|(weight, text)| (grammar.word(text).expect("every literal word was collected first"), weight / total))
                .collect();
            class.sort_by_key(|&(word, _)| word);
            return grammar.add(name.to_owned(), name, Expansion::Words(class));
        }
        open.push(name);
        let rules = rules
            .iter()
            .map(|(weight, text)| (weight / total, text.split(' ').map(|part| self.place(part, grammar, open)).collect()))
            .collect();
        open.pop();
        grammar.add(name.to_owned(), name, Expansion::Rules(rules))
    }
}

fn is_symbol(part: &str) -> bool {
    part.starts_with(|first: char| first.is_ascii_uppercase())
}

impl Grammar {
    fn add(&mut self, name: String, key: &str, expansion: Expansion) -> Symbol {
        let lengths = match &expansion {
            Expansion::Words(_) => 1 << 1,
            Expansion::Rules(rules) => rules.iter().fold(0, |all, (_, body)| all | self.lengths_of(body)),
        };
        assert!(lengths & 1 == 0, "the pocket language lets {name} be empty");
        self.symbols.push(Entry { name, expansion, lengths });
        self.by_name.insert(key.to_owned(), self.symbols.len() - 1);
        self.symbols.len() - 1
    }

    /// The lengths that a sequence of symbols can have, as bits.
    pub fn lengths_of(&self, body: &[Symbol]) -> u64 {
        body.iter().fold(1, |so_far, &symbol| {
            let next = self.symbols[symbol].lengths;
            assert!(
                so_far.leading_zeros() + next.leading_zeros() >= 64,
                "the pocket language makes a sentence of more than {LONGEST} words"
            );
            bits(next).fold(0, |all, n| all | (so_far << n))
        })
    }

    /// Every distinct word, sorted.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The index of a word in [`words`](Self::words).
    pub fn word(&self, word: &str) -> Option<u16> {
        self.words.binary_search_by(|known| known.as_str().cmp(word)).ok().and_then(|at| u16::try_from(at).ok())
    }

    /// Every symbol, each after everything that it expands to.
    pub fn symbols(&self) -> &[Entry] {
        &self.symbols
    }

    /// A symbol by its name.
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.by_name.get(name).copied()
    }

    /// Draws what `symbol` becomes: indices of words, appended to `out`.
    pub fn draw(&self, symbol: Symbol, rng: &mut ChaCha8Rng, out: &mut Vec<u16>) {
        match &self.symbols[symbol].expansion {
            Expansion::Words(class) => out.push(class[pick(rng, class.iter().map(|&(_, p)| p))].0),
            Expansion::Rules(rules) => {
                for &part in &rules[pick(rng, rules.iter().map(|&(p, _)| p))].1 {
                    self.draw(part, rng, out);
                }
            }
        }
    }
}

/// The positions of the bits that are set, from the lowest.
pub fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lowest < 64).then_some(lowest)
    })
}

/// A uniform number in [0, 1).
pub fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A uniform index below `n`, which is small (a bias of at most `n / 2^53`).
pub fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((uniform(rng) * n as f64) as usize).min(n.saturating_sub(1))
}

/// An index drawn with these probabilities (sum 1); the last one on rounding.
pub fn pick(rng: &mut ChaCha8Rng, probabilities: impl ExactSizeIterator<Item = f64>) -> usize {
    let mut left = uniform(rng);
    let last = probabilities.len().saturating_sub(1);
    for (at, p) in probabilities.enumerate() {
        left -= p;
        if left < 0.0 || at == last {
            return at;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    fn small() -> Grammar {
        let mut b = Builder::default();
        for (n, s) in [("one", "s"), ("many", "")] {
            b.rule("S", 1.0, format!("the N.{n} V.{n}"));
            b.rule("S", 1.0, format!("the N.{n} near the N.one V.{n}"));
            b.class(format!("V.{n}"), [format!("run{s}").as_str(), format!("sit{s}").as_str()]);
        }
        b.class("N.one", ["dog", "cat"]);
        b.class("N.many", ["dogs", "cats"]);
        b.build()
    }

    #[test]
    fn lengths_are_those_of_the_rules() {
        let grammar = small();
        assert_eq!(bits(grammar.symbols()[grammar.symbol("S").unwrap()].lengths).collect::<Vec<_>>(), [3, 6]);
    }

    #[test]
    fn drawn_text_follows_the_rules() {
        let grammar = small();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..50 {
            let mut out = Vec::new();
            grammar.draw(grammar.symbol("S").unwrap(), &mut rng, &mut out);
            let text: Vec<&str> = out.iter().map(|&w| grammar.words()[usize::from(w)].as_str()).collect();
            assert_eq!(text[1].ends_with('s'), !text[text.len() - 1].ends_with('s'), "{text:?}");
        }
    }

    #[test]
    #[should_panic(expected = "has no rule for X")]
    fn a_missing_rule_is_named() {
        let mut b = Builder::default();
        b.rule("S", 1.0, "the X");
        b.build();
    }

    #[test]
    #[should_panic(expected = "through itself")]
    fn recursion_is_refused() {
        let mut b = Builder::default();
        b.rule("S", 1.0, "the S");
        b.build();
    }
}

//! On which lines of a run file its keys stand, for messages.

use std::collections::BTreeMap;

use toml::de::DeTable;

/// The line, from 1, of every key and section of a TOML text, by its path: `distill.soft`. Empty for a text that is not
/// TOML.
pub(super) fn lines(text: &str) -> BTreeMap<String, usize> {
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let mut out = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        note(table.get_ref(), "", &ends, &mut out);
    }
    out
}

fn note(table: &DeTable, before: &str, ends: &[usize], out: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let path = format!("{before}{}", key.get_ref());
        if let Some(inner) = value.get_ref().as_table() {
            note(inner, &format!("{path}."), ends, out);
        }
        out.insert(path, 1 + ends.partition_point(|end| *end < key.span().start));
    }
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn keys_and_sections_have_the_lines_that_they_are_written_on() {
        let text =
            "# a run\nseed = 1\n\n[model]\nlayers = 4 # few\nhidden = \"\"\"\n64\"\"\"\n[models.large.from.small]\nsoft = 1\n";
        let found = lines(text);
        let expected = [("seed", 2), ("model", 4), ("model.layers", 5), ("model.hidden", 6), ("models.large.from.small.soft", 9)];
        for (path, line) in expected {
            assert_eq!(found.get(path), Some(&line), "{path}");
        }
        assert!(lines("seed = ").is_empty());
    }
}

//! What two plans differ in, key by key.

use toml::{Table, Value};

/// A line on each key that two plans do not share: `train.lr: 0.001 there, 0.002 now`. Tables in a list go by their
/// names.
pub fn differences(there: &Table, now: &Table) -> Vec<String> {
    let [there, now] = [there, now].map(|table| {
        let mut flat = Vec::new();
        table.iter().for_each(|(key, value)| flatten(key.clone(), value, &mut flat));
        flat
    });
    let of = |flat: &[(String, String)], key: &str| {
        flat.iter().find(|(other, _)| other == key).map_or("nothing".to_owned(), |(_, value)| value.clone())
    };
    let gone = there.iter().filter(|(key, _)| !now.iter().any(|(other, _)| other == key));
    let keys = now.iter().chain(gone).map(|(key, _)| key);
    let line = |key: &String| {
        let (before, after) = (of(&there, key), of(&now, key));
        (before != after).then(|| format!("{key}: {before} there, {after} now"))
    };
    keys.filter_map(line).collect()
}

fn flatten(path: String, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Table(table) => table.iter().for_each(|(key, value)| flatten(format!("{path}.{key}"), value, out)),
        Value::Array(list) if list.iter().any(Value::is_table) => {
            for (at, value) in list.iter().enumerate() {
                let name = value.get("name").and_then(Value::as_str).map_or(at.to_string(), str::to_owned);
                flatten(format!("{path}.{name}"), value, out);
            }
        }
        other => out.push((path, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_differs_is_named_with_both_values() {
        let there = "seed = 1\n[train]\nlr = 0.001\nsteps = 5\n[teacher]\nfrom = \"a\"\n[[models]]\nname = \"small\"\nlr = 0.1\n";
        let now = "seed = 1\n[train]\nlr = 0.002\nsteps = 5\nclip = 1.0\n[[models]]\nname = \"small\"\nlr = 0.2\n";
        let found = differences(&there.parse().unwrap(), &now.parse().unwrap());
        assert_eq!(
            found,
            [
                "models.small.lr: 0.1 there, 0.2 now",
                "train.clip: nothing there, 1.0 now",
                "train.lr: 0.001 there, 0.002 now",
                "teacher.from: \"a\" there, nothing now"
            ]
        );
        assert!(differences(&now.parse().unwrap(), &now.parse().unwrap()).is_empty());
    }
}

//! JSON: an object a line, or a list of objects. Only the fields that are wanted are kept of an object, so that what
//! else it holds costs no memory.

use std::fmt;
use std::io::BufRead;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::gathered::Gathered;
use super::lines::Lines;
use super::options::{LISTED, ReadOptions, listed};
use super::source::{Format, Source};
use super::stream::{broken, utf8};
use super::{Document, Documents, Object, Row, Wanted};
use crate::error::{Error, Result};

const ONE_OBJECT: &str = "a .jsonl file holds one JSON object a line";
const ALL_OBJECTS: &str = "a .json file holds a list of objects, or objects one after another";
const NAME_IT: &str = "name the field that holds the text with --field";

/// One document an object: the string under `options.field`; a null is passed over.
pub(super) fn documents(stream: Box<dyn BufRead + Send>, source: &Source, options: &ReadOptions) -> Documents {
    let mut objects = Objects::new(stream, source, options);
    let field = vec![options.field.clone()];
    Box::new(std::iter::from_fn(move || document(&mut objects, &field).transpose()))
}

fn document(objects: &mut Objects, field: &[String]) -> Result<Option<Document>> {
    while let Some(mut object) = objects.next(field)? {
        let name = &field[0];
        let what = match object.values.remove(0) {
            Some(Value::Text(text)) if !text.trim().is_empty() => return Ok(Some(Document { text })),
            Some(Value::Text(_) | Value::Null) => continue,
            Some(_) => format!("the field `{name}` is not a string"),
            None if object.keys.is_empty() => format!("there is no field `{name}` in an object without fields"),
            None => format!("there is no field `{name}`; there is {}", listed(&object.keys, object.more)),
        };
        return Err(Error::new(what).at(objects.place()).help(NAME_IT));
    }
    Ok(None)
}

/// The wanted fields of every object. A field that some object has and another lacks is none there.
pub(super) fn rows(
    stream: Box<dyn BufRead + Send>,
    source: &Source,
    wanted: &Wanted,
    options: &ReadOptions,
    rows: &mut Gathered<Row>,
) -> Result<()> {
    let mut objects = Objects::new(stream, source, options);
    let mut seen = vec![false; wanted.columns.len()];
    let mut first = None;
    while let Some(object) = objects.next::<Value>(wanted.columns)? {
        seen.iter_mut().zip(&object.values).for_each(|(seen, value)| *seen |= value.is_some());
        let mut fields = Vec::with_capacity(seen.len());
        for (value, name) in object.values.into_iter().zip(wanted.columns) {
            fields.push(match value {
                None | Some(Value::Null) => None,
                Some(Value::Text(text) | Value::Plain(text)) => Some(text),
                Some(Value::Other) => {
                    return Err(Error::new(format!("the field `{name}` is not a plain value")).at(objects.place()));
                }
            });
        }
        rows.push(Row { line: objects.line(), fields }).map_err(|error| error.at(objects.place()))?;
        first.get_or_insert_with(|| (objects.place(), object.keys, object.more));
    }
    let missing: Vec<&String> = wanted.columns.iter().zip(seen).filter(|(_, seen)| !seen).map(|(name, _)| name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (place, keys, more) = first.unwrap_or_else(|| (source.path.display().to_string(), Vec::new(), 0));
    Err(wanted.absent(&missing, &keys, more).at(place))
}

/// The wanted fields of every object, lists and objects among them whole.
pub(super) fn objects(
    stream: Box<dyn BufRead + Send>,
    source: &Source,
    wanted: &[String],
    options: &ReadOptions,
    gathered: &mut Gathered<Object>,
) -> Result<()> {
    let mut objects = Objects::new(stream, source, options);
    while let Some(Fields { values, keys, more }) = objects.next(wanted)? {
        let found = if keys.is_empty() { "an object without fields".to_owned() } else { listed(&keys, more) };
        let object = Object { place: objects.place(), fields: values, found };
        gathered.push(object).map_err(|error| error.at(objects.place()))?;
    }
    Ok(())
}

/// The objects of a file.
enum Objects {
    /// One a line.
    Lines { lines: Lines, options: ReadOptions },
    /// In a list, or one after another.
    List(List),
}

impl Objects {
    fn new(stream: Box<dyn BufRead + Send>, source: &Source, options: &ReadOptions) -> Self {
        let options = options.clone();
        match source.format {
            Format::Json => Objects::List(List {
                stream,
                source: source.clone(),
                options,
                line: 1,
                start: 1,
                is_list: false,
                has_begun: false,
            }),
            _ => Objects::Lines { lines: Lines::new(stream, source, &options, options.longest_line), options },
        }
    }

    /// The next object's wanted fields; empty lines are passed over.
    fn next<V: Kept>(&mut self, wanted: &[String]) -> Result<Option<Fields<V>>> {
        let (text, lossy, what, help) = match self {
            Objects::List(list) => (list.next()?, list.options.lossy, "object", ALL_OBJECTS),
            Objects::Lines { lines, options } => {
                let mut text = None;
                while let Some(line) = lines.next()? {
                    if line.goes_on {
                        return Err(options.too_long("a line").at(lines.place()));
                    }
                    if !line.text.trim().is_empty() {
                        text = Some(line.text);
                        break;
                    }
                }
                (text, options.lossy, "line", ONE_OBJECT)
            }
        };
        let Some(text) = text else { return Ok(None) };
        read(&text, wanted, lossy).map(Some).map_err(|trouble| {
            let (what, help) = match trouble {
                Trouble::NoObject => (format!("the {what} is not a JSON object"), help),
                Trouble::NoJson(reason) => (format!("the {what} is not JSON: {reason}"), help),
                Trouble::Surrogate => (
                    "half of a surrogate pair stands alone in the text: it is no character".to_owned(),
                    "write the character whole, or read on with --lossy",
                ),
            };
            Error::new(what).at(self.place()).help(help)
        })
    }

    /// The line of the object last returned.
    fn line(&self) -> u64 {
        match self {
            Objects::Lines { lines, .. } => lines.number,
            Objects::List(list) => list.start,
        }
    }

    fn place(&self) -> String {
        match self {
            Objects::Lines { lines, .. } => lines.place(),
            Objects::List(list) => list.place(list.start),
        }
    }
}

/// The texts of a file's objects, told apart by their brackets.
struct List {
    stream: Box<dyn BufRead + Send>,
    source: Source,
    options: ReadOptions,
    /// The line at hand, and that in which the object last returned begins.
    line: u64,
    start: u64,
    /// Whether a list was opened and not closed.
    is_list: bool,
    has_begun: bool,
}

impl List {
    fn next(&mut self) -> Result<Option<String>> {
        let (mut object, mut depth, mut in_string, mut escaped) = (Vec::new(), 0u32, false, false);
        loop {
            let buffer = self.stream.fill_buf().map_err(|error| broken(&self.source, &error))?;
            if buffer.is_empty() {
                return if depth == 0 && !self.is_list { Ok(None) } else { Err(self.refuse("the file ends within its JSON")) };
            }
            let mut used = 0;
            for &byte in buffer {
                used += 1;
                self.line += u64::from(byte == b'\n');
                match (in_string, byte) {
                    (true, _) if escaped => escaped = false,
                    (true, b'\\') => escaped = true,
                    (_, b'"') if depth > 0 => in_string = !in_string,
                    (true, _) => {}
                    (false, b'{') if depth == 0 => {
                        (depth, self.start, self.has_begun) = (1, self.line, true);
                    }
                    (false, b'{' | b'[') if depth > 0 => depth += 1,
                    (false, b'}' | b']') if depth > 0 => depth -= 1,
                    (false, _) if depth > 0 => {}
                    (false, b'[') if !self.has_begun => (self.is_list, self.has_begun) = (true, true),
                    (false, b']') if self.is_list => self.is_list = false,
                    (false, b' ' | b'\t' | b'\r' | b'\n' | b',' | 0xef | 0xbb | 0xbf) => {}
                    _ => {
                        self.start = self.line;
                        return Err(self.refuse("the file does not hold JSON objects"));
                    }
                }
                if depth > 0 || byte == b'}' {
                    object.push(byte);
                }
                if !object.is_empty() && depth == 0 || object.len() > self.options.longest_line {
                    break;
                }
            }
            self.stream.consume(used);
            if object.len() > self.options.longest_line {
                return Err(self.options.too_long("an object").at(self.place(self.start)));
            }
            if !object.is_empty() && depth == 0 {
                return utf8(&object, self.options.lossy).map(Some).map_err(|error| error.at(self.place(self.start)));
            }
        }
    }

    fn refuse(&self, what: &str) -> Error {
        Error::new(what).at(self.place(self.start)).help(ALL_OBJECTS)
    }

    fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.source.path.display())
    }
}

/// What is kept of an object.
#[derive(Debug, PartialEq)]
struct Fields<V> {
    /// For each wanted field its value; none where there is no such field.
    values: Vec<Option<V>>,
    /// The names of the first fields, and how many more there are: for messages.
    keys: Vec<String>,
    more: usize,
}

/// What is kept of a wanted field: a plain [`Value`], or whatever JSON it is.
trait Kept: Clone + for<'de> Deserialize<'de> {}

impl Kept for Value {}
impl Kept for serde_json::Value {}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Null,
    Text(String),
    /// A number or a truth value, as text.
    Plain(String),
    /// A list, an object, or infinity.
    Other,
}

#[derive(Debug)]
enum Trouble {
    NoObject,
    NoJson(String),
    /// A `\ud83d` without its other half.
    Surrogate,
}

/// Reads an object. Python writes `NaN` and `Infinity`, which are no JSON: the one is missing, as null is, the other is
/// no plain value. Half a surrogate pair is U+FFFD where losses are allowed; in a field that is not wanted it is
/// nobody's business.
fn read<V: Kept>(text: &str, wanted: &[String], is_lossy: bool) -> Result<Fields<V>, Trouble> {
    let plain = match parse(text, wanted) {
        Ok(fields) => return Ok(fields),
        Err(trouble) => trouble,
    };
    let without_names = without_names(text);
    let (mended, is_surrogate) = without_half_pairs(&without_names);
    match parse(if is_lossy { &mended } else { &without_names }, wanted) {
        Err(_) if is_surrogate && !is_lossy && parse::<V>(&mended, wanted).is_ok() => Err(Trouble::Surrogate),
        Err(Trouble::NoJson(_)) if without_names == text && !is_surrogate => Err(plain),
        read => read,
    }
}

fn parse<V: Kept>(text: &str, wanted: &[String]) -> Result<Fields<V>, Trouble> {
    let no_json = |error: serde_json::Error| Trouble::NoJson(reason(&error));
    if !text.trim_start().starts_with('{') {
        return Err(serde_json::from_str::<IgnoredAny>(text).map_or_else(no_json, |_| Trouble::NoObject));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer.deserialize_map(Pick { wanted, kept: PhantomData }).map_err(no_json)?;
    deserializer.end().map_err(no_json)?;
    Ok(fields)
}

/// serde_json's reason, with the column only where the object is one line.
fn reason(error: &serde_json::Error) -> String {
    error.to_string().replace("at line 1 column", "at column")
}

/// `NaN` and `Infinity` outside of strings as JSON of the same length: an empty string, and an empty list.
fn without_names(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(at) = rest.find(['"', '\\', 'N', 'I', '-']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let names = [("NaN", "\"\" "), ("Infinity", "[]      "), ("-Infinity", "[]       ")];
        let name = names.iter().find(|(name, _)| !in_string && from.starts_with(name));
        let (put, length) = match (name, from.as_bytes()[0]) {
            (Some((name, instead)), _) => (*instead, name.len()),
            (None, b'\\') => {
                let length = 1 + from[1..].chars().next().map_or(0, char::len_utf8);
                (&from[..length], length)
            }
            (None, first) => {
                in_string ^= first == b'"';
                (&from[..1], 1)
            }
        };
        out.push_str(put);
        rest = &from[length..];
    }
    out + rest
}

/// Escapes of surrogates that stand alone as `\ufffd`, and whether there were any.
fn without_half_pairs(text: &str) -> (String, bool) {
    let unit = |at: usize| -> Option<u16> {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut out, mut from, mut at) = (String::new(), 0, 0);
    while let Some(found) = text[at..].find('\\').map(|found| at + found) {
        at = match (unit(found), unit(found + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => found + 12,
            (Some(0xd800..0xe000), _) => {
                out.push_str(&text[from..found]);
                out.push_str("\\ufffd");
                from = found + 6;
                from
            }
            _ => found + 1 + text[found + 1..].chars().next().map_or(0, char::len_utf8),
        };
    }
    out.push_str(&text[from..]);
    (out, from > 0)
}

/// Keeps an object's wanted fields.
struct Pick<'a, V> {
    wanted: &'a [String],
    kept: PhantomData<V>,
}

impl<'de, V: Kept> Visitor<'de> for Pick<'_, V> {
    type Value = Fields<V>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<V>, A::Error> {
        let mut fields = Fields { values: self.wanted.iter().map(|_| None).collect(), keys: Vec::new(), more: 0 };
        while let Some(key) = map.next_key::<String>()? {
            let mut places = (0..self.wanted.len()).filter(|&at| self.wanted[at] == key);
            match places.next() {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(first) => {
                    fields.values[first] = Some(map.next_value()?);
                    for other in places {
                        fields.values[other] = fields.values[first].clone();
                    }
                }
            }
            if fields.keys.len() < LISTED {
                fields.keys.push(key);
            } else {
                fields.more += 1;
            }
        }
        Ok(fields)
    }
}

/// Keeps a value, of lists and objects only that it is one.
struct One;

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(One)
    }
}

impl<'de> Visitor<'de> for One {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Other, |number| Value::Plain(number.to_string())))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, is_lossy: bool) -> Result<Option<Value>, String> {
        let wanted = ["text".to_owned()];
        read(text, &wanted, is_lossy).map(|mut fields| fields.values.remove(0)).map_err(|trouble| format!("{trouble:?}"))
    }

    fn is(text: &str) -> Value {
        value(text, false).unwrap().unwrap()
    }

    #[test]
    fn what_python_writes_is_read() {
        for other in ["NaN", "Infinity", "-Infinity", "[NaN, {\"a\": -Infinity}]", "\"\\ud83d\""] {
            let text = format!("{{\"other\": {other}, \"text\": \"a NaN \\\\ \\\" Infinity\", \"last\": {other}}}");
            assert_eq!(is(&text), Value::Text("a NaN \\ \" Infinity".into()), "{other}");
        }
        // Not a number is missing, and infinity is neither a text nor a score.
        assert_eq!(is("{\"text\": NaN}"), Value::Text(String::new()));
        assert_eq!(is("{\"text\": -Infinity}"), Value::Other);
    }

    #[test]
    fn half_a_pair_is_refused_or_replaced() {
        for (text, lossy) in [
            ("{\"text\": \"a \\ud83d b\"}", "a \u{fffd} b"),
            ("{\"text\": \"a \\ude42\"}", "a \u{fffd}"),
            ("{\"text\": \"\\ud83d\\ud83d\\ude42\", \"x\": NaN}", "\u{fffd}🙂"),
            ("{\"text\": \"\\\\ud83d \\ud83d\\n\"}", "\\ud83d \u{fffd}\n"),
        ] {
            assert_eq!(value(text, false).unwrap_err(), "Surrogate", "{text}");
            assert_eq!(value(text, true).unwrap(), Some(Value::Text(lossy.into())), "{text}");
        }
        assert_eq!(is("{\"text\": \"\\ud83d\\ude42\"}"), Value::Text("🙂".into()));
    }

    #[test]
    fn what_is_not_json_stays_an_error() {
        for text in ["{\"text\": NaN", "{\"text\": None}", "{\"text\": \"a\"} {}", "{\"text\": \"\\ud83", "{'text': 1}"] {
            assert!(value(text, true).unwrap_err().starts_with("NoJson"), "{text}");
        }
        assert_eq!(value("[1, 2]", true).unwrap_err(), "NoObject");
    }

    #[test]
    fn plain_values_are_text_and_nesting_costs_nothing() {
        assert_eq!(is("{\"text\": 0.0}"), Value::Plain("0.0".into()));
        assert_eq!(is("{\"text\": true}"), Value::Plain("true".into()));
        assert_eq!(is("{\"text\": 1, \"text\": 2}"), Value::Plain("2".into()), "the last one counts, as in Python");
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(is(&format!("{{\"a\": {deep}, \"text\": \"b\"}}")), Value::Text("b".into()));
        assert_eq!(is(&format!("{{\"text\": {deep}}}")), Value::Other);
    }
}

//! Who imports whom: the paths in a file's code, followed through re-exports to the file that defines what they name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Names = Vec<String>;

/// What a file's code says of others; tests within it are left out, which may reach anywhere.
#[derive(Default)]
struct Code {
    /// What its `use` declarations bring into scope, by the name that it has there.
    scope: BTreeMap<String, Names>,
    /// Paths from the crate's root that it names outside of re-exports.
    named: Vec<Names>,
}

/// The files of `src/` by their modules' paths.
pub struct House(BTreeMap<String, Code>);

impl House {
    pub fn read(src: &Path) -> Self {
        let module_of = |path: &Path| {
            let name = path.strip_prefix(src).unwrap().with_extension("");
            let parts: Vec<_> = name.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
            if parts == ["lib"] { String::new() } else { parts.join("::") }
        };
        let files: BTreeMap<String, String> =
            super::rust_files(src).iter().map(|path| (module_of(path), fs::read_to_string(path).unwrap())).collect();
        let modules: BTreeSet<&String> = files.keys().collect();
        Self(files.iter().map(|(module, text)| (module.clone(), code(module, text, &modules))).collect())
    }

    /// The module that defines what a path from the crate's root names.
    fn home(&self, path: &[String], turns: usize) -> Option<&str> {
        let (at, module, code) = (0..=path.len()).rev().find_map(|at| {
            let (module, code) = self.0.get_key_value(&path[..at].join("::"))?;
            Some((at, module, code))
        })?;
        let through = path.get(at).and_then(|name| code.scope.get(name)).filter(|_| turns > 0);
        match through {
            Some(real) if real[..] != path[..=at] => self.home(&[real, &path[at + 1..]].concat(), turns - 1),
            _ => Some(module),
        }
    }

    /// The files that each file imports from, those below it apart: a folder's own file is its front, and may name what
    /// is in it.
    fn imports(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let of = |module: &str, code: &Code| {
            let homes = code.named.iter().filter_map(|path| self.home(path, 9).map(|home| self.0.get_key_value(home).unwrap().0));
            let is_within = |home: &str| home.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
            homes.map(String::as_str).filter(|home| !home.is_empty() && !is_within(home)).collect()
        };
        self.0.iter().filter(|(module, _)| !module.is_empty()).map(|(module, code)| (module.as_str(), of(module, code))).collect()
    }

    /// A circle of files, each of which imports from the next, and the last from the first.
    pub fn circle(&self) -> Option<Vec<String>> {
        let imports = self.imports();
        let mut done = BTreeSet::new();
        imports.keys().find_map(|module| walk(module, &imports, &mut Vec::new(), &mut done))
    }
}

/// The first circle that is found going on from a file, `way` being how it was reached.
fn walk<'a>(
    module: &'a str,
    imports: &BTreeMap<&'a str, BTreeSet<&'a str>>,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(at) = way.iter().position(|other| *other == module) {
        return Some(way[at..].iter().map(|module| (*module).to_owned()).collect());
    }
    if !done.insert(module) {
        return None;
    }
    way.push(module);
    let found = imports.get(module).into_iter().flatten().find_map(|next| walk(next, imports, way, done));
    way.pop();
    found
}

fn code(module: &str, text: &str, modules: &BTreeSet<&String>) -> Code {
    let mut out = Code::default();
    let mut declaration: Option<(bool, String)> = None;
    let mut is_test = false;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if is_test && line.contains("mod ") && line.ends_with('{') {
            break;
        }
        is_test = line == "#[cfg(test)]";
        if declaration.is_none() {
            let (visibility, rest) = match line.split_once("use ") {
                Some((before, rest)) if before.is_empty() || before.starts_with("pub") && !before.contains('"') => (before, rest),
                _ => {
                    let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
                    out.named.extend(words.filter(|word| word.contains("::")).filter_map(|word| absolute(module, word, modules)));
                    continue;
                }
            };
            declaration = Some((!visibility.is_empty(), rest.to_owned()));
        } else if let Some((_, so_far)) = &mut declaration {
            so_far.push_str(line);
        }
        if let Some((is_public, tree)) = declaration.take_if(|(_, tree)| tree.ends_with(';')) {
            for one in expanded(tree.trim_end_matches(';')) {
                let (path, name) = one.split_once(" as ").unwrap_or((&one, one.rsplit("::").next().unwrap_or_default()));
                let Some(path) = absolute(module, path.trim_end_matches("::self"), modules) else { continue };
                let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name.trim().to_owned() };
                out.scope.insert(name, path.clone());
                out.named.extend((!is_public).then_some(path));
            }
        }
    }
    out
}

/// The paths that a tree of imports stands for: `a::{b, c::{d, e}}` is `a::b`, `a::c::d` and `a::c::e`.
fn expanded(tree: &str) -> Vec<String> {
    let Some((before, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inside = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inside.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ',' && depth == 0 { parts.push(String::new()) } else { parts.last_mut().unwrap().push(c) }
    }
    let whole = |part: &String| expanded(&format!("{}{}", before.trim(), part.trim()));
    parts.iter().filter(|part| !part.trim().is_empty()).flat_map(whole).collect()
}

/// A path from the crate's root; none where it leads out of the crate.
fn absolute(module: &str, path: &str, modules: &BTreeSet<&String>) -> Option<Names> {
    let mut base: Names = module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let mut parts = path.split("::").map(str::trim).peekable();
    match parts.peek()? {
        &"crate" => {
            base.clear();
            parts.next();
        }
        &"self" => drop(parts.next()),
        &"super" => {
            while parts.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        child => {
            let below = base.iter().map(String::as_str).chain([*child]).collect::<Vec<_>>().join("::");
            modules.get(&below)?;
        }
    }
    base.extend(parts.map(str::to_owned));
    Some(base)
}

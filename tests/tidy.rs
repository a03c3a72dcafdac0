//! The house stays in order: imports run one way, and what the documents name is there.

#[path = "tidy/imports.rs"]
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

/// The rooms in the order of the flow; a room imports only from rooms before it.
const ROOMS: &[&str] = &[
    "terminal",
    "words",
    "error",
    "files",
    "device",
    "config",
    "text",
    "tokens",
    "batch",
    "answers",
    "kernels",
    "loss",
    "model",
    "optim",
    "checkpoint",
    "log",
    "tasks",
    "methods",
    "train",
    "study",
    "bench",
    "cli",
    "guide",
];

/// Whether this is a checkout: what `cargo package` packs has neither the page nor the tools, which documents name.
fn is_checkout() -> bool {
    let is = root().join("web").exists();
    if !is {
        eprintln!("SKIPPED: what documents name, as this is no checkout");
    }
    is
}

/// What people read.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "examples/results/README.md",
    "src/bench/README.md",
    "tests/cuda/README.md",
    "web/README.md",
];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => out.extend(rust_files(&path)),
            false if path.extension().is_some_and(|ending| ending == "rs") => out.push(path),
            false => {}
        }
    }
    out.sort();
    out
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src")) {
        let name = path.strip_prefix(root().join("src")).unwrap();
        let room = name.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&room.as_str()) {
            continue;
        }
        let Some(at) = ROOMS.iter().position(|known| *known == room) else {
            wrong.push(format!("src/{}: the room {room:?} has no place in the flow; add it to ROOMS", name.display()));
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        // Tests may reach anywhere.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let target: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if ROOMS.iter().position(|known| *known == target).is_some_and(|other| other > at) {
                    wrong.push(format!(
                        "src/{}:{}: {room} comes before {target} in the flow and must not import it. Move the shared type down, or pass it in",
                        name.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Files of one room import from each other one way, too. What two of them share has a place below both.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let circle = imports::House::read(&root().join("src")).circle();
    assert!(
        circle.is_none(),
        "{} import from each other in a circle: move what is shared to one that imports from none of the others",
        circle.unwrap_or_default().join(" -> ")
    );
}

/// Functions fit on a screen and a half. The lines of a text within a function are not counted, such as a snapshot's.
#[test]
fn functions_stay_short() {
    // Their two passes over a slot share what one launch keeps in registers and in the workgroup's memory.
    const ONE_LAUNCH: [&str; 2] = ["dwt_loss_kernel", "outcomes_loss_kernel"];
    let mut long = Vec::new();
    for path in ["src", "web/src", "xtask/src", "tests"].iter().map(|name| root().join(name)).filter(|path| path.exists()) {
        for path in rust_files(&path) {
            let text = fs::read_to_string(&path).unwrap();
            let found = functions(&text).into_iter().filter(|(name, lines)| *lines > 80 && !ONE_LAUNCH.contains(&name.as_str()));
            long.extend(found.map(|(name, lines)| format!("{}: {name} has {lines} lines", path.display())));
        }
    }
    assert!(long.is_empty(), "divide these functions:\n{}", long.join("\n"));
}

/// The functions of a file that rustfmt has laid out: their names, and how many lines of code each has.
fn functions(text: &str) -> Vec<(String, usize)> {
    let mut out = Vec::new();
    let mut open: Vec<(&str, String, usize)> = Vec::new();
    let mut is_text = false;
    for line in text.lines() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        if is_text {
            is_text = !(code.starts_with("\"#") || code == "\");" || code == "\"," || code.starts_with("\")"));
            continue;
        }
        is_text = ["@\"", "r\"", "r#\"", "= \"", "(\""].iter().any(|end| code.ends_with(end)) && !code.starts_with("//");
        let head = code.split_once("fn ").filter(|(before, _)| {
            before
                .split_whitespace()
                .all(|word| word.starts_with("pub") || ["const", "async", "unsafe"].contains(&word) || word.ends_with(')'))
        });
        if let Some((_, rest)) = head {
            open.push((indent, rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect(), 0));
        }
        open.iter_mut().for_each(|(_, _, lines)| *lines += 1);
        let ends = |(at, ..): &(&str, String, usize)| {
            *at == indent
                && (code == "}" || head.is_some() && code.ends_with(['}', ';']) || code.starts_with(')') && code.ends_with(';'))
        };
        if open.last().is_some_and(ends)
            && let Some((_, name, lines)) = open.pop()
        {
            out.push((name, lines));
        }
    }
    out
}

/// `src/device/traits.rs` is the one table of what devices are like, and `src/device/compute.rs` the one reader of the
/// environment's word on kernels.
#[test]
fn what_a_device_is_like_is_asked_in_one_place() {
    const ASKING: [&str; 4] = ["starts_with(\"cuda", "starts_with(\"wgpu", "\"wgpu<wgsl>\"", "var(\"UPSTILL_KERNELS"];
    let mut wrong = Vec::new();
    for path in rust_files(&root().join("src")) {
        let name = path.strip_prefix(root().join("src")).unwrap().to_owned();
        if name.starts_with("device") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let asks = |line: &&str| ASKING.iter().any(|asking| line.contains(asking));
        wrong.extend(text.lines().filter(asks).map(|line| format!("src/{}: {}", name.display(), line.trim())));
    }
    assert!(wrong.is_empty(), "ask the table of src/device/traits.rs:\n{}", wrong.join("\n"));
}

/// rustdoc shows a comment away from its neighbours: one that goes on from the item before says nothing there.
#[test]
fn comments_stand_alone() {
    let mut wrong = Vec::new();
    for (path, text) in commented() {
        let mut before = "";
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_start();
            let begins = ["///", "//!"].iter().find(|mark| line.starts_with(**mark) && !before.starts_with(**mark));
            let words = begins.map_or("", |mark| line[mark.len()..].trim_start());
            if ["The same ", "And "].iter().any(|opening| words.starts_with(opening)) {
                wrong.push(format!("{}:{}: {words}", path.display(), number + 1));
            }
            before = line;
        }
    }
    assert!(wrong.is_empty(), "say what it is, without the comment before:\n{}", wrong.join("\n"));
}

/// Comments and documents are at most 120 characters wide; tables and code apart.
#[test]
fn prose_is_not_wide() {
    let mut wide = Vec::new();
    let documents = DOCUMENTS.iter().map(|name| root().join(name)).filter(|path| path.exists());
    let documents = documents.map(|path| (path.clone(), fs::read_to_string(path).unwrap()));
    for (path, text) in commented().into_iter().chain(documents) {
        let is_code = path.extension().is_some_and(|ending| ending == "rs");
        let mut is_fenced = false;
        for (number, line) in text.lines().enumerate() {
            let words = line.trim_start();
            let words = match is_code {
                true if !words.starts_with("//") => {
                    is_fenced = false;
                    continue;
                }
                true => words.trim_start_matches(['/', '!']).trim_start(),
                false => words,
            };
            if words.starts_with("```") {
                is_fenced = !is_fenced;
            }
            // A picture, or a command that is one word of the sentence, can't be broken.
            let is_prose =
                !is_fenced && words.contains(' ') && !["|", "![", "`", "*`"].iter().any(|start| words.starts_with(start));
            if is_prose && line.chars().count() > 120 {
                wide.push(format!("{}:{}: {} characters", path.display(), number + 1, line.chars().count()));
            }
        }
    }
    assert!(wide.is_empty(), "break these lines:\n{}", wide.join("\n"));
}

/// The files of Rust with comments that people read.
fn commented() -> Vec<(PathBuf, String)> {
    let folders = ["src", "web/src", "xtask/src", "tests", "shaders", "fuzz", "examples"].map(|name| root().join(name));
    let files = folders.iter().filter(|path| path.exists()).flat_map(|path| rust_files(path));
    files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = rust_files(&root().join("src"))
        .into_iter()
        .filter_map(|path| {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            (lines > 600).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split these rooms:\n{}", long.join("\n"));
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut before = "";
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let is_dependency = section.contains("dependencies") && line != section && line.contains(" = ") && !line.starts_with('#');
        // A comment may stand over several that belong together.
        assert!(!is_dependency || before.starts_with('#') || before.contains(" = "), "Cargo.toml: say why before: {line}");
        before = line;
    }
}

#[test]
fn the_readme_is_short_enough_to_finish() {
    let bytes = fs::metadata(root().join("README.md")).unwrap().len();
    assert!(bytes <= 8000, "README.md has {bytes} bytes: move details to the guide (src/guide), results to examples/results");
}

/// Links from one document of the repository to another: the target is there.
#[test]
fn links_between_documents_lead_somewhere() {
    if !is_checkout() {
        return;
    }
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let path = root().join(document);
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link)) {
            let target = link.split('#').next().unwrap();
            if !target.is_empty() && !target.starts_with("http") && !path.parent().unwrap().join(target).exists() {
                wrong.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "links to nothing:\n{}", wrong.join("\n"));
}

#[test]
fn what_the_documents_name_is_there() {
    if !is_checkout() {
        return;
    }
    for document in DOCUMENTS {
        let folder = root().join(document).parent().unwrap().to_owned();
        let text = fs::read_to_string(root().join(document)).unwrap();
        for word in text.split(|c: char| c.is_whitespace() || "`()<>,;\"'".contains(c)) {
            let word = word.trim_end_matches(['.', ':', '/']);
            let is_path = ["src/", "tests/", "examples/", "shaders/", "docs/"].iter().any(|start| word.starts_with(start));
            let known = word.contains('*') || word.contains("NAME") || root().join(word).exists() || folder.join(word).exists();
            assert!(!is_path || known, "{document} names {word}, which is not there");
        }
    }
}

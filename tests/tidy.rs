//! The house stays in order: imports run one way, and what the documents name is there.

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

/// `src/device/traits.rs` is the one table of what devices are like, and `src/device/compute.rs` the one reader of the environment's word
/// on kernels.
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

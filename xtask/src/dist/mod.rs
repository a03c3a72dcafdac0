//! `cargo xtask dist`: what is given out, in one go.
//!
//! A target's binary is compiled once: it is the wheel's, and the archive's. The compilers for other systems, and for a
//! glibc older than this machine's, come from PyPI (`ziglang`), as does what makes wheels (`maturin`); both go into a
//! virtual environment of their own.

mod archive;
mod tools;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, done, root, target_folder, web};
use archive::{Entry, Kind, sums, write_archive};
use tools::Tools;

const HELP: &str = "\
Builds what is given out: wheels, archives, shell completions, man pages, the page, checksums.

  cargo xtask dist [--out DIR] [--parts PARTS] [--targets TARGETS] [--native] [--trial]

  --out DIR          where it goes; target/dist unless given
  --parts PARTS      of wheel,archive,shell,page,cuda, with commas; all unless given. `cuda` is the wheel upstill-cuda, which takes an LLVM
                     to build and twice as long; without one it is left out, and that is said
  --targets TARGETS  Rust's names, with commas: aarch64-unknown-linux-gnu, x86_64-pc-windows-gnu, aarch64-apple-darwin (which
                     links on a Mac, or where SDKROOT names Apple's SDK); this machine's unless given
  --native           for machines like this one: its own C compiler and glibc, no zig; takes what `cargo build --release` has compiled
  --trial            CPU alone and little optimised: whether it builds and starts, in minutes";

const PARTS: [&str; 5] = ["wheel", "archive", "shell", "page", "cuda"];

/// The oldest glibc that a Linux wheel runs on: that of Debian 10, RHEL 8 and Ubuntu 18.10.
const OLDEST_GLIBC: &str = "manylinux_2_28";

struct Options {
    out: PathBuf,
    parts: Vec<String>,
    targets: Vec<String>,
    is_native: bool,
    is_trial: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut options = Options {
            out: target_folder().join("dist"),
            parts: PARTS.map(str::to_owned).to_vec(),
            targets: vec![host()?],
            is_native: false,
            is_trial: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n\n{HELP}"));
            match arg.as_str() {
                "--out" => options.out = value()?.into(),
                "--parts" => options.parts = list(value()?),
                "--targets" => options.targets = list(value()?),
                "--native" => options.is_native = true,
                "--trial" => options.is_trial = true,
                _ => return Err(format!("unknown argument {arg}\n\n{HELP}").into()),
            }
        }
        if let Some(unknown) = options.parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
            return Err(format!("there is no part {unknown}; there are {}", PARTS.join(", ")).into());
        }
        if options.is_native && options.targets != [host()?] {
            return Err("--native builds for this machine alone: leave --targets out".into());
        }
        Ok(options)
    }

    fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|asked| asked == part)
    }
}

pub fn dist(args: impl Iterator<Item = String>) -> Result<()> {
    let options = Options::parse(args)?;
    fs::create_dir_all(&options.out)?;
    let mut made = Vec::new();
    if options.has("wheel") || options.has("archive") || options.has("shell") {
        let tools = Tools::install(!options.is_native)?;
        let built = options.targets.iter().map(|target| build(&tools, &options, target)).collect::<Result<Vec<_>>>()?;
        let shell = shell_files(&built)?;
        if options.has("shell") {
            for entry in &shell {
                let path = options.out.join(&entry.path);
                fs::create_dir_all(path.parent().unwrap_or(&options.out))?;
                fs::write(path, &entry.bytes)?;
            }
        }
        for target in built {
            if options.has("archive") {
                made.push(archive(&options.out, &target, &shell)?);
            }
            if options.has("wheel") {
                made.push(target.wheel);
            } else {
                fs::remove_file(target.wheel)?;
            }
        }
    }
    if options.has("cuda") {
        made.extend(cuda(&options)?);
    }
    if options.has("page") {
        web::compile()?;
        web::assemble(&options.out.join("page"))?;
    }
    fs::write(options.out.join("SHA256SUMS"), sums(&made)?)?;
    for file in &made {
        println!("{}: {:.1} MB", file.display(), fs::metadata(file)?.len() as f64 / 1e6);
    }
    println!("{}: checksums in SHA256SUMS", options.out.display());
    Ok(())
}

/// What was compiled for a target.
struct Built {
    target: String,
    wheel: PathBuf,
    /// The command's file name, and the file.
    name: String,
    binary: Vec<u8>,
}

fn build(tools: &Tools, options: &Options, target: &str) -> Result<Built> {
    let mut maturin = tools.command("maturin");
    maturin.current_dir(root()).args(["build", "--release"]);
    if !options.is_native {
        let _ = Command::new("rustup").args(["target", "add", target]).status();
        maturin.args(["--zig", "--target", target]);
        if target.contains("-linux-gnu") {
            maturin.args(["--compatibility", OLDEST_GLIBC]);
        }
    }
    if options.is_trial {
        // burn's CPU operations are half of what a build without GPUs costs.
        maturin.args(["--no-default-features", "--config", "profile.release.package.burn-flex.opt-level=0"]);
        maturin.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    }
    let wheel = wheel_of(&mut maturin, &options.out)?;
    let (name, binary) = archive::command_in(&wheel)?;
    Ok(Built { target: target.to_owned(), wheel, name, binary })
}

/// Has a wheel made, and takes it into the folder `out`.
fn wheel_of(maturin: &mut Command, out: &Path) -> Result<PathBuf> {
    let aside = out.join(".wheel");
    // What a build that was stopped has left.
    let _ = fs::remove_dir_all(&aside);
    done(maturin.arg("--out").arg(&aside))?;
    let wheel = fs::read_dir(&aside)?.next().ok_or("maturin wrote no wheel")??;
    let place = out.join(wheel.file_name());
    fs::rename(wheel.path(), &place)?;
    fs::remove_dir_all(&aside)?;
    Ok(place)
}

/// The wheel with CUDA, where it can be built: for machines like this one, since LLVM was compiled for its glibc.
fn cuda(options: &Options) -> Result<Option<PathBuf>> {
    let data = env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/share")));
    let bundles = data.and_then(|data| fs::read_dir(data.join("tracel")).ok()).into_iter().flatten().flatten();
    if !bundles.into_iter().any(|bundle| bundle.path().join(".tracel-llvm-installed").exists()) {
        println!("SKIPPED: the wheel with CUDA, as there is no LLVM to build it with (tests/cuda/llvm.sh lays one out)");
        return Ok(None);
    }
    let mut maturin = Tools::install(false)?.command("maturin");
    maturin.current_dir(cuda_project()?).args(["build", "--release"]);
    wheel_of(&mut maturin, &options.out).map(Some)
}

/// The wheel's project under the other name: a package has one name, and the two wheels have all else in common.
fn cuda_project() -> Result<PathBuf> {
    let folder = target_folder().join("dist-cuda");
    let module = folder.join("python/upstill");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&module)?;
    for file in fs::read_dir(root().join("python/upstill"))? {
        let file = file?;
        if file.file_type()?.is_file() {
            fs::copy(file.path(), module.join(file.file_name()))?;
        }
    }
    for name in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        fs::copy(root().join(name), folder.join(name))?;
    }
    let project = fs::read_to_string(root().join("pyproject.toml"))?;
    fs::write(folder.join("pyproject.toml"), with_cuda(&project, &root().join("Cargo.toml"))?)?;
    Ok(folder)
}

/// `pyproject.toml` as that of `upstill-cuda`.
fn with_cuda(project: &str, manifest: &Path) -> Result<String> {
    let (name, table) = ("\nname = \"upstill\"\n", "\n[tool.maturin]\n");
    if !project.contains(name) || !project.contains(table) {
        return Err("pyproject.toml has no name or no [tool.maturin]".into());
    }
    let built = format!("{table}manifest-path = '{}'\nmodule-name = \"upstill\"\nfeatures = [\"cuda\"]\n", manifest.display());
    Ok(project.replace(name, "\nname = \"upstill-cuda\"\n").replace(table, &built))
}

/// Completions and man pages, as the first of the binaries that runs here writes them: they are the same on every
/// system.
fn shell_files(built: &[Built]) -> Result<Vec<Entry>> {
    let folder = target_folder().join("dist-shell");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("man"))?;
    for target in built {
        let command = folder.join(&target.name);
        fs::write(&command, &target.binary)?;
        archive::make_executable(&command)?;
        if !Command::new(&command).arg("--version").output().is_ok_and(|output| output.status.success()) {
            continue;
        }
        let mut entries = Vec::new();
        for (shell, name) in [("bash", "upstill.bash"), ("zsh", "_upstill"), ("fish", "upstill.fish")] {
            let output = Command::new(&command).args(["completions", shell]).output()?;
            if !output.status.success() {
                return Err(format!("upstill completions {shell}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
            entries.push(Entry::file(format!("completions/{name}"), output.stdout));
        }
        done(Command::new(&command).arg("man").arg(folder.join("man")))?;
        for page in fs::read_dir(folder.join("man"))? {
            let page = page?;
            entries.push(Entry::file(format!("man/{}", page.file_name().display()), fs::read(page.path())?));
        }
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        return Ok(entries);
    }
    println!("SKIPPED: completions and man pages, as none of these targets runs here");
    Ok(Vec::new())
}

/// The archive of a target, named as `cargo binstall` looks for it.
fn archive(out: &Path, built: &Built, shell: &[Entry]) -> Result<PathBuf> {
    let mut entries = vec![Entry::command(built.name.clone(), built.binary.clone())];
    for name in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        entries.push(Entry::file(name.to_owned(), fs::read(root().join(name))?));
    }
    let mut run_files = fs::read_dir(root().join("examples"))?.collect::<std::io::Result<Vec<_>>>()?;
    run_files.sort_by_key(fs::DirEntry::file_name);
    for file in run_files.iter().map(fs::DirEntry::path).filter(|path| path.extension().is_some_and(|ending| ending == "toml")) {
        entries.push(Entry::file(format!("examples/{}", file.file_name().unwrap_or_default().display()), fs::read(&file)?));
    }
    entries.extend_from_slice(shell);
    let folder = format!("upstill-{}-v{}", built.target, env!("CARGO_PKG_VERSION"));
    let kind = if built.target.contains("windows") { Kind::Zip } else { Kind::Tgz };
    let path = out.join(format!("{folder}.{}", kind.ending()));
    write_archive(&path, kind, &folder, &entries)?;
    Ok(path)
}

/// Rust's name for this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("--version").arg("--verbose").output()?;
    let words = String::from_utf8(output.stdout)?;
    Ok(words.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc does not say what its host is")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wheel_with_cuda_is_the_other_ones_project_by_another_name() {
        let project = fs::read_to_string(root().join("pyproject.toml")).unwrap();
        let cuda = with_cuda(&project, Path::new("/x/Cargo.toml")).unwrap();
        assert!(cuda.contains("name = \"upstill-cuda\"\n") && cuda.contains("manifest-path = '/x/Cargo.toml'\n"), "{cuda}");
        assert_eq!(cuda.lines().count(), project.lines().count() + 3);
        with_cuda("[project]\nname = \"other\"\n", Path::new("x")).unwrap_err();
    }

    #[test]
    fn what_is_asked_for_has_to_be_there() {
        let parse = |line: &str| Options::parse(line.split_whitespace().map(str::to_owned)).map(|options| options.parts);
        assert_eq!(parse("--parts wheel,page").unwrap(), ["wheel", "page"]);
        assert_eq!(parse("").unwrap(), PARTS);
        let said = |line: &str| parse(line).unwrap_err().to_string();
        assert!(said("--parts wheels").contains("there is no part wheels; there are wheel, archive"));
        assert!(said("--native --targets x86_64-pc-windows-gnu").contains("leave --targets out"));
        assert!(said("--out").contains("--out needs a value"));
    }
}

//! `cargo xtask web`: the browser page.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Result, done, root, serve, target_folder};

const HELP: &str = "\
Builds the browser page, and serves it.

  cargo xtask web [--out DIR] [--serve [PORT]]

  --out DIR       where it goes; target/web-page unless given
  --serve [PORT]  serves it on localhost afterwards, on port 8000 unless given
  --no-build      takes the WebAssembly that was compiled last";

pub fn web(args: impl Iterator<Item = String>) -> Result<()> {
    let mut args = args.peekable();
    let (mut out, mut port, mut compiles) = (target_folder().join("web-page"), None, true);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--out" => out = args.next().ok_or("--out needs a folder")?.into(),
            "--no-build" => compiles = false,
            "--serve" => {
                port = Some(8000);
                if let Some(given) = args.peek().and_then(|next| next.parse().ok()) {
                    port = Some(given);
                    args.next();
                }
            }
            _ => return Err(format!("unknown argument {arg}\n\n{HELP}").into()),
        }
    }
    if compiles {
        compile()?;
    }
    assemble(&out)?;
    match port {
        Some(port) => serve::serve(&out, port),
        None => Ok(()),
    }
}

/// The page's folder from the WebAssembly that was compiled last.
pub fn assemble(out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    bind(&out.join("pkg"))?;
    copy_page(out)?;
    pack(out)
}

const TARGET: &str = "wasm32-unknown-unknown";

/// The Rust part, as WebAssembly.
pub fn compile() -> Result<()> {
    // Without rustup the target must be there already; cargo says so if it isn't.
    let _ = Command::new("rustup").args(["target", "add", TARGET]).status();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    done(Command::new(cargo).current_dir(root()).args([
        "build",
        "-p",
        "upstill-web",
        "--lib",
        "--profile",
        "web",
        "--target",
        TARGET,
    ]))
}

/// The WebAssembly and the JavaScript that loads it.
fn bind(pkg: &Path) -> Result<()> {
    let wasm = target_folder().join(TARGET).join("web").join("upstill_web.wasm");
    let mut bindings = wasm_bindgen_cli_support::Bindgen::new();
    bindings.input_path(&wasm).web(true)?.typescript(false).remove_name_section(true).remove_producers_section(true);
    bindings.generate(pkg)?;
    Ok(())
}

/// The page's own files, and the style of the reports' figures.
fn copy_page(out: &Path) -> Result<()> {
    for entry in fs::read_dir(root().join("web/page"))? {
        let path = entry?.path();
        fs::copy(&path, out.join(path.file_name().expect("an entry has a name")))?;
    }
    fs::copy(root().join("src/study/figure/figure.css"), out.join("figure.css"))?;
    Ok(())
}

/// Writes each file's Brotli form beside it, for the server to send, and says what there is.
fn pack(out: &Path) -> Result<()> {
    let (mut raw, mut packed) = (0, 0);
    for folder in [out.to_owned(), out.join("pkg")] {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if !path.is_file() || path.extension().is_some_and(|ending| ending == "br") {
                continue;
            }
            let bytes = fs::read(&path)?;
            let mut small = Vec::new();
            // The second best quality: the best takes a minute for a tenth less.
            let settings = brotli::enc::BrotliEncoderParams { quality: 9, ..Default::default() };
            brotli::BrotliCompress(&mut bytes.as_slice(), &mut small, &settings)?;
            if path.extension().is_some_and(|ending| ending == "wasm") {
                println!("{}: {} bytes, {} compressed", path.display(), bytes.len(), small.len());
            }
            (raw, packed) = (raw + bytes.len(), packed + small.len());
            let mut name = path.into_os_string();
            name.push(".br");
            fs::write(name, small)?;
        }
    }
    println!("{}: {:.2} MB in all, {:.2} MB compressed (Brotli)", out.display(), raw as f64 / 1e6, packed as f64 / 1e6);
    Ok(())
}

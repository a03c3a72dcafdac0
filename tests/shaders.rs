//! Every shader is valid WGSL as it stands, within WebGPU's default limits, and has its definition beside it. No GPU
//! needed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, TypeInner};

use crate::page::{browser, serve};

fn shaders() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut shaders: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|ending| ending == "wgsl")).collect();
    shaders.sort();
    shaders
}

fn parse(path: &Path) -> Module {
    let source = fs::read_to_string(path).unwrap();
    naga::front::wgsl::parse_str(&source).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&source)))
}

#[test]
fn every_shader_is_valid_and_has_its_definition() {
    assert!(!shaders().is_empty());
    for path in shaders() {
        let module = parse(&path);
        // No capability beyond the baseline: no f16, no subgroups.
        let checked = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module);
        checked.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        let twin = path.with_extension("rs");
        let definition = fs::read_to_string(&twin).unwrap_or_else(|_| panic!("add {} with `pub fn reference`", twin.display()));
        assert!(definition.contains("pub fn reference") && definition.contains("pub fn cases"), "{}", twin.display());
    }
}

#[test]
fn every_shader_keeps_within_the_limits_that_all_devices_have() {
    for path in shaders() {
        let module = parse(&path);
        let bytes = |space: AddressSpace| -> u32 {
            let variables = module.global_variables.iter().filter(|(_, variable)| variable.space == space);
            variables.map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx())).sum()
        };
        assert!(bytes(AddressSpace::WorkGroup) <= 16 << 10, "{}: workgroup memory", path.display());
        let entry = &module.entry_points[0];
        assert_eq!((module.entry_points.len(), entry.name.as_str()), (1, "main"), "{}", path.display());
        assert!(entry.workgroup_size.iter().product::<u32>() <= 256, "{}: invocations", path.display());
    }
}

#[test]
fn the_loss_has_the_bindings_that_its_launch_gives() {
    let module = parse(&Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders/dwt_loss.wgsl"));
    let mut bindings: Vec<(u32, String)> = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding else { continue };
        // Tensors may lie in one buffer, which can't be bound for reading and for writing at once.
        assert!(matches!(variable.space, AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE)));
        let inner = match &module.types[variable.ty].inner {
            TypeInner::Array { base, .. } => format!("[{:?}]", module.types[*base].inner.scalar_kind().unwrap()),
            other => format!("{} bytes", other.size(module.to_ctx())),
        };
        bindings.push((binding.binding, format!("{} {inner}", variable.name.as_deref().unwrap())));
    }
    bindings.sort();
    let listed: Vec<String> = bindings.into_iter().map(|(number, about)| format!("{number} {about}")).collect();
    insta::assert_snapshot!(listed.join("\n"), @"
    0 student_mv [Float]
    1 teacher_mv [Float]
    2 labels_m [Sint]
    3 weights_m [Float]
    4 gradient_mv [Float]
    5 losses_m2 [Float]
    6 params 28 bytes
    ");
    assert_eq!(module.entry_points[0].workgroup_size, [256, 1, 1]);
}

/// A page that compiles shaders with the browser's own compiler (Tint in Chromium) and posts what it says of them.
const PAGE: &str = r#"<!doctype html><title>shaders</title><script>
(async () => {
  const adapter = await navigator.gpu?.requestAdapter();
  const device = await adapter?.requestDevice();
  const said = device ? [] : ["no WebGPU"];
  for (const [name, code] of device ? Object.entries(SHADERS) : []) {
    const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
    messages.forEach(({ lineNum, type, message }) => said.push(`${name}:${lineNum}: ${type}: ${message}`));
  }
  return said.length ? said.join("\n") : "all valid";
})().catch(String).then((body) => fetch("/said", { method: "POST", body }));
</script>"#;

/// naga and Tint disagree at times: on what is uniform control flow, on a literal just above the largest f32.
#[test]
#[ignore = "needs a browser with WebGPU: UPSTILL_TEST_BROWSER=chromium cargo test -- --ignored shaders"]
fn a_browser_takes_every_shader() {
    let program = std::env::var("UPSTILL_TEST_BROWSER").expect("UPSTILL_TEST_BROWSER names the browser");
    let profile = tempfile::tempdir().unwrap();
    let sources: serde_json::Map<String, serde_json::Value> = shaders()
        .iter()
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap().into()))
        .collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The page reports by itself: `--dump-dom` does not wait for a GPU, whatever its time budget.
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let mut running = browser(&program, profile.path(), &address, Stdio::null());
    let page = PAGE.replace("SHADERS", &serde_json::Value::from(sources).to_string());
    let file = |path: &str| Some(if path == "/" { page.clone().into_bytes() } else { Vec::new() });
    let posted = serve(&listener, file, "/said", Duration::from_secs(120));
    running.kill().unwrap();
    running.wait().unwrap();
    let said = posted.get("/said").map_or("no answer within 120 s".into(), |said| String::from_utf8_lossy(said).into_owned());
    assert_eq!(said, "all valid");
}

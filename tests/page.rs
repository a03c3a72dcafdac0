//! The page in a real browser: it trains what the command trains, survives a reload, and says what is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use upstill::log::StepRecord;

use crate::close::{Kind, close};
use crate::common::steps;

/// What a browser is started with so that it has WebGPU on a machine without a GPU; shared with the test of the
/// shaders.
pub fn browser(program: &str, profile: &Path, address: &str, log: Stdio) -> Child {
    Command::new(program)
        .args(["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-gpu-watchdog"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        // The first is what gives a machine without a GPU an adapter at all.
        .args(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"])
        // The page's own complaints, on standard error.
        .args(["--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(address)
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Gives out `files` by path, and collects what is posted under its path, until `last` is posted or time is up.
pub fn serve(
    listener: &TcpListener,
    file: impl Fn(&str) -> Option<Vec<u8>>,
    last: &str,
    patience: Duration,
) -> BTreeMap<String, Vec<u8>> {
    let end = Instant::now() + patience;
    let mut posted = BTreeMap::new();
    listener.set_nonblocking(true).unwrap();
    while Instant::now() < end && !posted.contains_key(last) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        // A browser may open a connection that it does not use.
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && request.read_line(&mut head).is_ok_and(|bytes| bytes > 0) {}
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if head.is_empty() || request.read_exact(&mut body).is_err() {
            continue;
        }
        let path = head.split(' ').nth(1).unwrap_or("/").split('?').next().unwrap_or("/").to_owned();
        let found = if head.starts_with("GET ") { file(&path) } else { Some(Vec::new()) };
        let (status, answer) = found.map_or(("404 Not Found", Vec::new()), |bytes| ("200 OK", bytes));
        // It may have gone away meanwhile.
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            mime(&path),
            answer.len()
        );
        let _ = stream.write_all(&answer);
        if head.starts_with("POST ") {
            posted.insert(path, body);
        }
    }
    posted
}

fn mime(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("wasm") => "application/wasm",
        _ => "text/html; charset=utf-8",
    }
}

/// Counts what a worker asks of its GPU, and tells it when asked for `counts`.
const COUNTING: &str = r#"
const counts = { pipelines: 0, letters: 0, kernels: 0 };
const counted = (prototype, name, count) => {
  const plain = prototype[name];
  prototype[name] = function (...how) { count(...how); return plain.apply(this, how); };
};
counted(GPUDevice.prototype, "createShaderModule", ({ code }) => { counts.letters += code.length; });
counted(GPUDevice.prototype, "createComputePipeline", () => { counts.pipelines += 1; });
counted(GPUComputePassEncoder.prototype, "dispatchWorkgroups", () => { counts.kernels += 1; });
self.addEventListener("message", ({ data }) => { if (data.kind === "counts") postMessage({ kind: "counts", counts }); });
"#;

/// A file of the page; below `no-gpu/`, `full/` and `lost/` that of a page to which this has happened, below `counted/`
/// that of one whose worker is counted.
fn altered(page: &Path, path: &str) -> Option<Vec<u8>> {
    let fates = ["no-gpu", "full", "lost", "counted"];
    let (fate, name) = path.split_once('/').filter(|(fate, _)| fates.contains(fate)).unwrap_or(("", path));
    let bytes = fs::read(page.join(name)).ok()?;
    let replaced = |from: &str, to: &str| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(from), "{name} has no {from}");
        Some(text.replacen(from, to, 1).into_bytes())
    };
    match (fate, name) {
        ("no-gpu", "index.html") => replaced("<head>", "<head><script>delete Navigator.prototype.gpu</script>"),
        ("full", "store.js") => replaced(
            "export const keepSession =",
            "export const keepSession = async () => { throw new DOMException(\"full on purpose\", \"QuotaExceededError\"); };\nconst once =",
        ),
        ("counted", "worker.js") => replaced("let lab = null", &format!("{COUNTING}let lab = null")),
        ("lost", "worker.js") => replaced(
            "let lab = null",
            "const request = GPUAdapter.prototype.requestDevice;
            GPUAdapter.prototype.requestDevice = async function (...how) { return (self.gpuDevice = await request.apply(this, how)); };
            self.addEventListener(\"message\", ({ data }) => { if (data.kind === \"lose\") self.gpuDevice.destroy(); });
            let lab = null",
        ),
        _ => Some(bytes),
    }
}

fn unpack(archive: &[u8], into: &Path) {
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    archive.extract(into).unwrap();
}

/// The command, in a folder; its run must end well.
fn train(folder: &Path, run: &str, more: &[&str]) {
    let file = format!("{run}.toml");
    let done = Command::new(env!("CARGO_BIN_EXE_upstill"))
        .args(["train", &file, "--device", "cpu"])
        .args(more)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(done.status.success(), "{run}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The command's own runs of an archive's run files, in a folder beside.
fn native(saved: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for run in ["teacher", "alone", "distilled"] {
        fs::copy(saved.join(format!("{run}.toml")), folder.path().join(format!("{run}.toml"))).unwrap();
    }
    let data = saved.join("data");
    if data.exists() {
        fs::create_dir(folder.path().join("data")).unwrap();
        for entry in fs::read_dir(&data).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join("data").join(path.file_name().unwrap())).unwrap();
        }
    }
    ["teacher", "alone", "distilled"].iter().for_each(|run| train(folder.path(), run, &[]));
    folder
}

fn same_losses(found: &Path, wanted: &Path, kind: Kind) {
    for run in ["teacher", "alone", "distilled"] {
        let [found, wanted] = [found, wanted].map(|folder| steps(&folder.join("runs").join(run)));
        assert_eq!(found.len(), wanted.len(), "{run}");
        let numbers = |steps: &[StepRecord]| -> Vec<f64> {
            let of = |step: &StepRecord| {
                [Some(step.loss), Some(step.loss_hard), step.held_out_loss].into_iter().flatten().collect::<Vec<_>>()
            };
            steps.iter().flat_map(of).collect()
        };
        let soft = |steps: &[StepRecord]| -> Vec<f64> { steps.iter().filter_map(|step| step.loss_soft).collect() };
        println!("{run}: {:?}\n  for {:?}", numbers(&found), numbers(&wanted));
        close(&numbers(&found), &numbers(&wanted), kind);
        // Young students are close to their teacher: the soft loss is a small difference there.
        close(&soft(&found), &soft(&wanted), Kind::LossGpu);
    }
}

#[test]
#[ignore = "needs a browser with WebGPU and the built page: UPSTILL_TEST_BROWSER=chromium UPSTILL_TEST_PAGE=target/web-page cargo test -- --ignored page::"]
fn the_page_trains_what_the_command_trains() {
    let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let (program, page) = (of("UPSTILL_TEST_BROWSER"), of("UPSTILL_TEST_PAGE"));
    let (page, profile) = (PathBuf::from(page), tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = profile.path().join("console.txt");
    let address = format!("http://{}/drive.html", listener.local_addr().unwrap());
    let mut running = browser(&program, profile.path(), &address, fs::File::create(&log).unwrap().into());
    let file = |path: &str| match path {
        "/drive.html" => Some(include_bytes!("page/drive.html").to_vec()),
        path => altered(&page, path.trim_start_matches('/')),
    };
    let posted = serve(&listener, file, "/end", Duration::from_secs(1500));
    running.kill().unwrap();
    running.wait().unwrap();

    let text = |name: &str| String::from_utf8_lossy(posted.get(name).map_or(b"(nothing)", Vec::as_slice)).into_owned();
    assert!(posted.contains_key("/end") && !posted.contains_key("/failed"), "{}", text("/failed"));
    let log = fs::read_to_string(log).unwrap();
    // A GPU that is taken away on purpose is complained about.
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE") && !line.contains("/lost/")).collect();
    assert!(complaints.is_empty(), "the page complains:\n{}", complaints.join("\n"));
    for device in ["cpu", "wgpu"] {
        println!("{device}: {} {}", text(&format!("/timing-{device}")), text(&format!("/seen-{device}")));
    }
    // Compiling is most of the first step's time on a software GPU: some 30 ms a short kernel, a second one of burn's
    // products.
    let counts: BTreeMap<String, u64> = serde_json::from_slice(&posted["/counts"]).unwrap();
    println!("the first step of the teacher, with an evaluation: {counts:?}");
    assert!(counts["pipelines"] <= 60 && counts["letters"] <= 200_000 && counts["kernels"] <= 500, "{counts:?}");
    assert!(text("/seen-wgpu").contains("WebGPU") && text("/seen-cpu").contains("ahead") | text("/seen-cpu").contains("level"));

    let unpacked = |name: &str| {
        let folder = tempfile::tempdir().unwrap();
        unpack(&posted[name], folder.path());
        folder
    };
    // The same numbers on both of the browser's devices as natively.
    let cpu = unpacked("/session-cpu");
    let wanted = native(cpu.path());
    same_losses(cpu.path(), wanted.path(), Kind::LossAfterSteps);
    let wgpu = unpacked("/session-wgpu");
    same_losses(wgpu.path(), native(wgpu.path()).path(), Kind::LossAfterStepsGpu);
    // Causal models likewise, which go on with a text.
    for (device, kind) in [("cpu", Kind::LossAfterSteps), ("wgpu", Kind::LossAfterStepsGpu)] {
        let causal = unpacked(&format!("/session-causal-{device}"));
        same_losses(causal.path(), native(causal.path()).path(), kind);
        let seen = text(&format!("/written-{device}"));
        let told: serde_json::Value = serde_json::from_str(&seen).unwrap();
        let beginning = told["beginning"].as_str().unwrap().to_lowercase();
        let written: Vec<&str> = told["written"].as_array().unwrap().iter().filter_map(|text| text.as_str()).collect();
        assert!(written.len() == 3 && written.iter().all(|text| text.len() > beginning.len()), "{seen}");
        assert_eq!((&told["unit"], &told["asked"]), (&"word".into(), &"The beginning of a text".into()), "{seen}");
    }
    // Saved half-way: gone on with after a reload, and by the command.
    let paused = unpacked("/session-paused");
    let wanted = native(paused.path());
    same_losses(unpacked("/session-resumed").path(), wanted.path(), Kind::LossAfterSteps);
    ["teacher", "alone", "distilled"].iter().for_each(|run| train(paused.path(), run, &["--resume"]));
    same_losses(paused.path(), wanted.path(), Kind::LossAfterSteps);
    // The visitor's own text, whose data goes with the runs.
    let own = unpacked("/session-own");
    same_losses(own.path(), native(own.path()).path(), Kind::LossAfterSteps);

    let check = text("/check");
    println!("{check}");
    assert!(!check.contains("FAILED") && check.matches(": ok, ").count() == 26, "{check}");
    assert!(text("/link").contains("layers=banana") && text("/link").contains("colour="), "{}", text("/link"));
    assert!(text("/mistake").contains("distill.soft"), "{}", text("/mistake"));
    assert!(text("/binary").contains("picture.png"), "{}", text("/binary"));
    assert!(text("/huge").contains("21 MB"), "{}", text("/huge"));
    assert!(text("/no-gpu").contains("offers no WebGPU"), "{}", text("/no-gpu"));
    assert!(text("/full").contains("full on purpose") && text("/full").contains("Save it as a file"), "{}", text("/full"));
    assert!(text("/lost").contains("on the CPU"), "{}", text("/lost"));
}

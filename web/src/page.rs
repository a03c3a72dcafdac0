//! The calls from JavaScript. Answers are JSON; errors are what the command would print.

use std::cell::OnceCell;

use upstill::device::{Device, DeviceKind};
use wasm_bindgen::prelude::*;

use crate::check::check_kernels;
use crate::session::Session;
use crate::settings::Settings;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

fn told(error: upstill::Error) -> JsError {
    JsError::new(&error.to_string())
}

/// Hands what the libraries complain about to the console: a shader that doesn't compile is only logged,
/// asynchronously.
struct ToConsole;

impl log::Log for ToConsole {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.level() <= log::Level::Error
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            console_error(&format!("{}: {}", record.target(), record.args()));
        }
    }

    fn flush(&self) {}
}

#[cfg(target_family = "wasm")]
unsafe extern "C" {
    /// What the linker makes of all code that runs before `main` elsewhere: CubeCL registers its operations there.
    /// Where nobody calls it, the linker puts the call before every single export, at 15 ms each.
    fn __wasm_call_ctors();
}

/// Called when the module is loaded.
#[wasm_bindgen(start)]
fn started() {
    // SAFETY: the first code of the module that runs, and once.
    #[cfg(target_family = "wasm")]
    unsafe {
        __wasm_call_ctors();
    }
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
    // A second logger is refused; there is none.
    if log::set_logger(&ToConsole).is_ok() {
        log::set_max_level(log::LevelFilter::Error);
    }
}

thread_local! {
    /// The browser's GPU can be asked for once.
    static GPU: OnceCell<burn::tensor::Device> = const { OnceCell::new() };
}

/// `cpu`, or `wgpu` for the GPU that the browser offers.
async fn device(wanted: &str) -> Result<Device, JsError> {
    if wanted != "wgpu" {
        return Ok(Device { name: "1 thread of WebAssembly".into(), ..Device::cpu("in the page") });
    }
    let handle = match GPU.with(|gpu| gpu.get().cloned()) {
        Some(handle) => handle,
        None => {
            let handle = web_gpu().await.map_err(told)?;
            GPU.with(|gpu| gpu.get_or_init(|| handle).clone())
        }
    };
    Ok(Device { handle, kind: DeviceKind::Wgpu, name: "WebGPU".into(), why: "in the page".into() })
}

#[cfg(target_family = "wasm")]
use upstill::device::web_gpu;

/// On the host this crate is only tested, on the CPU.
#[cfg(not(target_family = "wasm"))]
async fn web_gpu() -> upstill::Result<burn::tensor::Device> {
    Err(upstill::Error::new("there is no browser here"))
}

/// A session, for the worker.
#[wasm_bindgen]
pub struct Lab {
    session: Session,
}

#[wasm_bindgen]
impl Lab {
    /// Before the first step; `settings` is JSON, `text` may be missing.
    pub async fn start(settings: String, text: Option<String>, on: String, read_every: usize) -> Result<Lab, JsError> {
        let settings = Settings::parse(&settings).map_err(told)?;
        let session = Session::new(settings, text.as_deref(), device(&on).await?, read_every).map_err(told)?;
        Ok(Lab { session })
    }

    /// Goes on with a saved archive.
    pub async fn open(packed: Vec<u8>, on: String, read_every: usize) -> Result<Lab, JsError> {
        Ok(Lab { session: Session::open(&packed, device(&on).await?, read_every).map_err(told)? })
    }

    /// One step of what is being trained: a `Turn`.
    pub async fn turn(&mut self) -> Result<String, JsError> {
        let turn = self.session.turn().await.map_err(told)?;
        Ok(serde_json::to_string(&turn)?)
    }

    /// `[[role, [[{token, probability}]]]]` for each model and `[MASK]`.
    pub async fn fill(&self, sentence: String, top: usize) -> Result<String, JsError> {
        Ok(serde_json::to_string(&self.session.fill(&sentence, top).await.map_err(told)?)?)
    }

    /// `[[role, text]]`: how each model goes on with a text.
    pub async fn write(&self, text: String, tokens: usize) -> Result<String, JsError> {
        Ok(serde_json::to_string(&self.session.write(&text, tokens).await.map_err(told)?)?)
    }

    /// The archive.
    pub async fn save(&mut self) -> Result<Vec<u8>, JsError> {
        self.session.save().await.map_err(told)
    }

    /// What is trained.
    pub fn about(&self) -> String {
        self.session.about().to_string()
    }

    /// Every record so far: `[[role, record]]`.
    pub fn records(&self) -> Result<String, JsError> {
        let of = |(role, run): (_, &upstill::train::MemoryRun)| {
            run.records().iter().map(move |record| (role, record.clone())).collect::<Vec<_>>()
        };
        Ok(serde_json::to_string(&self.session.runs().flat_map(of).collect::<Vec<_>>())?)
    }
}

/// Checks every kernel on a device: `[{name, cases, excess, worst}]`.
#[wasm_bindgen]
pub async fn check(on: String) -> Result<String, JsError> {
    let device = device(&on).await?;
    Ok(serde_json::to_string(&check_kernels(&device.handle).await.map_err(told)?)?)
}

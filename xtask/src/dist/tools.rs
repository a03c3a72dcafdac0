//! What `cargo xtask dist` takes from PyPI.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::{Result, done, target_folder};

/// Makes wheels.
const MATURIN: &str = "maturin==1.16.0";
/// A C compiler and linker for other systems, and for older versions of glibc.
const ZIG: &str = "ziglang==0.17.1";

/// A virtual environment with these tools, in the target folder.
pub struct Tools {
    environment: PathBuf,
}

impl Tools {
    pub fn install(with_zig: bool) -> Result<Self> {
        let tools = Self { environment: target_folder().join("dist-tools") };
        let python = tools.programs().join(format!("python{}", env::consts::EXE_SUFFIX));
        if !python.exists() {
            let python = if cfg!(windows) { "python" } else { "python3" };
            done(Command::new(python).args(["-m", "venv"]).arg(&tools.environment))?;
        }
        let wanted = if with_zig { vec![MATURIN, ZIG] } else { vec![MATURIN] };
        done(Command::new(python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(wanted))?;
        Ok(tools)
    }

    /// A program of the environment, which finds the others in it.
    pub fn command(&self, name: &str) -> Command {
        let mut path = vec![self.programs()];
        path.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
        let mut command = Command::new(self.programs().join(name));
        command.env("VIRTUAL_ENV", &self.environment);
        // A path with a colon in it can't be one of several.
        if let Ok(path) = env::join_paths(path) {
            command.env("PATH", path);
        }
        command
    }

    fn programs(&self) -> PathBuf {
        self.environment.join(if cfg!(windows) { "Scripts" } else { "bin" })
    }
}

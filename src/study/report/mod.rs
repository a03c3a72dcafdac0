//! The report: run directories and studies in, one HTML file and a terminal table out.

mod charts;
mod ends;
mod figure;
mod page;
mod read;
mod summary;
mod table;
mod words;

pub use figure::Figure;
pub use page::{figure_page, page};
pub use read::{Material, Run, read};
pub use summary::{SUMMARY_FILES, write_summary};
pub use table::terminal_table;

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files::{can_write, write_text};

/// Reads `dirs`, writes the report to `out` and returns what it shows.
///
/// # Errors
/// As [`read`] says, and when `out` can't be written; then an older report is as it was.
pub fn write_report(dirs: &[PathBuf], out: &Path) -> Result<Vec<Material>> {
    can_write(out)?;
    let materials = read(dirs)?;
    write_text(out, &page(&materials))?;
    Ok(materials)
}

//! Studies: grids of runs, their statistics, and the report.

pub mod figure;
pub mod report;
pub mod results;
pub mod statistics;

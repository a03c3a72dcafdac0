//! The results as tables, for the terminal and for the page.

use crate::log::clock;
use crate::study::figure::{escape, number};
use crate::study::results::{Arm, MeanSd, Study};
use crate::study::statistics::Difference;

/// A table of text: the first column is left-aligned, as are those that hold words.
pub(super) struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Row>,
}

pub(super) struct Row {
    pub cells: Vec<String>,
    pub best: bool,
    pub teacher: bool,
}

/// A head, and what stands below it for each arm.
type Column<'a> = (String, Box<dyn Fn(&Arm) -> String + 'a>);

/// The results aligned for a terminal: held-out losses, what they differ by, then task scores.
pub fn terminal_table(study: &Study) -> String {
    let mut out = aligned(&losses(study));
    if study.best().is_some() {
        out += "* the lowest; nats a masked token, ± standard deviation over seeds\n";
    }
    if let Some(more) = scores(study) {
        out += "\n";
        out += &aligned(&more);
    }
    out
}

/// Arm by arm: the held-out loss and its difference from the baseline's.
pub(super) fn losses(study: &Study) -> Table {
    let against = match study.has_references() {
        true => "− that of … [95 %]".to_owned(),
        false => study.baseline().map_or_else(String::new, |arm| format!("− {} [95 %]", arm.name)),
    };
    let reference = |arm: &Arm| study.reference(arm).filter(|_| study.has_references()).map(|arm| arm.name.clone());
    // What a run costs matters where it trains several models.
    let priced = study.arms.iter().any(|arm| arm.model.is_some());
    let price = move |cost: Option<f64>| cost.filter(|_| priced).map(flops).unwrap_or_default();
    let columns: Vec<Column> = vec![
        ("arm".into(), Box::new(|arm| arm.name.clone())),
        ("held-out loss".into(), Box::new(|arm| arm.held_out_loss.map_or("–".into(), |loss| spread(loss, 3)))),
        (against, Box::new(|arm| study.difference(arm).filter(|_| !arm.is_teacher).map(difference).unwrap_or_default())),
        ("compared with".into(), Box::new(move |arm| reference(arm).unwrap_or_default())),
        ("p".into(), Box::new(|arm| study.difference(arm).filter(|_| !arm.is_teacher).map(|d| p_value(d.p)).unwrap_or_default())),
        ("seeds".into(), Box::new(|arm| arm.seeds.to_string())),
        ("teacher".into(), Box::new(|arm| arm.teacher.clone().unwrap_or_default())),
        ("soft weight".into(), Box::new(|arm| arm.soft.clone().unwrap_or_default())),
        ("start".into(), Box::new(|arm| arm.start.clone().unwrap_or_default())),
        ("parameters".into(), Box::new(|arm| arm.parameters.map(|n| count(n as f64)).unwrap_or_default())),
        ("time a run".into(), Box::new(|arm| arm.seconds.map(time).unwrap_or_default())),
        ("FLOP a run".into(), Box::new(move |arm| price(arm.flops))),
        ("with its teacher's".into(), Box::new(move |arm| price(arm.flops_with_teacher))),
    ];
    table(study, columns)
}

/// Arm by arm: the score on each task; none where nothing was scored.
pub(super) fn scores(study: &Study) -> Option<Table> {
    let tasks = study.tasks();
    let score = |task: &str, arm: &Arm| arm.scores.get(task).map(|score| spread(*score, 3)).unwrap_or_default();
    let mut columns: Vec<Column> = vec![("arm".into(), Box::new(|arm| arm.name.clone()))];
    columns.extend(tasks.iter().map(|&task| -> Column<'_> { (task.into(), Box::new(move |arm| score(task, arm))) }));
    let mut table = table(study, columns);
    table.rows.retain(|row| row.cells[1..].iter().any(|cell| !cell.is_empty()));
    // The best of the other table: of scores, each task has its own.
    table.rows.iter_mut().for_each(|row| row.best = false);
    (!tasks.is_empty()).then_some(table)
}

/// Columns that are empty in every row are left out.
fn table(study: &Study, columns: Vec<Column>) -> Table {
    let columns: Vec<_> = columns.into_iter().filter(|(_, cell)| study.arms.iter().any(|arm| !cell(arm).is_empty())).collect();
    let best = study.best().map(|arm| arm.name.as_str());
    let row = |arm: &Arm| Row {
        cells: columns.iter().map(|(_, cell)| cell(arm)).collect(),
        best: best == Some(arm.name.as_str()),
        teacher: arm.is_teacher,
    };
    Table { rows: study.arms.iter().map(row).collect(), head: columns.into_iter().map(|(name, _)| name).collect() }
}

fn aligned(table: &Table) -> String {
    if table.head.is_empty() {
        return String::new();
    }
    let marked = |row: &Row| {
        let mut cells = row.cells.clone();
        cells[0] = format!("{} {}", if row.best { "*" } else { " " }, cells[0]);
        cells
    };
    let mut head = table.head.clone();
    head[0] = format!("  {}", head[0]);
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(table.rows.iter().map(marked)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
    let text = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).zip(&table.head).map(|((cell, &width), head)| match is_words(head) {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(text).collect()
}

pub(super) fn html(table: &Table, notes: impl Fn(usize) -> String) -> String {
    let class = |head: &str| if is_words(head) { "" } else { r#" class="n""# };
    let head: String = table.head.iter().map(|head| format!("<th scope=\"col\"{}>{}</th>", class(head), escape(head))).collect();
    let row = |(i, row): (usize, &Row)| {
        let cells = row.cells.iter().zip(&table.head).enumerate().map(|(column, (cell, head))| match column {
            0 => format!("<th scope=\"row\">{}{}</th>", escape(cell), notes(i)),
            _ => format!("<td{}>{}</td>", class(head), escape(cell)),
        });
        let kind = if row.best {
            r#" class="best""#
        } else if row.teacher {
            r#" class="teacher""#
        } else {
            ""
        };
        format!("<tr{kind}>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = table.rows.iter().enumerate().map(row).collect();
    let whole = if table.head.len() > 6 { r#" class="whole""# } else { "" };
    format!("<div class=\"wide\"><table{whole}><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>")
}

fn is_words(head: &str) -> bool {
    ["arm", "compared with", "teacher", "soft weight", "start"].contains(&head)
}

pub(super) fn spread(value: MeanSd, decimals: usize) -> String {
    match value.sd {
        Some(sd) => format!("{:.decimals$} ± {sd:.decimals$}", value.mean),
        None => format!("{:.decimals$}", value.mean),
    }
}

fn difference(found: Difference) -> String {
    format!("{} [{}, {}]", signed(found.mean), signed(found.interval.low), signed(found.interval.high))
}

/// Three decimals with a sign that is as wide as the other.
pub(super) fn signed(value: f64) -> String {
    let text = format!("{:.3}", value.abs());
    match value {
        _ if text.chars().all(|c| c == '0' || c == '.') => text,
        v if v < 0.0 => format!("−{text}"),
        _ => format!("+{text}"),
    }
}

pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".into() } else { format!("{p:.3}") }
}

pub(super) fn count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} B", v / 1e9),
        v if v >= 1e6 => format!("{:.1} M", v / 1e6),
        v if v >= 1e4 => format!("{:.0} k", v / 1e3),
        v => number(v),
    }
}

/// `9.51 T`: three digits.
fn flops(value: f64) -> String {
    let thousands = ((value.max(1.0).log10() / 3.0) as usize).min(6);
    let value = value / 1e3f64.powi(thousands as i32);
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", ["", "k", "M", "G", "T", "P", "E"][thousands])
}

pub(super) fn time(seconds: f64) -> String {
    clock(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_print() {
        assert_eq!([signed(-0.0431), signed(0.5), signed(-0.0001)], ["−0.043", "+0.500", "0.000"]);
        assert_eq!([p_value(0.0004), p_value(0.0321)], ["< 0.001", "0.032"]);
        assert_eq!([count(950.0), count(412_345.0), count(1.1e8)], ["950", "412 k", "110.0 M"]);
        assert_eq!(spread(MeanSd { mean: 3.9, sd: None }, 3), "3.900");
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let arm = Arm { name: "alone".into(), seeds: 1, ..Arm::default() };
        let study = Study { arms: vec![arm], ..Study::default() };
        insta::assert_snapshot!(terminal_table(&study), @r"
          arm    held-out loss  seeds
          alone              –      1
        ");
        assert_eq!(terminal_table(&Study::default()), "");
    }
}

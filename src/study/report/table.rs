//! The results as tables, for the terminal, the page and Markdown.

use crate::log::clock;
use crate::study::claims::{interval, p_value, percent, signed, whole};
use crate::study::comparison::EndPoint;
use crate::study::figure::{escape, number};
use crate::study::findings::{Comparison, Saved, Verdict};
use crate::study::results::{Arm, MeanSd, Study};

/// A table of text: the first column is left-aligned, as are those that hold words. A cell's second line is set small.
pub(super) struct Table {
    pub head: Vec<String>,
    pub rows: Vec<Row>,
}

#[derive(Default)]
pub(super) struct Row {
    pub cells: Vec<String>,
    pub best: bool,
    pub teacher: bool,
}

/// A head, and what stands below it for each arm.
type Column<'a> = (String, Box<dyn Fn(&Arm) -> String + 'a>);

/// The results aligned for a terminal: what was found in numbers and in sentences, other end points, what is saved, and
/// what the arms are.
pub fn terminal_table(study: &Study) -> String {
    let primary = study.primary();
    let mut out = aligned(&results(study));
    let claims = study.claims_at(&primary);
    if study.best().is_some() {
        let best = match primary.is_loss() {
            true => format!("lowest; {}", study.objective.loss_unit()),
            false => "highest".into(),
        };
        out += &format!("* the {best}, ± standard deviation over seeds\n");
    }
    if !claims.is_empty() {
        out += "\n";
        claims.iter().for_each(|claim| out += &format!("{}\n", claim.sentence));
    }
    let saved = study.all_saved();
    for more in [others(study, false), steps_saved(&saved), about(study), tuned(study)].into_iter().flatten() {
        out += "\n";
        out += &aligned(&more);
    }
    out
}

/// Arm by arm: the primary end point, its difference from the reference's, and what that is worth.
pub(super) fn results(study: &Study) -> Table {
    let primary = study.primary();
    let found = study.comparisons(&primary);
    let against = match study.has_references() {
        true => "− that of … [95 %]".to_owned(),
        false => study.baseline().map_or_else(String::new, |arm| format!("− {} [95 %]", arm.name)),
    };
    let of = |arm: &Arm, text: &dyn Fn(&Comparison) -> String| {
        found.iter().find(|found| found.arm == arm.name).map(text).unwrap_or_default()
    };
    let p_flip = |found: &Comparison| found.p_sign_flip.map(p_value).unwrap_or_default();
    let corrected = |found: &Comparison| if found.of > 1 { p_value(found.p_holm) } else { String::new() };
    let reference = |found: &Comparison| if study.has_references() { found.against.clone() } else { String::new() };
    let columns: Vec<Column> = vec![
        ("arm".into(), Box::new(|arm| arm.name.clone())),
        (primary.title(), Box::new(|arm| primary.mean(arm).map_or("–".into(), |loss| spread(loss, 3)))),
        (against, Box::new(|arm| of(arm, &difference))),
        ("compared with".into(), Box::new(|arm| of(arm, &reference))),
        ("p, t-test".into(), Box::new(|arm| of(arm, &|found| p_value(found.p)))),
        ("sign flips".into(), Box::new(|arm| of(arm, &p_flip))),
        ("Holm".into(), Box::new(|arm| of(arm, &corrected))),
        ("verdict".into(), Box::new(|arm| of(arm, &|found| found.verdict.word().into()))),
        ("seeds".into(), Box::new(|arm| arm.seeds.to_string())),
    ];
    table(study, columns)
}

/// Arm by arm: what it is, and what it costs.
pub(super) fn about(study: &Study) -> Option<Table> {
    // What a run costs matters where it trains several models.
    let priced = study.arms.iter().any(|arm| arm.model.is_some());
    let price = move |cost: Option<f64>| cost.filter(|_| priced).map(flops).unwrap_or_default();
    let columns: Vec<Column> = vec![
        ("arm".into(), Box::new(|arm| arm.name.clone())),
        ("teacher".into(), Box::new(|arm| arm.teacher.clone().unwrap_or_default())),
        ("soft weight".into(), Box::new(|arm| arm.soft.clone().unwrap_or_default())),
        ("start".into(), Box::new(|arm| arm.start.clone().filter(|_| arm.teacher.is_some()).unwrap_or_default())),
        ("parameters".into(), Box::new(|arm| arm.parameters.map(|n| count(n as f64)).unwrap_or_default())),
        ("time a run".into(), Box::new(|arm| arm.seconds.map(time).unwrap_or_default())),
        ("FLOP a run".into(), Box::new(move |arm| price(arm.flops))),
        ("with its teacher's".into(), Box::new(move |arm| price(arm.flops_with_teacher))),
    ];
    Some(plain(table(study, columns))).filter(|table| table.head.len() > 1)
}

/// Arm by arm: every end point but the primary; none where there is no other. `in_full` has each difference below its
/// mean.
pub(super) fn others(study: &Study, in_full: bool) -> Option<Table> {
    let primary = study.primary();
    let ends: Vec<(EndPoint, Vec<Comparison>)> = study
        .end_points()
        .into_iter()
        .filter(|end| *end != primary && study.arms.iter().any(|arm| end.mean(arm).is_some()))
        .map(|end| (end.clone(), study.comparisons(&end)))
        .collect();
    let cell = |end: &EndPoint, found: &[Comparison], arm: &Arm| {
        let mean = end.mean(arm).map(|mean| spread(mean, 3)).unwrap_or_default();
        match found.iter().find(|found| found.arm == arm.name) {
            Some(found) if in_full => format!("{mean}\n{} {}", difference(found), found.verdict.word()),
            Some(found) if found.verdict != Verdict::Undecided => format!("{mean} {}", found.verdict.word()),
            _ => mean,
        }
    };
    let mut columns: Vec<Column> = vec![("arm".into(), Box::new(|arm| arm.name.clone()))];
    let head = |end: &EndPoint| if end.is_loss() { end.title() } else { end.name.clone() };
    columns.extend(ends.iter().map(|(end, found)| -> Column<'_> { (head(end), Box::new(move |arm| cell(end, found, arm))) }));
    let mut table = plain(table(study, columns));
    table.rows.retain(|row| row.cells[1..].iter().any(|cell| !cell.is_empty()));
    (!ends.is_empty()).then_some(table)
}

/// Budget by budget: what arms need less than their references; none where nothing ended at several.
pub(super) fn steps_saved(saved: &[Saved]) -> Option<Table> {
    let students = saved.first()?.students;
    type Column<'a> = (String, &'a dyn Fn(&Saved) -> String);
    let columns: [Column; 8] = [
        ("arm".into(), &|row| row.arm.clone()),
        ("as good as".into(), &|row| format!("{}, {} steps", row.against, row.budget)),
        ("steps saved [95 %]".into(), &steps_or_why_not),
        ("FLOPs saved".into(), &|row| row.flops.map(percent).unwrap_or_default()),
        ("with the teacher's".into(), &|row| row.flops_with_teacher.map(percent).unwrap_or_default()),
        (format!("teacher shared by {students}"), &|row| row.flops_sharing_teacher.map(percent).unwrap_or_default()),
        ("pays from".into(), &|row| row.pays_from.map(|n| format!("{n} students")).unwrap_or_default()),
        ("seeds".into(), &|row| row.seeds.to_string()),
    ];
    let kept: Vec<_> = columns.iter().filter(|(_, cell)| saved.iter().any(|row| !cell(row).is_empty())).collect();
    let row = |saved: &Saved| Row { cells: kept.iter().map(|(_, cell)| cell(saved)).collect(), ..Row::default() };
    Some(Table { head: kept.iter().map(|(head, _)| head.clone()).collect(), rows: saved.iter().map(row).collect() })
}

fn steps_or_why_not(row: &Saved) -> String {
    let where_to = |count: u64, place: &str| (count > 0).then(|| format!("{place} in {count} of {}", row.seeds));
    match row.steps {
        Some(steps) => whole(steps),
        None => {
            [where_to(row.before_the_first, "before the first budget"), where_to(row.beyond_the_last, "beyond the last budget")]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", ")
        }
    }
}

/// Arm by arm: what was tuned, and what was tried; none where nothing was.
pub(super) fn tuned(study: &Study) -> Option<Table> {
    let head = ["arm", "key", "taken", "tried: loss on the tuning split", "on seeds"].map(str::to_owned).to_vec();
    let mut rows = Vec::new();
    for arm in &study.arms {
        for tuned in &arm.tuned {
            let one = |tried: &crate::study::results::Tried| {
                format!("{}: {}", tried.value, tried.loss.map_or("broke down".into(), |loss| format!("{loss:.3}")))
            };
            let tried: Vec<String> = tuned.tried.iter().map(one).collect();
            let seeds = tuned.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            let cells = vec![arm.name.clone(), tuned.key.clone(), tuned.chosen.clone(), tried.join(", "), seeds];
            rows.push(Row { cells, best: false, teacher: arm.is_teacher });
        }
    }
    (!rows.is_empty()).then_some(Table { head, rows })
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

/// Without a mark on the best, which is that of another table.
fn plain(mut table: Table) -> Table {
    table.rows.iter_mut().for_each(|row| row.best = false);
    table
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
    crate::words::aligned(&lines, |column| is_words(&table.head[column])).into_iter().map(|line| line + "\n").collect()
}

pub(super) fn html(table: &Table, notes: impl Fn(usize) -> String) -> String {
    let lines = |cell: &str| match cell.split_once('\n') {
        Some((first, second)) => format!("{}<small>{}</small>", escape(first), escape(second)),
        None => escape(cell),
    };
    let class = |head: &str| if is_words(head) { "" } else { r#" class="n""# };
    let head: String = table.head.iter().map(|head| format!("<th scope=\"col\"{}>{}</th>", class(head), escape(head))).collect();
    let row = |(i, row): (usize, &Row)| {
        let cells = row.cells.iter().zip(&table.head).enumerate().map(|(column, (cell, head))| match column {
            0 => format!("<th scope=\"row\">{}{}</th>", escape(cell), notes(i)),
            _ => format!("<td{}>{}</td>", class(head), lines(cell)),
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

/// The table as Markdown.
pub(super) fn markdown(table: &Table) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let safe = |cell: &String| plain_markdown(cell).replace('|', "\\|").replace('\n', "<br>");
    let rule = |head: &String| if is_words(head) { "---".to_owned() } else { "---:".to_owned() };
    let bold = |row: &Row| {
        let mut cells: Vec<String> = row.cells.iter().map(safe).collect();
        if row.best {
            cells[0] = format!("**{}**", cells[0]);
        }
        cells
    };
    let head = line(table.head.iter().map(safe).collect()) + &line(table.head.iter().map(rule).collect());
    head + &table.rows.iter().map(|row| line(bold(row))).collect::<String>()
}

/// Text in which nothing is a tag to a reader of Markdown; `p < 0.001` is none.
pub(super) fn plain_markdown(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.char_indices() {
        let opens = c == '<' && text[i + 1..].starts_with(|next: char| next.is_alphabetic() || "/!?".contains(next));
        out.push_str(if opens { "&lt;" } else { &text[i..i + c.len_utf8()] });
    }
    out
}

fn is_words(head: &str) -> bool {
    let words = ["arm", "compared with", "teacher", "soft weight", "start", "verdict", "as good as", "key", "taken"];
    words.contains(&head) || head.starts_with("tried")
}

pub(super) fn spread(value: MeanSd, decimals: usize) -> String {
    match value.sd {
        Some(sd) => format!("{:.decimals$} ± {sd:.decimals$}", value.mean),
        None => format!("{:.decimals$}", value.mean),
    }
}

fn difference(found: &Comparison) -> String {
    format!("{} {}", signed(found.difference), interval(found.interval))
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

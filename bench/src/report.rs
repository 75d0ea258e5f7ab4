//! What a run prints: lines for a reader, rows for a file, tables for documents.

use core::fmt::Write as _;

use crate::aims::{Against, Aim};
use crate::run::RowRun;
use crate::stats::{median, spread};
use crate::verdict::Verdict;

/// All contenders of a row: median, spread, rounds.
#[must_use]
pub fn of_row(run: &RowRun<'_>) -> String {
    let mut text = format!("\n{}  {} [{}]\n", run.row.id, run.row.what, run.row.unit);
    for line in &run.lines {
        let (best, worst) = spread(&line.figures);
        let _ = writeln!(
            text,
            "  {:<38} {:>10}  {:>10} to {:<10} {} rounds",
            line.contender.title(),
            figure(median(&line.figures)),
            figure(best),
            figure(worst),
            line.figures.len()
        );
    }
    text
}

/// What every table tells of a verdict: whose, its figure, against whom, that figure, the ratio, the aim, the share of the
/// limit.
fn cells(verdict: &Verdict) -> [String; 7] {
    [
        ours(verdict),
        figure(verdict.figure),
        verdict.other.to_string(),
        figure(verdict.other_figure),
        figure(verdict.ratio),
        aim(verdict),
        share(verdict),
    ]
}

/// The verdicts as lines.
#[must_use]
pub fn of_verdicts(all: &[Verdict], recorded: impl Fn(&Verdict) -> Option<f64>) -> String {
    let mut text = format!(
        "\n{:<9} {:<24} {:>9}  {:<34} {:>9} {:>8} {:>8} {:>7}\n",
        "row", "ours", "figure", "against", "figure", "ratio", "aim", "limit"
    );
    for verdict in all {
        let mark = match (verdict.is_met(), verdict.is_behind(recorded(verdict))) {
            (_, true) => "  BEHIND the recorded ratio",
            (true, false) => "",
            (false, false) => "  misses the aim",
        };
        let [ours, own, other, others, ratio, aim, share] = cells(verdict);
        let _ = writeln!(
            text,
            "{:<9} {ours:<24} {own:>9}  {other:<34} {others:>9} {ratio:>8} {aim:>8} {share:>7}{mark}",
            verdict.row
        );
    }
    text
}

/// Every contender's median and spread, a line each.
#[must_use]
pub fn csv(all: &[RowRun<'_>]) -> String {
    let mut text = "row,contender,variant,role,unit,median,best,worst,rounds\n".to_owned();
    for run in all {
        for line in &run.lines {
            let (one, (best, worst)) = (line.contender, spread(&line.figures));
            let middle = median(&line.figures);
            let (id, unit, rounds) = (run.row.id, run.row.unit, line.figures.len());
            let _ = writeln!(
                text,
                "{id},\"{}\",{},{:?},{unit},{middle:.6},{best:.6},{worst:.6},{rounds}",
                one.name, one.variant, one.role
            );
        }
    }
    text
}

/// The table of `docs/performance.md`: of what we hold against ourselves the farthest alone.
#[must_use]
pub fn markdown(all: &[Verdict], what: impl Fn(&str) -> &'static str) -> String {
    let mut text = "| row | what | ours | figure | against | figure | ratio | aim | of the limit |\n".to_owned();
    text.push_str("|---|---|---|---:|---|---:|---:|---:|---:|\n");
    for verdict in all.iter().filter(|verdict| is_told(verdict, all)) {
        let missed = if verdict.is_met() { "" } else { " **missed**" };
        let [ours, own, other, others, ratio, aim, share] = cells(verdict);
        let _ = writeln!(
            text,
            "| {} | {} | {ours} | {own} | {other} | {others} | {ratio} | {aim}{missed} | {share} |",
            verdict.row,
            what(verdict.row)
        );
    }
    text
}

/// Whether ours is held against somebody else's, or is the farthest of those that an aim holds against ours.
fn is_told(verdict: &Verdict, all: &[Verdict]) -> bool {
    let within = matches!(verdict.aim.against, Against::BestOfOurs | Against::Beside(_));
    let farther = |other: &Verdict| other.row == verdict.row && other.aim == verdict.aim && other.ratio > verdict.ratio;
    !within || !all.iter().any(farther)
}

/// A shorter table: for each row the worst of ours against the best peer.
#[must_use]
pub fn brief(all: &[Verdict], what: impl Fn(&str) -> &'static str) -> String {
    let mut text = "| row | what | best peer | ours | ratio |\n|---|---|---:|---:|---:|\n".to_owned();
    let mut last = "";
    for verdict in all.iter().filter(|verdict| is_against_peers(verdict) && !verdict.ours.is_empty()) {
        if verdict.row == last {
            continue;
        }
        last = verdict.row;
        let same = |other: &&Verdict| other.row == last && is_against_peers(other) && other.aim == verdict.aim;
        let worst = all.iter().filter(same).max_by(|a, b| a.ratio.total_cmp(&b.ratio)).unwrap_or(verdict);
        let _ = writeln!(
            text,
            "| {} | {} | {} ({}) | {} | {} |",
            worst.row,
            what(worst.row),
            figure(worst.other_figure),
            worst.other,
            figure(worst.figure),
            figure(worst.ratio)
        );
    }
    text
}

/// Whether the aim holds ours against somebody else's.
#[must_use]
pub fn is_against_peers(verdict: &Verdict) -> bool {
    matches!(verdict.aim.against, Against::BestPeer | Against::BestBare | Against::Named(_))
}

/// Our contender with its variant; who is missing, in brackets.
#[must_use]
pub fn ours(verdict: &Verdict) -> String {
    match (verdict.ours, verdict.aim.variant) {
        ("", "") => "(nobody)".to_owned(),
        ("", variant) => format!("(nobody, {variant})"),
        (ours, "") => ours.to_owned(),
        (ours, variant) => format!("{ours}, {variant}"),
    }
}

fn aim(verdict: &Verdict) -> String {
    let Aim { ratio, .. } = verdict.aim;
    format!("{}{}", if verdict.more { "≥ " } else { "≤ " }, figure(ratio))
}

fn share(verdict: &Verdict) -> String {
    verdict.share.map_or_else(String::new, |share| format!("{share:.0} %"))
}

/// A number with three significant digits, or a dash.
#[must_use]
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let whole = value.abs().max(1e-9).log10().floor() as i32;
    let digits = (2 - whole).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

/// `text` with what stands between the lines `begin` and `end` replaced by `new`; `None` if it has no such lines.
#[must_use]
pub fn between(text: &str, begin: &str, end: &str, new: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", new.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_dash_stands_for_none() {
        let all = [0.0081, 0.2456, 4.0, 21.94, 306.2, 34_873.1, 0.000_5].map(figure);
        assert_eq!(all, ["0.00810", "0.246", "4.00", "21.9", "306", "34873", "0.000500"]);
        assert_eq!(figure(f64::NAN), "–");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = "a\n<!-- x -->\nold\n<!-- y -->\nb\n";
        let new = between(text, "<!-- x -->", "<!-- y -->", "| 1 |\n");
        assert_eq!(new.as_deref(), Some("a\n<!-- x -->\n| 1 |\n<!-- y -->\nb\n"));
        assert_eq!(between("none", "<!-- x -->", "<!-- y -->", ""), None);
    }
}

//! What a run says about our aims.
//!
//! Each contender of ours gives one verdict for each aim of its row and variant; an aim for which nobody of ours runs
//! gives one without a figure, so that nothing is left out silently.

use crate::aims::{Against, Aim};
use crate::rows::Role;
use crate::run::{Line, RowRun};
use crate::stats::{SLACK, median, paired_ratio, share};

/// One contender of ours held against one aim.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    /// The row's id.
    pub row: &'static str,
    /// Our contender; empty if none runs for the aim.
    pub ours: &'static str,
    /// Median of its figures, in the row's unit.
    pub figure: f64,
    /// What the aim holds it against.
    pub other: String,
    /// Its median; not a number for an aim that is a figure.
    pub other_figure: f64,
    /// Ours to the other: median of the rounds' ratios where both ran side by side.
    pub ratio: f64,
    /// What we want.
    pub aim: Aim,
    /// Whether more is better.
    pub more: bool,
    /// How much of the row's limit ours reaches, in percent; none where the limit is another way's.
    pub share: Option<f64>,
}

impl Verdict {
    /// Whether the aim is reached.
    #[must_use]
    pub fn is_met(&self) -> bool {
        if self.more { self.ratio >= self.aim.ratio } else { self.ratio <= self.aim.ratio }
    }

    /// Whether ours is worse, against what stands beside it, than the recorded ratio allows.
    #[must_use]
    pub fn is_behind(&self, recorded: Option<f64>) -> bool {
        let worse = |recorded: f64| if self.more { recorded / self.ratio } else { self.ratio / recorded };
        recorded.is_some_and(|recorded| worse(recorded) > SLACK)
    }

    /// The name under which a ratio is recorded.
    #[must_use]
    pub fn key(&self) -> String {
        let variant = if self.aim.variant.is_empty() { "" } else { "/" };
        let against = match self.aim.against {
            Against::BestPeer => "best peer",
            Against::BestBare => "best peer without its lock",
            Against::Named(name) | Against::Beside(name) => name,
            Against::Own(row) => row,
            Against::BestOfOurs => "best of ours",
            Against::Figure => "figure",
        };
        format!("{}{variant}{};{};{against}", self.row, self.aim.variant, self.ours)
    }
}

/// The verdicts of all rows that ran.
#[must_use]
pub fn verdicts(all: &[RowRun<'_>]) -> Vec<Verdict> {
    all.iter().flat_map(|run| of_row(run, all)).collect()
}

fn of_row(run: &RowRun<'_>, all: &[RowRun<'_>]) -> Vec<Verdict> {
    let mut found = Vec::new();
    for &aim in run.row.aims {
        let ours = run.lines.iter().filter(|line| is_ours(line, aim.variant));
        let before = found.len();
        found.extend(ours.filter_map(|line| hold(run, line, aim, all)));
        if found.len() == before {
            found.push(nobody(run, aim));
        }
    }
    found
}

fn is_ours(line: &Line<'_>, variant: &str) -> bool {
    line.contender.role == Role::Ours && line.contender.variant == variant
}

fn nobody(run: &RowRun<'_>, aim: Aim) -> Verdict {
    Verdict {
        row: run.row.id,
        ours: "",
        figure: f64::NAN,
        other: String::new(),
        other_figure: f64::NAN,
        ratio: f64::NAN,
        aim,
        more: run.row.more,
        share: None,
    }
}

/// Holds `line` against what `aim` names; `None` if that did not run.
fn hold(run: &RowRun<'_>, line: &Line<'_>, aim: Aim, all: &[RowRun<'_>]) -> Option<Verdict> {
    let figure = median(&line.figures);
    let beside = |other: &Line<'_>| {
        let name = other.contender.name.to_owned();
        (name, median(&other.figures), paired_ratio(&line.figures, &other.figures))
    };
    let (other, other_figure, ratio) = match aim.against {
        Against::BestPeer => beside(best(run, |role| role == Role::Peer)?),
        Against::BestBare => beside(best(run, |role| matches!(role, Role::Peer | Role::Bare))?),
        Against::BestOfOurs => beside(best(run, |role| role == Role::Ours)?),
        Against::Named(name) | Against::Beside(name) => {
            beside(run.lines.iter().find(|other| other.contender.name == name)?)
        }
        Against::Own(row) => own(line, row, all)?,
        Against::Figure => (String::new(), f64::NAN, figure),
    };
    let limit = run.row.limit.filter(|_| run.row.limit_of.is_none_or(|variant| variant == aim.variant));
    let share = limit.map(|limit| if run.row.more { share(figure, limit) } else { share(limit, figure) });
    let (row, ours, more) = (run.row.id, line.contender.name, run.row.more);
    Some(Verdict { row, ours, figure, other, other_figure, ratio, aim, more, share })
}

/// The same contender in another row, which ran at another time.
fn own(line: &Line<'_>, row: &str, all: &[RowRun<'_>]) -> Option<(String, f64, f64)> {
    let other = all.iter().find(|run| run.row.id == row)?;
    let same = |other: &&Line<'_>| {
        other.contender.name == line.contender.name && other.contender.variant == line.contender.variant
    };
    let figure = median(&other.lines.iter().find(same)?.figures);
    Some((format!("ours in {row}"), figure, median(&line.figures) / figure))
}

/// The contender of these roles with the best median.
#[must_use]
pub fn best<'r, 'c>(run: &'r RowRun<'c>, is_asked: impl Fn(Role) -> bool) -> Option<&'r Line<'c>> {
    let those = run.lines.iter().filter(|line| is_asked(line.contender.role) && !line.figures.is_empty());
    let by_median = |a: &&Line<'_>, b: &&Line<'_>| median(&a.figures).total_cmp(&median(&b.figures));
    if run.row.more { those.max_by(by_median) } else { those.min_by(by_median) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aims::row;
    use crate::rows::Contender;

    fn one(row: &'static str, name: &'static str, role: Role) -> Contender {
        Contender::new(row, name, role, || 0.0)
    }

    fn run_of<'c>(id: &str, lines: &[(&'c Contender, &[f64])]) -> RowRun<'c> {
        let line = |&(contender, figures): &(&'c Contender, &[f64])| Line { contender, figures: figures.to_vec() };
        RowRun { row: row(id).unwrap(), lines: lines.iter().map(line).collect() }
    }

    #[test]
    fn an_aim_names_its_peer_with_or_without_lock() {
        let (locked, bare) = (one("F1", "slow", Role::Peer), one("F1", "quick", Role::Bare));
        let (linux, ours) = (one("F1", "linux-model", Role::Peer), one("F1", "mine", Role::Ours));
        let rows = [run_of("F1", &[(&locked, &[18.0]), (&bare, &[15.0]), (&linux, &[20.0]), (&ours, &[3.0])])];
        let all = verdicts(&rows);
        assert_eq!((all[0].other.as_str(), all[0].ratio, all[0].is_met()), ("quick", 0.2, true));
        assert_eq!((all[1].other.as_str(), all[1].ratio, all[1].is_met()), ("linux-model", 0.15, true));
        assert_eq!((all.len(), all[0].share), (2, Some(50.0)));
        let rows = [run_of("F3", &[(&locked, &[18.0]), (&bare, &[1.0]), (&ours, &[9.0])])];
        assert_eq!((verdicts(&rows)[0].other.as_str(), verdicts(&rows)[0].is_met()), ("slow", false));
    }

    #[test]
    fn where_more_is_better_the_bound_is_approached_from_below() {
        let (bound, ours) = (one("F7-50", "densest-first", Role::Bound), one("F7-50", "mine", Role::Ours));
        let met = |figure: f64| verdicts(&[run_of("F7-50", &[(&bound, &[300.0]), (&ours, &[figure])])])[0].is_met();
        assert!(met(288.0) && !met(287.0) && !met(f64::NAN));
    }

    #[test]
    fn an_aim_without_a_contender_is_told_and_not_met() {
        let (peer, ours) = (one("P6-hot", "peer", Role::Peer), one("P6-hot", "mine", Role::Ours));
        let all = verdicts(&[run_of("P6-hot", &[(&peer, &[2.0]), (&ours, &[1.0])])]);
        let told: Vec<_> = all.iter().map(|verdict| (verdict.ours, verdict.is_met())).collect();
        assert_eq!(told, [("mine", true), ("", false)]);
    }

    #[test]
    fn a_limit_is_held_against_the_way_that_it_is_of() {
        let of = |variant| one("P6-hot", "mine", Role::Ours).with_variant(variant);
        let (peer, plain, cached) = (one("P6-hot", "peer", Role::Peer), of(""), of("cache"));
        let all = verdicts(&[run_of("P6-hot", &[(&peer, &[2.0]), (&plain, &[4.0]), (&cached, &[1.0])])]);
        assert_eq!(all.iter().map(|verdict| verdict.share).collect::<Vec<_>>(), [Some(50.0), None]);
    }

    #[test]
    fn own_rows_are_compared_by_name() {
        let (one_cpu, all_cpus) = (one("F1", "mine", Role::Ours), one("F6", "mine", Role::Ours));
        let rows = [run_of("F1", &[(&one_cpu, &[4.0])]), run_of("F6", &[(&all_cpus, &[4.1])])];
        let last = verdicts(&rows).pop().unwrap();
        assert_eq!((last.row, last.other.as_str(), last.is_met()), ("F6", "ours in F1", true));
    }

    #[test]
    fn a_recorded_ratio_holds_a_run_within_the_slack() {
        let (peer, ours) = (one("F3", "peer", Role::Peer), one("F3", "mine", Role::Ours));
        let verdict = verdicts(&[run_of("F3", &[(&peer, &[10.0]), (&ours, &[2.7])])]).remove(0);
        assert_eq!(verdict.key(), "F3;mine;best peer");
        assert!(verdict.is_behind(Some(0.2)) && !verdict.is_behind(Some(0.21)) && !verdict.is_behind(None));
    }
}

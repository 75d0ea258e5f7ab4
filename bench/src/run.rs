//! A run: rounds in which every contender of a row stands side by side.
//!
//! In each round each contender of the row runs once, the first one rotating, so that a disturbance of the machine
//! meets all alike. A warm-up before the first round is not counted.

use crate::aims::{Against, ROWS, Row};
use crate::rows::{Contender, Role};

/// Which rows are run, and how often.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Beginnings of row ids; all rows if there are none.
    pub only: Vec<String>,
    /// Rounds at most.
    pub rounds: usize,
    /// Whether to leave out what decides nothing: contenders that no aim of the row compares with, and all rounds but
    /// the first of a peer that it showed far behind the best one.
    pub quick: bool,
}

/// Rounds of a row whose rounds are long, in a quick run.
const LONG_ROUNDS: usize = 2;

/// How many times the best peer's figure is far behind.
const FAR: f64 = 3.0;

impl Choice {
    /// Every row, with all its rounds.
    #[must_use]
    pub const fn whole() -> Self {
        Self { only: Vec::new(), rounds: 15, quick: false }
    }

    /// Every row in under a minute.
    #[must_use]
    pub const fn quick() -> Self {
        Self { only: Vec::new(), rounds: 3, quick: true }
    }

    /// Whether a row is run.
    #[must_use]
    pub fn has(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|start| row.starts_with(start.as_str()))
    }
}

/// The figures of one contender, one for each round.
#[derive(Debug)]
pub struct Line<'c> {
    /// Who.
    pub contender: &'c Contender,
    /// What each round said.
    pub figures: Vec<f64>,
}

/// One row with everybody who ran in it.
#[derive(Debug)]
pub struct RowRun<'c> {
    /// The row.
    pub row: &'static Row,
    /// Its contenders, in the order of the list.
    pub lines: Vec<Line<'c>>,
}

/// Runs the chosen rows; `done` is called with each as soon as it has all its rounds.
pub fn run<'c>(contenders: &'c [Contender], choice: &Choice, mut done: impl FnMut(&RowRun<'c>)) -> Vec<RowRun<'c>> {
    let mut all = Vec::new();
    for row in ROWS.iter().filter(|row| choice.has(row.id)) {
        let those = contenders.iter().filter(|one| one.row == row.id && (!choice.quick || is_compared(row, one)));
        let lines: Vec<Line<'_>> = those.map(|contender| Line { contender, figures: Vec::new() }).collect();
        if lines.is_empty() {
            continue;
        }
        let ran = run_row(row, lines, choice);
        done(&ran);
        all.push(ran);
    }
    all
}

/// Whether an aim of the row compares ours with the contender, or it shows where the machine ends.
fn is_compared(row: &Row, contender: &Contender) -> bool {
    let names = |against| match against {
        Against::BestPeer => contender.role == Role::Peer,
        Against::BestBare => matches!(contender.role, Role::Peer | Role::Bare),
        Against::Named(name) => contender.name == name,
        Against::Beside(_) | Against::Own(_) | Against::BestOfOurs | Against::Figure => false,
    };
    matches!(contender.role, Role::Ours | Role::Bound) || row.aims.iter().any(|aim| names(aim.against))
}

fn run_row<'c>(row: &'static Row, mut lines: Vec<Line<'c>>, choice: &Choice) -> RowRun<'c> {
    // A long round warms its caches by itself: the first one counts then.
    let counts_first = choice.quick && row.is_long();
    let rounds = row.rounds.min(if counts_first { LONG_ROUNDS } else { choice.rounds });
    let mut left: Vec<usize> = (0..lines.len()).collect();
    if rounds > 1 {
        let first: Vec<f64> = lines.iter().map(|line| line.contender.round()).collect();
        if choice.quick {
            left.retain(|&at| !is_far(&lines, &first, at));
        }
        for (at, figure) in first.into_iter().enumerate() {
            if counts_first || !left.contains(&at) {
                lines[at].figures.push(figure);
            }
        }
    }
    for round in usize::from(counts_first && rounds > 1)..rounds {
        for turn in 0..left.len() {
            let line = &mut lines[left[(turn + round) % left.len()]];
            line.figures.push(line.contender.round());
        }
    }
    RowRun { row, lines }
}

/// Whether the contender `at` is a peer far behind the best peer.
fn is_far(lines: &[Line<'_>], first: &[f64], at: usize) -> bool {
    let is_peer = |at: usize| matches!(lines[at].contender.role, Role::Peer | Role::Bare);
    let same_role = |other: &usize| lines[*other].contender.role == lines[at].contender.role;
    let best = (0..lines.len()).filter(same_role).map(|at| first[at]).fold(f64::INFINITY, f64::min);
    is_peer(at) && first[at] > FAR * best
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn noted(order: &Arc<Mutex<String>>, name: &'static str, figure: f64) -> Contender {
        let order = Arc::clone(order);
        Contender::new("F1", name, Role::Peer, move || {
            order.lock().unwrap().push_str(name);
            figure
        })
    }

    #[test]
    fn everybody_runs_once_a_round_and_the_first_one_rotates() {
        let order = Arc::new(Mutex::new(String::new()));
        let contenders = [noted(&order, "a", 1.0), noted(&order, "b", 1.0), noted(&order, "c", 9.0)];
        let choice = Choice { rounds: 3, ..Choice::whole() };
        let all = run(&contenders, &choice, |_| {});
        assert_eq!(order.lock().unwrap().as_str(), "abcabcbcacab");
        assert_eq!((all.len(), all[0].lines[2].figures.len()), (1, 3));
    }

    #[test]
    fn a_quick_run_asks_a_peer_far_behind_only_once() {
        let order = Arc::new(Mutex::new(String::new()));
        let contenders = [noted(&order, "a", 1.0), noted(&order, "b", 3.5), noted(&order, "c", 2.5)];
        let all = run(&contenders, &Choice { rounds: 2, ..Choice::quick() }, |_| {});
        assert_eq!(order.lock().unwrap().as_str(), "abcacca");
        assert_eq!((all[0].lines[1].figures.as_slice(), all[0].lines[2].figures.len()), (&[3.5][..], 2));
    }

    #[test]
    fn a_quick_run_asks_only_whom_an_aim_compares_with() {
        let of = |row, role| Contender::new(row, "one", role, || 1.0);
        let all = [of("F1", Role::Bare), of("F3", Role::Bare), of("F3", Role::Peer), of("F8", Role::Peer)];
        let rows = |choice: &Choice| run(&all, choice, |_| {}).iter().map(|run| run.lines.len()).collect::<Vec<_>>();
        assert_eq!((rows(&Choice::whole()), rows(&Choice::quick())), (vec![1, 2, 1], vec![1, 1]));
    }

    #[test]
    fn a_choice_takes_beginnings_of_ids() {
        let choice = Choice { only: vec!["P1".to_owned(), "F".to_owned()], ..Choice::whole() };
        assert!(choice.has("P1-4K") && choice.has("F9") && !choice.has("P2-4K"));
        assert!(Choice::whole().has("P2-4K"));
    }
}

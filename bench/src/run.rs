//! A run: rounds in which every contender of a row stands side by side.
//!
//! In each round each contender of the row runs once, the first one rotating, so that a disturbance of the machine
//! meets all alike. A warm-up before the first round is not counted.

use crate::aims::{ROWS, Row};
use crate::rows::Contender;

/// Which rows are run, and how often.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Beginnings of row ids; all rows if there are none.
    pub only: Vec<String>,
    /// Rounds at most.
    pub rounds: usize,
}

impl Choice {
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
        let those = contenders.iter().filter(|contender| contender.row == row.id);
        let lines: Vec<Line<'_>> = those.map(|contender| Line { contender, figures: Vec::new() }).collect();
        if lines.is_empty() {
            continue;
        }
        let ran = rounds(row, lines, row.rounds.min(choice.rounds));
        done(&ran);
        all.push(ran);
    }
    all
}

fn rounds<'c>(row: &'static Row, mut lines: Vec<Line<'c>>, rounds: usize) -> RowRun<'c> {
    let many = lines.len();
    if rounds > 1 {
        for line in &lines {
            line.contender.round();
        }
    }
    for round in 0..rounds {
        for turn in 0..many {
            let line = &mut lines[(turn + round) % many];
            line.figures.push(line.contender.round());
        }
    }
    RowRun { row, lines }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::rows::Role;

    #[test]
    fn everybody_runs_once_a_round_and_the_first_one_rotates() {
        let order = Arc::new(Mutex::new(String::new()));
        let of = |name: &'static str| {
            let order = Arc::clone(&order);
            Contender::new("F1", name, Role::Peer, move || {
                order.lock().unwrap().push_str(name);
                1.0
            })
        };
        let contenders = [of("a"), of("b"), of("c")];
        let choice = Choice { only: vec!["F1".to_owned()], rounds: 3 };
        let all = run(&contenders, &choice, |_| {});
        assert_eq!(order.lock().unwrap().as_str(), "abcabcbcacab");
        assert_eq!((all.len(), all[0].lines[2].figures.len()), (1, 3));
    }

    #[test]
    fn a_choice_takes_beginnings_of_ids() {
        let choice = Choice { only: vec!["P1".to_owned(), "F".to_owned()], rounds: 1 };
        assert!(choice.has("P1-4K") && choice.has("F9") && !choice.has("P2-4K"));
        assert!(Choice { only: Vec::new(), rounds: 1 }.has("P2-4K"));
    }
}

//! The words of the command line.

use std::path::PathBuf;

use kernmem_bench::run::Choice;

/// How the command is used.
pub const USAGE: &str =
    "usage: cargo xtask bench [--quick] [--only P1,F] [--rounds N] [--csv FILE] [--record] [--write]
       cargo xtask bench list | once ROW CONTENDER";

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// Tell every contender.
    List,
    /// One round of one of them.
    Once {
        /// Its row.
        row: String,
        /// Its name, with the variant.
        title: String,
    },
    /// Rounds of all.
    Run,
}

/// The words, understood.
#[derive(Clone, Debug)]
pub struct Args {
    /// What is to be done.
    pub task: Task,
    /// Which rows, how often.
    pub choice: Choice,
    /// Where every contender's figures go.
    pub csv: Option<PathBuf>,
    /// Whether the ratios become what later runs are held against.
    pub record: bool,
    /// Whether tables and plot of the documents are written anew.
    pub write: bool,
}

impl Args {
    /// Understands `words`; `None` if they are not the command's.
    #[must_use]
    pub fn of(words: &[String]) -> Option<Self> {
        let mut args = Self { task: Task::Run, choice: Choice::whole(), csv: None, record: false, write: false };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["list"] => args.task = Task::List,
            ["once", row, title] => args.task = Task::Once { row: (*row).to_owned(), title: (*title).to_owned() },
            options => args.options(options)?,
        }
        Some(args)
    }

    fn options(&mut self, words: &[&str]) -> Option<()> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => self.choice = Choice { only: self.choice.only.clone(), ..Choice::quick() },
                "--only" => self.choice.only = words.next()?.split(',').map(str::to_owned).collect(),
                "--rounds" => self.choice.rounds = words.next()?.parse().ok().filter(|&rounds| rounds > 0)?,
                "--csv" => self.csv = Some(words.next()?.into()),
                "--record" => self.record = true,
                "--write" => self.write = true,
                _ => return None,
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Args> {
        Args::of(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_come_in_any_order_and_others_are_refused() {
        let args = of("--only P1,F --quick --csv out.csv").unwrap();
        assert_eq!(
            (args.choice.only, args.choice.quick, args.csv),
            (vec!["P1".into(), "F".into()], true, Some("out.csv".into()))
        );
        assert!(of("--rounds 0").is_none() && of("--fast").is_none() && of("--only").is_none());
        assert_eq!(
            of("once F1 linux-model").unwrap().task,
            Task::Once { row: "F1".into(), title: "linux-model".into() }
        );
    }
}

//! A job on rows with known labels: what its answers are worth.
//!
//! The rows with a known answer become an input of their own, and the ordinary run labels them; so
//! what is measured is what a run does, a second evaluation asks nothing, and rows that nobody can
//! judge cost nothing. Known answers are held against the labels afterwards: correcting one costs
//! nothing either.
//!
//! 1. `gold_rows`: which rows are asked, and what is known of them; refused before money is spent.
//! 2. `workspace`: where they and their answers are kept.
//! 3. `answers`: the labels, read back from the parts.

mod answers;
mod gold_rows;
mod workspace;

pub use answers::{AnswersError, read_answers};
pub use gold_rows::{GoldError, GoldRow, GoldRows};
pub use workspace::Workspace;

use std::collections::HashMap;

use crate::domain::{Codebook, JobSpec, LabelIndex, RowId};
use crate::llm::learned_scorer::checked;
use crate::llm::lexical_scorer::{LabelText, LexicalScorer};
use crate::output::Spent;
use crate::pipeline::{self, RunContext, RunError, RunReport};
use crate::quality::Confusion;

/// What labels are worth, and what they cost.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// How the run ended.
    pub report: RunReport,
    /// The model's labels against the known answers, over the rows that are done.
    pub model: Confusion,
    /// What costs nothing, over the same rows.
    pub baselines: Vec<Baseline>,
    /// Rows with a known answer that are not done yet.
    pub not_done: u64,
    /// Rows that were left out because nothing is known of them.
    pub without_gold: u64,
    /// Rows that were left out because they brought a label along.
    pub with_own_label: u64,
    /// What the kept answers cost, over all runs.
    pub spent: Spent,
    /// How many they are: also of rows whose known answer was taken back since.
    pub answers: u64,
}

/// What a model has to beat.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// What it is.
    pub name: &'static str,
    /// Its labels against the known answers.
    pub confusion: Confusion,
}

/// Why nothing can be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The known answers can't be used.
    #[error(transparent)]
    Gold(#[from] GoldError),
    /// The run has no end to report.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The answers can't be read back.
    #[error(transparent)]
    Answers(#[from] AnswersError),
}

/// Asks the rows of `gold` as `job` says, keeps their answers in `place`, and holds them against
/// what is known. Rows that were asked there before are not asked again.
///
/// # Errors
/// As [`pipeline::run`]; if `place` can't be written, or the answers can't be read back.
pub async fn evaluate(
    job: &JobSpec,
    gold: &GoldRows,
    place: &Workspace,
    context: RunContext,
) -> Result<Evaluation, EvalError> {
    place.lay_out(&gold.rows)?;
    let asked = place.job(job, &gold.rows, "answers");
    let report = pipeline::run(&asked, context).await?;
    let mut given: HashMap<RowId, Option<LabelIndex>> = HashMap::new();
    let spent = read_answers(&asked, |id, label| {
        given.insert(id, label);
    })?;

    let lexical = LexicalScorer::new(&label_texts(&job.codebook));
    let mut scratch = lexical.scratch();
    let mut by_words = |row: &GoldRow| {
        let best = lexical.best(row.text.as_deref()?, &mut scratch);
        u16::try_from(best.label).ok().map(LabelIndex)
    };
    let (mut model, mut words, mut not_done) = (Confusion::default(), Confusion::default(), 0);
    for row in &gold.rows {
        let Some(known) = row.known else { continue };
        match given.get(&row.id) {
            Some(label) => {
                model.add(known, *label);
                words.add(known, by_words(row));
            }
            None => not_done += 1,
        }
    }
    let mut baselines =
        vec![Baseline { name: "lexical, from the labels' texts", confusion: words }];
    baselines.extend(learned(gold, &given, job.codebook.labels().len()));
    Ok(Evaluation {
        report,
        model,
        baselines,
        not_done,
        without_gold: gold.without_gold,
        with_own_label: gold.with_own_label,
        spent,
        answers: given.len() as u64,
    })
}

/// What a scorer reaches that learns from these very rows, each time from other ones than it is asked
/// for; `None` where finding out would take long.
fn learned(
    gold: &GoldRows,
    given: &HashMap<RowId, Option<LabelIndex>>,
    labels: usize,
) -> Option<Baseline> {
    let done = gold.rows.iter().filter(|row| given.contains_key(&row.id));
    let rows: Vec<(&str, usize)> = done
        .filter_map(|row| Some((row.text.as_deref().unwrap_or_default(), row.known?.0.into())))
        .collect();
    let checked = checked(&rows, labels)?;
    let mut confusion = Confusion::default();
    for ((_, known), given) in rows.iter().zip(checked.predictions) {
        let label = |place| u16::try_from(place).ok().map(LabelIndex);
        confusion.add(label(*known)?, label(given));
    }
    Some(Baseline { name: "lexical, learned from such rows", confusion })
}

/// What is told of each label, for the scorer.
fn label_texts(codebook: &Codebook) -> Vec<LabelText<'_>> {
    let texts = codebook.labels().iter().map(|label| LabelText {
        name: &label.name,
        description: &label.description,
        examples: label.examples.iter().map(String::as_str).collect(),
    });
    texts.collect()
}

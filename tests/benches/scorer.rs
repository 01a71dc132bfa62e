//! What the embedded scorer gets right, and how fast it is.
//!
//! `scorer TRAIN TEST TEXT LABEL`: two inputs and the names of their columns with texts and labels.
//! Prints accuracy on TEST from the labels' names alone and fitted on TRAIN, accuracy on TRAIN in
//! five-fold cross-validation, seconds and rows/s, one measure a line. Build it with `--release`.

use std::error::Error;

use batchclass::domain::clock::SystemClock;
use batchclass::domain::spec::{CloudSpec, IdSource, InputSpec, OnDuplicateId, SORT_MEMORY};
use batchclass::domain::{Clock, Location, Position, PositionRange, Reading, Template};
use batchclass::input::OrderedInput;
use batchclass::llm::fitted_scorer::{FOLDS, FittedScorer, cross_validated};
use batchclass::llm::lexical_scorer::{LabelText, LexicalScorer};

type Failure = Box<dyn Error + Send + Sync>;

/// How often the test rows are labelled for the clock.
const ROUNDS: usize = 30;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [train, test, text, label] = &arguments[..] else {
        return Err("scorer TRAIN TEST TEXT LABEL".into());
    };
    let (train, test) = (read(train, text, label)?, read(test, text, label)?);
    let mut names: Vec<&str> = train.iter().map(|(_, label)| label.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let place = |label: &String| names.binary_search(&label.as_str()).unwrap_or(names.len());
    let known: Vec<(&str, usize)> =
        train.iter().map(|(text, label)| (text.as_str(), place(label))).collect();
    let asked: Vec<(&str, usize)> =
        test.iter().map(|(text, label)| (text.as_str(), place(label))).collect();
    say(&format!("rows: {} to learn from, {} to label", known.len(), asked.len()));
    say(&format!("labels: {}", names.len()));

    let labels: Vec<LabelText<'_>> =
        names.iter().map(|&name| LabelText { name, ..LabelText::default() }).collect();
    let by_name = LexicalScorer::new(&labels);
    let mut scratch = by_name.scratch();
    measure("names alone", &asked, |text| by_name.best(text, &mut scratch).label);

    let clock = SystemClock::start();
    let began = clock.now();
    let fitted = FittedScorer::fit(known.iter().copied(), names.len());
    let seconds = clock.now().since(began).as_secs_f64();
    say(&format!("fitted: {seconds:.2} s, {} features", fitted.features()));
    let mut scratch = fitted.scratch();
    measure("fitted", &asked, |text| fitted.best(text, &mut scratch).label);

    let began = clock.now();
    let checked = cross_validated(&known, names.len(), FOLDS, 0);
    let seconds = clock.now().since(began).as_secs_f64();
    let percent = checked.accuracy().unwrap_or_default() * 100.0;
    say(&format!("cross-validated: {percent:.2} % right, {seconds:.2} s"));
    Ok(())
}

fn measure(name: &str, rows: &[(&str, usize)], mut label: impl FnMut(&str) -> usize) {
    let right = rows.iter().filter(|(text, known)| label(text) == *known).count();
    let clock = SystemClock::start();
    let began = clock.now();
    let mut sum = 0;
    for _ in 0..ROUNDS {
        sum += rows.iter().map(|(text, _)| label(text)).sum::<usize>();
    }
    let seconds = clock.now().since(began).as_secs_f64();
    std::hint::black_box(sum);
    let percent = right as f64 * 100.0 / rows.len().max(1) as f64;
    let speed = (ROUNDS * rows.len()) as f64 / seconds;
    say(&format!("{name}: {percent:.2} % right, {speed:.0} rows/s on one core"));
}

fn read(file: &str, text: &str, label: &str) -> Result<Vec<(String, String)>, Failure> {
    let input = OrderedInput::open(&InputSpec {
        location: Location::parse(file.as_ref())?,
        cloud: CloudSpec::default(),
        reading: Reading::default(),
        id: IdSource::RowNumber,
        text: Template::parse(text)?,
        existing_label: Some(label.to_owned()),
        gold: None,
        columns: Some(Vec::new()),
        on_duplicate_id: OnDuplicateId::Error,
        sort_memory: SORT_MEMORY,
        temp_dir: std::env::temp_dir(),
    })?;
    let all = PositionRange { first: Position(0), rows: input.rows() };
    let mut rows = Vec::new();
    for chunk in input.read(vec![all])? {
        let whole = chunk?.rows.into_iter().filter_map(|row| row.text.zip(row.existing_label));
        rows.extend(whole.map(|(text, label)| (text.into(), label.into())));
    }
    Ok(rows)
}

#[expect(clippy::print_stdout, reason = "the benchmark's result")]
#[expect(clippy::disallowed_macros, reason = "the benchmark's result")]
fn say(line: &str) {
    println!("{line}");
}

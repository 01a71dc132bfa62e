//! What labels are worth, as tables of 80 columns and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::console::one_line;
use super::progress::words::{grouped, percent};
use super::summary_view::dollars;
use super::table::{Side, table};
use super::token_cost::TokenCost;
use crate::domain::spec::ProviderKind;
use crate::domain::{JobSpec, LabelIndex};
use crate::eval::Evaluation;
use crate::quality::{Confusion, Interval, wilson};

/// The version of the JSON object; fields may be added to it without another.
const JSON_VERSION: u32 = 1;
/// Mixed-up pairs that are shown.
const WORST: usize = 10;
/// Most characters of a label's name in a table.
const NAME_WIDTH: usize = 34;

/// An evaluation and what it takes to tell of it.
pub(super) struct EvalFigures<'a> {
    /// The job.
    pub(super) job: &'a JobSpec,
    /// What came of it.
    pub(super) evaluated: &'a Evaluation,
    /// What the model costs, where that is known.
    pub(super) price: Option<&'a TokenCost>,
}

impl EvalFigures<'_> {
    fn name(&self, label: LabelIndex) -> &str {
        &self.job.codebook.label(label).name
    }

    /// Tokens for a thousand rows; `None` with no row.
    fn tokens_per_thousand(&self) -> Option<f64> {
        let spent = self.evaluated.spent;
        let tokens = spent.prompt_tokens + spent.completion_tokens;
        per_thousand(tokens as f64, self.evaluated.answers)
    }

    /// US dollars for a thousand rows, where the price is known.
    fn price_per_thousand(&self) -> Option<f64> {
        let (spent, price) = (self.evaluated.spent, self.price?);
        let cost = price.dollars(spent.prompt_tokens, spent.completion_tokens);
        per_thousand(cost, self.evaluated.answers)
    }

    fn model_name(&self) -> &str {
        &self.job.model.name
    }
}

fn per_thousand(amount: f64, rows: u64) -> Option<f64> {
    (rows > 0).then(|| amount * 1_000.0 / rows as f64)
}

/// The figures as tables.
pub(super) fn tables(figures: &EvalFigures<'_>) -> String {
    let evaluated = figures.evaluated;
    let mut text = left_out(evaluated);
    if evaluated.model.rows() == 0 {
        text.push_str("no row is done yet, so there is nothing to measure\n");
        return text;
    }
    text.push('\n');
    text.push_str(&headline(figures));
    text.push('\n');
    text.push_str(&compared(figures));
    text.push('\n');
    text.push_str(&by_label(figures));
    text.push_str(&worst(figures));
    text
}

/// Which rows the figures are of.
fn left_out(evaluated: &Evaluation) -> String {
    let mut text = format!("{} rows with a known answer", grouped(evaluated.model.rows()));
    let mut also = |rows: u64, what: &str| {
        if rows > 0 {
            let _ = write!(text, "; {} {what}", grouped(rows));
        }
    };
    also(evaluated.not_done, "more are not done yet");
    also(evaluated.without_gold, "without one are left out");
    also(evaluated.with_own_label, "with a label of their own are left out");
    text.push('\n');
    text
}

fn headline(figures: &EvalFigures<'_>) -> String {
    let model = &figures.evaluated.model;
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<14} {value}");
    };
    let (right, rows) = (grouped(model.right()), grouped(model.rows()));
    fact("accuracy", format!("{}, {right} of {rows}", accuracy(model)));
    if model.unlabelled() > 0 {
        fact("  if labelled", share(model.accuracy_of_labelled()));
    }
    fact("macro F1", decimal(model.macro_f1()));
    fact("Cohen's kappa", decimal(model.kappa()));
    let unlabelled = model.unlabelled() as f64 / model.rows() as f64;
    fact("no label", format!("{}, {} rows", percent(unlabelled), grouped(model.unlabelled())));
    if let Some(tokens) = figures.tokens_per_thousand() {
        fact("tokens", format!("{} for 1,000 rows", grouped(tokens.round() as u64)));
    }
    fact(
        "price",
        match (figures.job.model.provider, figures.price_per_thousand()) {
            (ProviderKind::Lexical, _) => "nothing: the embedded scorer".to_owned(),
            (_, Some(price)) => format!("{} for 1,000 rows", dollars(price)),
            (_, None) => "unknown for this address and model".to_owned(),
        },
    );
    text
}

/// The model beside what costs nothing.
fn compared(figures: &EvalFigures<'_>) -> String {
    let line = |name: &str, confusion: &Confusion| {
        vec![
            name.to_owned(),
            share(confusion.accuracy()),
            bounds(wilson(confusion.right(), confusion.rows())),
            decimal(confusion.macro_f1()),
        ]
    };
    let model = &figures.evaluated.model;
    let mut rows = vec![line(figures.model_name(), model)];
    rows.extend(figures.evaluated.baselines.iter().map(|it| line(it.name, &it.confusion)));
    if let Some((label, support)) = model.majority() {
        rows.push(vec![
            format!("`{}` for every row", figures.name(label)),
            percent(support as f64 / model.rows() as f64),
            bounds(wilson(support, model.rows())),
            String::new(),
        ]);
    }
    let sides = [Side::Left(40), Side::Right, Side::Right, Side::Right];
    table(&sides, &["compared", "accuracy", "95 % between", "macro F1"], &rows)
}

fn by_label(figures: &EvalFigures<'_>) -> String {
    let labels = figures.evaluated.model.by_label();
    let rows: Vec<Vec<String>> = labels
        .iter()
        .map(|of| {
            let [precision, recall, f1] =
                [of.precision(), of.recall(), of.f1()].map(|share| format!("{share:.3}"));
            let name = figures.name(of.label).to_owned();
            vec![name, grouped(of.support), grouped(of.given), precision, recall, f1]
        })
        .collect();
    let number = Side::Right;
    let sides = [Side::Left(NAME_WIDTH), number, number, number, number, number];
    table(&sides, &["label", "known", "given", "precision", "recall", "F1"], &rows)
}

fn worst(figures: &EvalFigures<'_>) -> String {
    let rows: Vec<Vec<String>> = figures
        .evaluated
        .model
        .worst(WORST)
        .iter()
        .map(|pair| {
            let [known, given] = [pair.known, pair.given].map(|it| figures.name(it).to_owned());
            vec![known, given, grouped(pair.rows)]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let sides = [Side::Left(NAME_WIDTH), Side::Left(NAME_WIDTH), Side::Right];
    format!("\n{}", table(&sides, &["worst mix-ups: known", "given", "rows"], &rows))
}

fn accuracy(confusion: &Confusion) -> String {
    let interval = wilson(confusion.right(), confusion.rows());
    format!("{} (95 % between {})", share(confusion.accuracy()), bounds(interval))
}

fn bounds(interval: Option<Interval>) -> String {
    interval.map_or_else(String::new, |Interval { low, high }| {
        format!("{:.1} and {:.1} %", low * 100.0, high * 100.0)
    })
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), percent)
}

fn decimal(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.3}"))
}

/// The figures as one JSON object.
pub(super) fn json(figures: &EvalFigures<'_>) -> Value {
    let evaluated = figures.evaluated;
    let model = &evaluated.model;
    let name = |label| one_line(figures.name(label)).into_owned();
    let of = |confusion: &Confusion| {
        json!({
            "rows": confusion.rows(),
            "right": confusion.right(),
            "unlabelled": confusion.unlabelled(),
            "accuracy": confusion.accuracy(),
            "interval": wilson(confusion.right(), confusion.rows()),
            "accuracy_of_labelled": confusion.accuracy_of_labelled(),
            "macro_f1": confusion.macro_f1(),
            "kappa": confusion.kappa(),
        })
    };
    let labels: Vec<Value> = model
        .by_label()
        .iter()
        .map(|it| {
            json!({
                "label": name(it.label),
                "known": it.support,
                "given": it.given,
                "right": it.right,
                "precision": it.precision(),
                "recall": it.recall(),
                "f1": it.f1(),
            })
        })
        .collect();
    let pair = |pair: &crate::quality::MixUp| json!({ "known": name(pair.known), "given": name(pair.given), "rows": pair.rows });
    let baselines = evaluated.baselines.iter().map(|it| {
        let mut figures = of(&it.confusion);
        figures["name"] = it.name.into();
        figures
    });
    let spent = evaluated.spent;
    json!({
        "version": JSON_VERSION,
        "provider": figures.job.model.provider,
        "model": figures.model_name(),
        "rows_per_call": figures.job.batch.rows_per_call,
        "end": evaluated.report.end,
        "not_done": evaluated.not_done,
        "without_gold": evaluated.without_gold,
        "with_own_label": evaluated.with_own_label,
        "figures": of(model),
        "labels": labels,
        "mix_ups": model.worst(usize::MAX).iter().map(pair).collect::<Vec<_>>(),
        "baselines": baselines.collect::<Vec<_>>(),
        "majority": model.majority().map(|(label, rows)| {
            json!({
                "label": name(label),
                "rows": rows,
                "accuracy": rows as f64 / model.rows() as f64,
            })
        }),
        "spent": {
            "calls": spent.calls,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "tokens_per_1000_rows": figures.tokens_per_thousand(),
            "usd_per_1000_rows": figures.price_per_thousand(),
        },
    })
}

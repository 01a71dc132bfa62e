//! What packing does to labels, as tables and a plot of 80 columns, and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::progress::words::{grouped, percent};
use super::summary_view::dollars;
use super::table::{Side, table};
use super::token_cost::TokenCost;
use crate::calibrate::{Plan, SizeFigures};
use crate::pipeline::Estimate;
use crate::quality::{Bound, Choice, Fifth, wilson};

/// The version of the JSON object; fields may be added to it without another.
const JSON_VERSION: u32 = 1;
/// Characters of the plot's two halves.
const PLOT: (usize, usize) = (36, 20);

/// A calibration and what it takes to tell of it.
pub(super) struct CalibrationFigures<'a> {
    /// What was asked.
    pub(super) plan: &'a Plan<'a>,
    /// The sizes, rising; the first is the base.
    pub(super) sizes: &'a [SizeFigures],
    /// Which to take, if all were run.
    pub(super) choice: Option<&'a Choice>,
    /// By which bound.
    pub(super) bound: Bound,
    /// What the model costs, where that is known.
    pub(super) price: Option<&'a TokenCost>,
    /// Which rows were drawn.
    pub(super) seed: u64,
}

impl CalibrationFigures<'_> {
    /// `accuracy`, or what takes its place where no answers are known.
    fn measure(&self) -> &'static str {
        if self.plan.has_gold { "accuracy" } else { "agreement" }
    }

    fn price_per_thousand(&self, size: &SizeFigures) -> Option<f64> {
        let (spent, price) = (size.spent, self.price?);
        let cost = price.dollars(spent.prompt_tokens, spent.completion_tokens);
        (size.answers > 0).then(|| cost * 1e3 / size.answers as f64)
    }

    fn base(&self) -> u32 {
        self.sizes.first().map_or(1, |base| base.rows_per_call)
    }
}

/// What is about to be asked.
pub(super) fn price_list(
    plan: &Plan<'_>,
    estimates: &[Estimate],
    price: Option<&TokenCost>,
) -> String {
    let cost = |estimate: &Estimate| {
        price.map(|price| price.dollars(estimate.prompt_tokens, estimate.completion_tokens))
    };
    let line = |name: String, estimate: &Estimate| {
        vec![
            name,
            grouped(estimate.rows),
            grouped(estimate.calls),
            grouped(estimate.prompt_tokens + estimate.completion_tokens),
            cost(estimate).map_or_else(String::new, dollars),
        ]
    };
    let mut all = Estimate::default();
    let mut rows = Vec::new();
    for (size, estimate) in plan.sizes.iter().zip(estimates) {
        all += *estimate;
        rows.push(line(size.to_string(), estimate));
    }
    rows.push(line("all".to_owned(), &all));
    let head = ["rows a call", "to ask", "calls", "tokens", "price"];
    let host = plan.job.model.host();
    let priced = match price {
        Some(_) => "",
        None if host.is_empty() || host == "localhost" => "; this machine is asked",
        None => "; the price of this model there is not known",
    };
    format!(
        "to be asked, as counted here{priced}:\n{}",
        table(&[Side::Right; 5][..4 + usize::from(price.is_some())], &head, &rows)
    )
}

/// The figures as tables, the plot and the advice.
pub(super) fn tables(figures: &CalibrationFigures<'_>) -> String {
    let mut text = headline(figures);
    if figures.sizes.first().is_none_or(|base| base.rows == 0) {
        text.push_str("no size is done yet, so there is nothing to measure\n");
        return text;
    }
    let _ = write!(text, "\n{}", by_size(figures));
    let _ = write!(text, "\n{}", by_place(figures));
    let _ = write!(text, "\n{}", plot(figures));
    if figures.choice.is_some() {
        let _ = write!(text, "\n{}", wrapped(&advice(figures)));
    }
    text
}

fn headline(figures: &CalibrationFigures<'_>) -> String {
    let rows = figures.sizes.first().map_or(0, |base| base.rows);
    let known = if figures.plan.has_gold { "a known answer" } else { "no known answer" };
    let mut text = format!("{} rows with {known}, shuffled (seed {})", grouped(rows), figures.seed);
    let sample = figures.plan.sample;
    for (rows, what) in [
        (sample.without_gold, "without one are left out"),
        (sample.with_own_label, "with a label of their own are left out"),
    ] {
        if rows > 0 {
            let _ = write!(text, "\n{} {what}", grouped(rows));
        }
    }
    text.push('\n');
    text
}

fn by_size(figures: &CalibrationFigures<'_>) -> String {
    let base = figures.base();
    let rows: Vec<Vec<String>> = figures
        .sizes
        .iter()
        .map(|size| {
            let is_base = size.rows_per_call == base;
            let against = |number: f64| {
                if is_base { "-".to_owned() } else { format!("{:+.2}", number * 100.0) }
            };
            let interval = wilson(size.right, size.rows).filter(|_| {
                // The base agrees with itself, whatever the sample.
                figures.plan.has_gold || !is_base
            });
            vec![
                size.rows_per_call.to_string(),
                size.accuracy().map_or_else(|| "-".to_owned(), percent),
                interval.map_or_else(String::new, |it| {
                    format!("{:.1}-{:.1}", it.low * 100.0, it.high * 100.0)
                }),
                against(size.paired.loss()),
                against(size.paired.loss_at_most(figures.bound.confidence)),
                grouped(size.unlabelled),
                size.tokens_per_row().map_or_else(String::new, |tokens| format!("{tokens:.1}")),
                figures.price_per_thousand(size).map_or_else(|| "-".to_owned(), dollars),
            ]
        })
        .collect();
    let head =
        ["rows/call", figures.measure(), "95 %", "loss", "at most", "no label", "tokens", "price"];
    let mut text = table(&[Side::Right; 8], &head, &rows);
    let confidence = hundredths(figures.bound.confidence.share());
    let row = rows_a_call(base);
    let _ = writeln!(
        text,
        "loss: points against {row}, and at most, with {confidence} % confidence\n\
         tokens: a row, prompt and reply; price: 1,000 rows"
    );
    for size in figures.sizes {
        if let Some(mean) = size.mean_rows
            && mean < 0.8 * f64::from(size.rows_per_call.min(size.rows as u32))
        {
            let _ = writeln!(
                text,
                "at {} the calls had {mean:.0} rows on an average: tokens_per_call or a limit closes \
                 them",
                size.rows_per_call
            );
        }
    }
    text
}

fn by_place(figures: &CalibrationFigures<'_>) -> String {
    let shown = |fifth: &Fifth| fifth.accuracy().map_or_else(|| "-".to_owned(), percent);
    let rows: Vec<Vec<String>> = figures
        .sizes
        .iter()
        .filter(|size| !size.fifths.is_empty())
        .map(|size| {
            let fifths = size.fifths.all();
            let interval = fifths.iter().filter_map(Fifth::interval);
            let widest = interval.map(|it| (it.high - it.low) / 2.0).fold(0.0, f64::max);
            let mut row = vec![size.rows_per_call.to_string()];
            row.extend(fifths.iter().map(shown));
            row.push(format!("{:.1}", widest * 100.0));
            row
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let measure = figures.measure();
    let head = ["rows/call", "first", "second", "third", "fourth", "last", "+-"];
    format!(
        "{measure} by place in the call, in fifths; +-: half of the widest 95 % interval\n{}",
        table(&[Side::Right; 7], &head, &rows)
    )
}

/// Accuracy with its interval, and tokens a row, a line for each size.
fn plot(figures: &CalibrationFigures<'_>) -> String {
    let points: Vec<(&SizeFigures, f64, f64, f64)> = figures
        .sizes
        .iter()
        .filter_map(|size| {
            let it = wilson(size.right, size.rows)?;
            Some((size, it.low, size.accuracy()?, it.high))
        })
        .collect();
    let low = points.iter().map(|point| point.1).fold(1.0, f64::min);
    let high = points.iter().map(|point| point.3).fold(0.0, f64::max);
    let tokens = |size: &SizeFigures| size.tokens_per_row().unwrap_or(0.0);
    let most = points.iter().map(|point| tokens(point.0)).fold(1.0, f64::max);
    let (width, bar) = PLOT;
    let at = |share: f64| {
        let span = (high - low).max(1e-9);
        ((share - low) / span * (width - 1) as f64).round() as usize
    };
    let (from, to) = (percent(low), percent(high));
    let between = width.saturating_sub(from.chars().count() + to.chars().count());
    let mut text = format!("{:>9}  {from}{:>between$}{to}  tokens a row\n", figures.measure(), "");
    for (size, low, share, high) in &points {
        let mut line = vec![' '; width];
        let ends = (at(*low), at(*high));
        line.iter_mut().take(ends.1).skip(ends.0).for_each(|cell| *cell = '─');
        for (place, mark) in [(ends.0, '├'), (ends.1, '┤'), (at(*share), '●')] {
            if let Some(cell) = line.get_mut(place) {
                *cell = mark;
            }
        }
        let line: String = line.into_iter().collect();
        let filled = (tokens(size) / most * bar as f64).round().max(1.0) as usize;
        let _ = writeln!(
            text,
            "{:>9}  {line}  {} {:.1}",
            size.rows_per_call,
            "█".repeat(filled),
            tokens(size)
        );
    }
    text
}

/// What to do, in a sentence or two; empty if not all sizes were run.
pub(super) fn advice(figures: &CalibrationFigures<'_>) -> String {
    let (Some(choice), Bound { max_loss, confidence }) = (figures.choice, figures.bound) else {
        return String::new();
    };
    let sure = hundredths(confidence.share());
    let bound = match hundredths(max_loss) {
        1.0 => "1 point".to_owned(),
        points => format!("{points} points"),
    };
    let of = |rows| figures.sizes.iter().find(|size| size.rows_per_call == rows);
    let lose = if figures.plan.has_gold { "lose" } else { "change" };
    let base = rows_a_call(figures.base());
    let mut text = match of(choice.rows_per_call) {
        Some(size) if choice.rows_per_call != figures.base() => {
            let shown = match figures.plan.has_gold {
                true => format!("its labels lose less than {bound} against {base}"),
                false => format!("less than {bound} of its labels differ from those at {base}"),
            };
            format!(
                "take rows_per_call = {}: {shown}, with {sure} % confidence (at most {:.2})",
                choice.rows_per_call,
                size.paired.loss_at_most(confidence) * 100.0
            )
        }
        _ => {
            format!("stay with {base} for now: no larger size is shown to {lose} less than {bound}")
        }
    };
    if let Some(stop) = choice.stopped_by
        && let Some(size) = of(stop.rows_per_call)
    {
        let name = rows_a_call(stop.rows_per_call);
        let loss = size.paired.loss() * 100.0;
        let at_least = size.paired.loss_at_least(confidence) * 100.0;
        let _ = match (stop.is_too_lossy, stop.further_rows) {
            (true, _) => write!(
                text,
                "; {name} would {lose} {loss:.2} points, at least {at_least:.2} with that confidence"
            ),
            (false, Some(further)) => {
                let rows = size.rows + further;
                let available = figures.plan.sample.available;
                let short = match available {
                    available if available < rows => {
                        format!("; there are {} rows here", grouped(available))
                    }
                    _ => String::new(),
                };
                write!(
                    text,
                    "; about {} more rows would tell of {name}: --rows {rows}{short}",
                    grouped(further)
                )
            }
            (false, None) => write!(
                text,
                "; of {name} nothing is shown: its loss looks like {loss:.2} points, too close to \
                 the bound for any number of rows to tell"
            ),
        };
    }
    text
}

/// A share in hundredths, without the last digits that binary numbers add.
fn hundredths(share: f64) -> f64 {
    (share * 1e6).round() / 1e4
}

fn rows_a_call(rows: u32) -> String {
    if rows == 1 { "1 row a call".to_owned() } else { format!("{rows} rows a call") }
}

/// A sentence in lines of at most 80 columns.
fn wrapped(sentence: &str) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in sentence.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 80 {
            text.push('\n');
            width = 0;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
    }
    text.push('\n');
    text
}

/// The figures as one JSON object.
pub(super) fn json(figures: &CalibrationFigures<'_>) -> Value {
    let Bound { max_loss, confidence } = figures.bound;
    let sizes = figures.sizes.iter().map(|size| {
        let fifths = size.fifths.all().iter().map(|fifth| {
            json!({
                "rows": fifth.rows,
                "right": fifth.right,
                "share": fifth.accuracy(),
                "interval": fifth.interval(),
            })
        });
        json!({
            "rows_per_call": size.rows_per_call,
            "mean_rows_per_call": size.mean_rows,
            "rows": size.rows,
            "right": size.right,
            "share": size.accuracy(),
            "interval": wilson(size.right, size.rows),
            "unlabelled": size.unlabelled,
            "only_base_right": size.paired.only_base,
            "only_this_right": size.paired.only_other,
            "loss": size.paired.loss(),
            "loss_at_most": size.paired.loss_at_most(confidence),
            "loss_at_least": size.paired.loss_at_least(confidence),
            "disagreement": size.disagreement(),
            "by_place": fifths.collect::<Vec<_>>(),
            "calls": size.spent.calls,
            "prompt_tokens": size.spent.prompt_tokens,
            "completion_tokens": size.spent.completion_tokens,
            "tokens_per_row": size.tokens_per_row(),
            "usd_per_1000_rows": figures.price_per_thousand(size),
        })
    });
    json!({
        "version": JSON_VERSION,
        "provider": figures.plan.job.model.provider,
        "model": figures.plan.job.model.name,
        "measure": figures.measure(),
        "seed": figures.seed,
        "max_loss": max_loss,
        "confidence": confidence.share(),
        "without_gold": figures.plan.sample.without_gold,
        "with_own_label": figures.plan.sample.with_own_label,
        "sizes": sizes.collect::<Vec<_>>(),
        "choice": figures.choice.map(|choice| {
            json!({
                "rows_per_call": choice.rows_per_call,
                "stopped_by": choice.stopped_by.map(|stop| {
                    json!({
                        "rows_per_call": stop.rows_per_call,
                        "is_too_lossy": stop.is_too_lossy,
                        "further_rows": stop.further_rows,
                    })
                }),
                "advice": advice(figures),
            })
        }),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::path::Path;

    use insta::assert_snapshot;

    use super::*;
    use crate::calibrate::{Sample, choose_size};
    use crate::cli::{config_file, job};
    use crate::eval::Workspace;
    use crate::output::Spent;
    use crate::quality::{Confidence, Fifths, Paired};

    const BOUND: Bound = Bound { max_loss: 0.01, confidence: Confidence::USUAL };

    fn size(rows_per_call: u32, rows: u64, lost: u64, gained: u64) -> SizeFigures {
        let mut fifths = Fifths::default();
        (0..rows as u32)
            .for_each(|row| fifths.add(row % rows_per_call, rows_per_call, row % 9 > 0));
        SizeFigures {
            rows_per_call,
            mean_rows: Some(f64::from(rows_per_call)),
            rows,
            right: rows * 9 / 10 + gained - lost,
            unlabelled: u64::from(rows_per_call / 100),
            paired: Paired { rows, only_base: lost, only_other: gained },
            relabelled: lost + gained,
            both_labelled: rows,
            fifths,
            spent: Spent {
                prompt_tokens: rows * (700 / u64::from(rows_per_call) + 20),
                completion_tokens: 3 * rows,
                calls: rows.div_ceil(rows_per_call.into()),
                ..Spent::default()
            },
            answers: rows,
        }
    }

    fn told(
        has_gold: bool,
        sizes: &[SizeFigures],
        tell: impl Fn(&CalibrationFigures<'_>) -> String,
    ) -> String {
        let config = "id = 'id'\ntext = 'text'\nlabels = [{ name = 'a' }, { name = 'b' }]\n\
                      model.provider = 'lexical'";
        let settings = config_file::parse(config, Path::new("x")).unwrap();
        let job = job::job(settings, "in.csv".into(), "out".into(), None).unwrap();
        let sample =
            Sample { rows: Vec::new(), available: 5_000, without_gold: 3, with_own_label: 0 };
        let place = Workspace::below(Path::new("kept"), &job, "").unwrap();
        let rows: Vec<NonZeroU32> =
            sizes.iter().filter_map(|size| NonZeroU32::new(size.rows_per_call)).collect();
        let plan = Plan { job: &job, sample: &sample, has_gold, place: &place, sizes: &rows };
        let price = TokenCost::per_million(0.15, 0.6);
        let choice = choose_size(sizes, BOUND);
        tell(&CalibrationFigures {
            plan: &plan,
            sizes,
            choice: choice.as_ref(),
            bound: BOUND,
            price: Some(&price),
            seed: 1,
        })
    }

    #[test]
    fn a_calibration_is_tables_a_plot_and_an_advice_within_80_columns() {
        let sizes = [
            size(1, 2_000, 0, 0),
            size(10, 2_000, 4, 5),
            size(50, 2_000, 9, 6),
            size(200, 2_000, 90, 8),
        ];
        let shown = told(true, &sizes, tables);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert_snapshot!(shown, @r"
        2,000 rows with a known answer, shuffled (seed 1)
        3 without one are left out

        rows/call  accuracy       95 %   loss  at most  no label  tokens    price
                1    90.0 %  88.6-91.2      -        -         0   723.0  $0.1098
               10    90.0 %  88.7-91.3  -0.05    +0.23         0    93.0  $0.0153
               50    89.8 %  88.4-91.1  +0.15    +0.51         0    37.0  $0.0069
              200    85.9 %  84.3-87.4  +4.10    +4.95         2    26.0  $0.0053
        loss: points against 1 row a call, and at most, with 95 % confidence
        tokens: a row, prompt and reply; price: 1,000 rows

        accuracy by place in the call, in fifths; +-: half of the widest 95 % interval
        rows/call   first  second   third  fourth    last   +-
               10  88.8 %  89.0 %  89.0 %  89.0 %  88.5 %  3.1
               50  88.8 %  89.0 %  89.0 %  88.8 %  88.8 %  3.1
              200  88.8 %  89.0 %  88.8 %  89.0 %  88.8 %  3.1

         accuracy  84.3 %                        91.3 %  tokens a row
                1                        ├──────●─────┤  ████████████████████ 723.0
               10                        ├──────●─────┤  ███ 93.0
               50                       ├──────●─────┤   █ 37.0
              200  ├───────●──────┤                      █ 26.0

        take rows_per_call = 50: its labels lose less than 1 point against 1 row a call,
        with 95 % confidence (at most 0.51); 200 rows a call would lose 4.10 points, at
        least 3.34 with that confidence
        ");
    }

    #[test]
    fn the_advice_says_what_to_take_and_what_keeps_larger_sizes_from_it() {
        let advice = |sizes: &[SizeFigures]| told(true, sizes, super::advice);
        let base = || size(1, 2_000, 0, 0);
        assert_snapshot!(advice(&[base(), size(10, 2_000, 2, 2)]), @"take rows_per_call = 10: its labels lose less than 1 point against 1 row a call, with 95 % confidence (at most 0.21)");
        assert_snapshot!(advice(&[base(), size(10, 2_000, 2, 2), size(50, 2_000, 90, 9)]), @"take rows_per_call = 10: its labels lose less than 1 point against 1 row a call, with 95 % confidence (at most 0.21); 50 rows a call would lose 4.05 points, at least 3.29 with that confidence");
        assert_snapshot!(advice(&[base(), size(10, 2_000, 2, 2), size(50, 2_000, 25, 14)]), @"take rows_per_call = 10: its labels lose less than 1 point against 1 row a call, with 95 % confidence (at most 0.21); about 4,550 more rows would tell of 50 rows a call: --rows 6550; there are 5,000 rows here");
        assert_snapshot!(advice(&[size(5, 100, 0, 0), size(10, 100, 0, 0)]), @"stay with 5 rows a call for now: no larger size is shown to lose less than 1 point; about 513 more rows would tell of 10 rows a call: --rows 613");
        assert_snapshot!(advice(&[base(), size(10, 2_000, 40, 20)]), @"stay with 1 row a call for now: no larger size is shown to lose less than 1 point; of 10 rows a call nothing is shown: its loss looks like 1.00 points, too close to the bound for any number of rows to tell");
        assert_snapshot!(told(false, &[base(), size(10, 2_000, 6, 0)], super::advice), @"take rows_per_call = 10: less than 1 point of its labels differ from those at 1 row a call, with 95 % confidence (at most 0.58)");
    }

    #[test]
    fn nothing_done_is_said_and_not_divided_by() {
        let shown = told(true, &[], tables);
        assert!(
            shown.ends_with("no size is done yet, so there is nothing to measure\n"),
            "{shown}"
        );
        assert_eq!(told(true, &[], |figures| json(figures)["choice"].to_string()), "null");
    }
}

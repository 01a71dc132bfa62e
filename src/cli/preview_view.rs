//! What a call would be, in words: rows and their labels, then the exact request and its cost.

use std::fmt::Write as _;

use super::console::{one_line, printable};
use super::progress::words::grouped;
use super::summary_view::dollars;
use crate::domain::{Reason, Tokens, Usage};

/// The widest text column, in characters.
const TEXT_WIDTH: usize = 60;

/// A call that was made to look at it.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Its rows, in id order.
    pub rows: Vec<PreviewRow>,
    /// The system message.
    pub system: String,
    /// The user message.
    pub user: String,
    /// The schema that the reply is held to, if one is sent.
    pub schema: Option<serde_json::Value>,
    /// The request's tokens, as counted before it was sent.
    pub counted_prompt_tokens: Tokens,
    /// What the provider says that the call used; absent with some gateways.
    pub usage: Option<Usage>,
    /// What the call cost, US dollars, and whose prices these are, where they are known.
    pub cost: Option<(f64, String)>,
}

/// A row and what it got.
#[derive(Clone, Debug)]
pub struct PreviewRow {
    /// Its text, as the model reads it.
    pub text: String,
    /// Its label's name, or why it has none.
    pub label: Result<String, Reason>,
    /// The known answer, where a column has one.
    pub gold: Option<String>,
}

/// The preview in words, with a line end after the last line.
pub fn preview(preview: &Preview) -> String {
    let mut text = String::new();
    for row in &preview.rows {
        let _ = writeln!(text, "{}", row_line(row));
    }
    for (title, body) in [("system", &preview.system), ("user", &preview.user)] {
        let _ = writeln!(text, "\n--- {title} message\n{}", printable(body.trim_end()));
    }
    if let Some(schema) = &preview.schema {
        let _ = writeln!(text, "\n--- schema of the reply\n{}", printable(&schema.to_string()));
    }
    let _ = writeln!(text, "\n{}", cost(preview));
    text
}

fn row_line(row: &PreviewRow) -> String {
    let shown = one_line(&row.text);
    let cut: String = match shown.chars().count() {
        length if length > TEXT_WIDTH => {
            shown.chars().take(TEXT_WIDTH - 3).chain("...".chars()).collect()
        }
        _ => shown.into_owned(),
    };
    let label = match &row.label {
        Ok(name) => one_line(name).into_owned(),
        Err(reason) => format!("(no label: {reason})"),
    };
    let gold = match (&row.gold, &row.label) {
        (Some(gold), Ok(label)) if gold == label => "  = known answer".to_owned(),
        (Some(gold), _) => format!("  known answer: {}", one_line(gold)),
        (None, _) => String::new(),
    };
    format!("{cut:<TEXT_WIDTH$}  ->  {label}{gold}")
}

fn cost(preview: &Preview) -> String {
    let rows = preview.rows.len();
    let counted = grouped(preview.counted_prompt_tokens.0.into());
    let mut text = match preview.usage {
        Some(usage) => format!(
            "{rows} rows, {counted} prompt tokens counted; charged: {} in, {} out, {:.1} a row",
            grouped(usage.prompt.0.into()),
            grouped(usage.completion.0.into()),
            f64::from(usage.total().0) / rows.max(1) as f64
        ),
        None => format!("{rows} rows, {counted} prompt tokens counted; the provider reports none"),
    };
    if let Some((cost, prices)) = &preview.cost {
        let _ = write!(text, "; this call cost {} ({prices})", dollars(*cost));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_with_their_labels_above_the_exact_request() {
        let row = |text: &str, label, gold: Option<&str>| PreviewRow {
            text: text.into(),
            label,
            gold: gold.map(str::to_owned),
        };
        let shown = preview(&Preview {
            rows: vec![
                row("1 High Street, Leeds", Ok("City Flats".into()), Some("City Flats")),
                row("Old Barn, Nether Wallop", Ok("City Flats".into()), Some("Rural Fringe")),
                row(&format!("\u{1b}[2J{}", "x".repeat(80)), Err(Reason::Missing), None),
            ],
            system: "Sort addresses.\n\nA = City Flats".into(),
            user: "417\t1 High Street, Leeds\n".into(),
            schema: Some(serde_json::json!({ "type": "object" })),
            counted_prompt_tokens: Tokens(1_234),
            usage: Some(Usage {
                prompt: Tokens(1_240),
                completion: Tokens(12),
                ..Usage::default()
            }),
            cost: Some((0.000193, "prices of October 2026".into())),
        });
        insta::assert_snapshot!(shown, @r#"
        1 High Street, Leeds                                          ->  City Flats  = known answer
        Old Barn, Nether Wallop                                       ->  City Flats  known answer: Rural Fringe
        \u{1b}[2Jxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...  ->  (no label: missing)

        --- system message
        Sort addresses.

        A = City Flats

        --- user message
        417	1 High Street, Leeds

        --- schema of the reply
        {"type":"object"}

        3 rows, 1,234 prompt tokens counted; charged: 1,240 in, 12 out, 417.3 a row; this call cost $0.0001930 (prices of October 2026)
        "#);
    }
}

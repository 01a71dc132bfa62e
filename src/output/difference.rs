//! What a run would change about an output's job, in words. Pure.

use std::collections::BTreeMap;

use super::job::Job;
use crate::domain::Label;

/// Most characters of a value that a difference quotes.
const QUOTED: usize = 60;
/// How many of them stand before the first difference.
const LEAD: usize = 20;

/// One thing that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What, as the config calls it.
    pub what: String,
    /// How the output has it; long texts are cut around the first difference.
    pub was: String,
    /// How the run has it.
    pub now: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: was {}, is now {}", self.what, self.was, self.now)
    }
}

impl Job {
    /// How `now` differs from this job in what decides its answers; empty if it may go on here. The
    /// input's files and rows are none of it: what is new or changed in them is asked.
    pub fn differences(&self, now: &Job) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |what: &str, was: &str, now: &str| {
            if was != now {
                let (was, now) = cut_around_difference(was, now);
                found.push(Difference { what: what.to_owned(), was, now });
            }
        };
        compare("model.provider", &json(&self.model.provider), &json(&now.model.provider));
        compare("model.name", &self.model.name, &now.model.name);
        compare("the host of model.base_url", &self.model.host, &now.model.host);
        compare("the rows of model.fit", optional(&self.model.fit), optional(&now.model.fit));
        compare("instructions", &self.prompt.instructions, &now.prompt.instructions);
        compare("unsure", optional(&self.prompt.unsure_code), optional(&now.prompt.unsure_code));
        compare(
            "none_of_these",
            optional(&self.prompt.none_of_these),
            optional(&now.prompt.none_of_these),
        );
        compare("id", &self.input.id.to_string(), &now.input.id.to_string());
        compare("text", self.input.text.source(), now.input.text.source());
        let (reads, will_read) = (&self.input.reading, &now.input.reading);
        compare("input.format", &json(&reads.format), &json(&will_read.format));
        compare("input.delimiter", &json(&reads.delimiter), &json(&will_read.delimiter));
        compare("input.quote", &json(&reads.quote), &json(&will_read.quote));
        compare("input.encoding", &json(&reads.encoding), &json(&will_read.encoding));
        compare("input.header", &json(&reads.header), &json(&will_read.header));
        compare("input.id_type", &json(&reads.id_type), &json(&will_read.id_type));
        compare(
            "input.hive_partitioning",
            &json(&reads.hive_partitioning),
            &json(&will_read.hive_partitioning),
        );
        compare(
            "input.existing_label",
            optional(&self.input.existing_label),
            optional(&now.input.existing_label),
        );
        compare(
            "input.on_duplicate_id",
            &json(&self.input.on_duplicate_id),
            &json(&now.input.on_duplicate_id),
        );
        compare("output.columns", &columns(&self.input.columns), &columns(&now.input.columns));
        compare("output.layout", &json(&self.layout), &json(&now.layout));
        compare("output.label_column", &self.label_column, &now.label_column);
        found.extend(label_differences(&self.prompt.labels, &now.prompt.labels));
        found
    }
}

fn label_differences(was: &[Label], now: &[Label]) -> Vec<Difference> {
    fn named(labels: &[Label]) -> BTreeMap<&str, &Label> {
        labels.iter().map(|label| (label.name.as_str(), label)).collect()
    }
    let (before, after) = (named(was), named(now));
    let mut found = Vec::new();
    for (name, label) in &before {
        let Some(other) = after.get(name) else {
            found.push(difference(format!("label `{name}`"), "there", "not there"));
            continue;
        };
        let examples = (label.examples.join("; "), other.examples.join("; "));
        for (part, was, now) in [
            ("code", &label.code, &other.code),
            ("description", &label.description, &other.description),
            ("examples", &examples.0, &examples.1),
        ] {
            if was != now {
                let (was, now) = cut_around_difference(was, now);
                found.push(Difference { what: format!("{part} of label `{name}`"), was, now });
            }
        }
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        found.push(difference(format!("label `{name}`"), "not there", "there"));
    }
    if found.is_empty() && was != now {
        found.push(difference("labels".into(), "in another order", "reordered"));
    }
    found
}

fn difference(what: String, was: &str, now: &str) -> Difference {
    Difference { what, was: was.to_owned(), now: now.to_owned() }
}

fn columns(columns: &Option<Vec<String>>) -> String {
    columns.as_ref().map_or_else(|| "all".to_owned(), |columns| columns.join(", "))
}

fn optional(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or("none")
}

/// A plain value as the config spells it.
fn json<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(serde_json::Value::Null) | Err(_) => "none".to_owned(),
        Ok(value) => value.to_string(),
    }
}

/// Both texts quoted, each a window that shows the first character that differs.
fn cut_around_difference(was: &str, now: &str) -> (String, String) {
    let same = was.chars().zip(now.chars()).take_while(|(a, b)| a == b).count();
    let from = if was.chars().count().max(now.chars().count()) <= QUOTED {
        0
    } else {
        same.saturating_sub(LEAD)
    };
    let window = |text: &str| {
        let before = if from > 0 { "..." } else { "" };
        let shown: String = text.chars().skip(from).take(QUOTED).collect();
        let after = if text.chars().count() > from + QUOTED { "..." } else { "" };
        format!("{:?}", format!("{before}{shown}{after}"))
    };
    (window(was), window(now))
}

#[cfg(test)]
mod tests {
    use super::super::job::Secret;
    use super::super::job::tests::sample;
    use crate::domain::UnixMillis;

    #[test]
    fn the_same_job_begun_again_does_not_differ_nor_over_another_input() {
        let was = sample(25, 10);
        let mut now = sample(25, 20);
        now.secret = Secret::from_bytes([9; 32]);
        now.created = UnixMillis(5);
        now.batchclass = "9.9.9".into();
        now.input.files[0].bytes = 7;
        now.input.rows = 26;
        assert_eq!(was.differences(&now), []);
    }

    #[test]
    fn every_change_is_named_with_both_sides() {
        let was = sample(25, 10);
        let mut now = was.clone();
        now.model.name = "other".into();
        now.prompt.labels[0].code = "X".into();
        now.prompt.labels[1].name = "Country".into();
        let found: Vec<String> =
            was.differences(&now).iter().map(|difference| difference.to_string()).collect();
        assert_eq!(
            found,
            [
                "model.name: was \"gpt-4o-mini\", is now \"other\"",
                "label `Rural`: was there, is now not there",
                "code of label `Urban`: was \"A\", is now \"X\"",
                "label `Country`: was not there, is now there",
            ]
        );
    }

    #[test]
    fn files_that_are_read_otherwise_are_another_job() {
        let was = sample(25, 10);
        let mut now = was.clone();
        now.input.reading.delimiter = Some(';');
        now.input.reading.quote = None;
        now.input.reading.header = false;
        let found: Vec<String> =
            was.differences(&now).iter().map(|difference| difference.to_string()).collect();
        assert_eq!(
            found,
            [
                "input.delimiter: was \"none\", is now \";\"",
                "input.quote: was \"\\\"\", is now \"none\"",
                "input.header: was \"true\", is now \"false\"",
            ]
        );
    }

    #[test]
    fn another_catch_all_is_another_job() {
        let was = sample(25, 10);
        let mut now = was.clone();
        now.prompt.none_of_these = Some("Rural".into());
        let found = was.differences(&now);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "none_of_these: was \"none\", is now \"Rural\"");
    }

    #[test]
    fn a_long_text_is_cut_around_its_first_difference() {
        let mut was = sample(1, 1);
        was.prompt.instructions = format!("{}SMALL{}", "x".repeat(500), "y".repeat(500));
        let mut now = was.clone();
        now.prompt.instructions = was.prompt.instructions.replace("SMALL", "LARGE");
        let found = was.differences(&now);
        assert!(found[0].was.contains("xSMALLy") && found[0].now.contains("xLARGEy"));
        assert!(found[0].was.len() < 80);
    }

    #[test]
    fn reordered_labels_are_a_difference_because_the_prompt_changes() {
        let was = sample(1, 1);
        let mut now = was.clone();
        now.prompt.labels.reverse();
        assert_eq!(was.differences(&now).len(), 1);
    }
}

//! The embedded scorer: what it gets right on real questions, and a job whose scorer learns.

use std::path::Path;

use batchclass::domain::spec::{CloudSpec, IdSource, InputSpec, OnDuplicateId};
use batchclass::domain::{Location, Position, PositionRange, Reading, Template};
use batchclass::input::OrderedInput;
use batchclass::llm::fitted_scorer::{FOLDS, FittedScorer, cross_validated};
use batchclass::llm::lexical_scorer::{LabelText, LexicalScorer};

use crate::support::{
    Scratch, Simulated, order_label, orders_config, orders_csv, part_files, read_part, read_parts,
};

/// Texts and labels of a fixture of Banking77, in its order.
fn banking77(name: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/banking77").join(name);
    let spec = InputSpec {
        location: Location::Path(path),
        cloud: CloudSpec::default(),
        reading: Reading::default(),
        id: IdSource::RowNumber,
        text: Template::parse("text").unwrap(),
        existing_label: Some("category".into()),
        gold: None,
        columns: Some(Vec::new()),
        on_duplicate_id: OnDuplicateId::Error,
        sort_memory: 1 << 20,
        temp_dir: std::env::temp_dir(),
    };
    let input = OrderedInput::open(&spec).unwrap();
    let all = PositionRange { first: Position(0), rows: input.rows() };
    let chunks = input.read(vec![all]).unwrap();
    let rows = chunks.flat_map(|chunk| chunk.unwrap().rows);
    rows.map(|row| (row.text.unwrap().into(), row.existing_label.unwrap().into())).collect()
}

fn names(rows: &[(String, String)]) -> Vec<&str> {
    let mut names: Vec<&str> = rows.iter().map(|(_, label)| label.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Each row's text and the place of its label among `names`.
fn placed<'a>(rows: &'a [(String, String)], names: &[&str]) -> Vec<(&'a str, usize)> {
    let place = |label: &String| names.binary_search(&label.as_str()).unwrap();
    rows.iter().map(|(text, label)| (text.as_str(), place(label))).collect()
}

/// At most `most` rows of each label, the first ones.
fn first_of_each<'a>(rows: &[(&'a str, usize)], most: usize) -> Vec<(&'a str, usize)> {
    let mut taken = std::collections::HashMap::new();
    let mut is_wanted = |label| {
        let taken: &mut usize = taken.entry(label).or_default();
        *taken += 1;
        *taken <= most
    };
    rows.iter().filter(|(_, label)| is_wanted(*label)).copied().collect()
}

#[test]
fn names_alone_label_45_percent_of_banking77_rightly() {
    let test = banking77("questions.parquet");
    let names = names(&test);
    let labels: Vec<LabelText<'_>> =
        names.iter().map(|&name| LabelText { name, ..LabelText::default() }).collect();
    let scorer = LexicalScorer::new(&labels);
    let mut scratch = scorer.scratch();
    let right = |row: &&(&str, usize)| scorer.best(row.0, &mut scratch).label == row.1;
    let rows = placed(&test, &names);
    let right = rows.iter().filter(right).count();
    assert_eq!((names.len(), rows.len()), (77, 3_080));
    assert!(right >= 1_386, "{right} of 3,080; 1,493 are usual, 48.5 %");
}

// All 10,003 training rows make 91.4 %, and 90.4 % cross-validated: the example `scorer` shows it. Here are 30
// a label, since code that is not optimized takes twenty times as long.
#[test]
fn thirty_rows_a_label_teach_85_percent_of_banking77() {
    let (train, test) = (banking77("train.parquet"), banking77("questions.parquet"));
    let names = names(&test);
    let known = placed(&train, &names);
    assert_eq!(known.len(), 10_003);
    let known = first_of_each(&known, 30);
    let scorer = FittedScorer::fit(known.iter().copied(), names.len());
    let mut scratch = scorer.scratch();
    let right = |row: &&(&str, usize)| scorer.best(row.0, &mut scratch).label == row.1;
    let right = placed(&test, &names).iter().filter(right).count();
    assert_eq!(known.len(), 2_310);
    assert!(right >= 2_590, "{right} of 3,080; 2,621 are usual, 85.1 %");
}

#[test]
fn cross_validation_tells_about_what_other_rows_show() {
    let (train, test) = (banking77("train.parquet"), banking77("questions.parquet"));
    let names = names(&test);
    let ten = first_of_each(&placed(&train, &names), 10);
    let checked = cross_validated(&ten, names.len(), FOLDS, 0);
    assert_eq!((checked.rows, checked.predictions.len()), (770, 770));
    // Eight rows a label teach about as much as ten do, which is 72.1 % of the test rows.
    let accuracy = checked.accuracy().unwrap();
    assert!((0.60..0.76).contains(&accuracy), "{accuracy}");
}

/// Rows of the three labels of [`orders_csv`], in words that are in no label's name or description.
fn known_csv(column: &str) -> String {
    let mut csv = format!("body,text,{column}\n");
    for row in 0..10 {
        csv.push_str(&format!("x,my box number {row} is late,delivery\n"));
        csv.push_str(&format!("x,you took {row} euros too much,payment\n"));
        csv.push_str(&format!("x,I can not sign in since day {row},login\n"));
    }
    csv
}

const FITTED: &str = "provider = \"lexical\"\nfit = \"known.csv\"\nfit_label = \"class\"";

fn fitted_job(rows: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("orders.csv", rows);
    scratch.write("known.csv", &known_csv("class"));
    scratch.write("batchclass.toml", &orders_config(FITTED));
    scratch
}

#[test]
fn a_job_is_labelled_by_what_its_scorer_learned() {
    let rows = "id,text\n1,is my box late?\n2,too many euros\n3,sign in fails\n";
    let scratch = fitted_job(rows);
    let done = scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    let said = "the scorer learned from 30 rows; cross-validated, 100.0 % of them are right";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    let labels: Vec<Option<String>> =
        read_parts(&scratch.path("out")).into_iter().map(|row| row.label).collect();
    assert_eq!(labels, ["delivery", "payment", "login"].map(|label| Some(label.to_owned())));

    let again = scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    assert!(
        !again.stderr.contains("learned"),
        "nothing to ask, nothing to learn: {}",
        again.stderr
    );
    let part = std::fs::read(&part_files(&scratch.path("out"))[0]).unwrap();
    let part = String::from_utf8_lossy(&part);
    assert!(part.contains("lexical fit:"), "the footer does not say what was learned from");
}

#[test]
fn an_output_is_of_the_rows_that_were_learned_from_whatever_their_file_is_called() {
    let scratch = fitted_job(&orders_csv(6));
    scratch.batchclass(&["orders.csv", "out", "--limit", "3"]).expect_code(0);
    scratch.write("other.csv", &known_csv("class"));
    let args = ["orders.csv", "out", "--fit", "other.csv"];
    scratch.batchclass(&args).expect_code(0);
    assert_eq!(read_parts(&scratch.path("out")).len(), 6);

    let more = known_csv("class") + "x,where is it,delivery\n";
    scratch.write("other.csv", &more);
    let refused = scratch.batchclass(&args).expect_code(2);
    assert!(refused.stderr.contains("the rows of model.fit"), "{}", refused.stderr);
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    let refused = scratch.batchclass(&["orders.csv", "out"]).expect_code(2);
    assert!(refused.stderr.contains("the rows of model.fit"), "{}", refused.stderr);
}

#[test]
fn what_can_not_be_learned_from_is_said_in_a_sentence_and_costs_nothing() {
    let scratch = fitted_job(&orders_csv(3));
    scratch.write("foreign.csv", "text,class\na,delivery\nb,\nc,Delivery\n");
    scratch.write("one.csv", "text,class\na,delivery\nb,delivery\n,login\n");
    scratch.write("column.csv", "text,klass\na,delivery\n");
    let long = "long text ".repeat(1 << 20);
    scratch.write("long.csv", &format!("text,class\n{long},delivery\n{long},login\n"));
    let hosted = ["--provider", "openai", "--model", "m", "--base-url", "http://localhost:1"];
    for (args, words) in [
        (&["--fit", "foreign.csv"][..], "`Delivery` in the column `class`, row 3 of foreign.csv"),
        (&["--fit", "one.csv"], "one.csv has rows with a text and a label for 1 of the job's"),
        (&["--fit", "column.csv"], "did you mean `klass`?"),
        (&["--fit", "absent.csv"], "can't learn from absent.csv"),
        (&["--fit", "long.csv"], "the texts in long.csv have more than 16 MiB"),
        (&["--fit-label", ""], "`fit_label` is empty"),
        (&hosted, "does nothing with provider = \"openai\""),
    ] {
        let refused = scratch.batchclass(&[&["orders.csv", "out"], args].concat()).expect_code(2);
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
        assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{}", refused.stderr);
        assert!(!scratch.path("out").exists(), "{words}");
    }
}

#[test]
fn known_answers_are_learned_from_by_default() {
    let scratch = fitted_job("id,text,truth\n1,is my box late?,delivery\n");
    scratch.write("known.csv", &known_csv("truth"));
    let config = orders_config("provider = \"lexical\"\nfit = \"known.csv\"");
    scratch.write("batchclass.toml", &config);
    scratch.batchclass(&["orders.csv", "out", "--gold", "truth"]).expect_code(0);
    let nowhere = scratch.batchclass(&["orders.csv", "elsewhere"]).expect_code(2);
    assert!(nowhere.stderr.contains("fit_label"), "{}", nowhere.stderr);
}

#[test]
fn seven_hundred_labels_are_told_apart_in_every_form() {
    const SYLLABLES: [&str; 9] = ["ba", "du", "fi", "go", "ke", "lu", "mo", "ri", "ze"];
    let name = |at: usize| {
        let syllables = [at / 81 % 9, at / 9 % 9, at % 9].map(|at| SYLLABLES[at]);
        format!("the {} of {}", syllables.concat(), syllables[2].repeat(2))
    };
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    let mut config = format!(
        "id = 'id'\ntext = 'text'\ninstructions = 'Sort.'\nunsure = 'U'\n\
         none_of_these = 'something else'\n[model]\nprovider = 'openai'\nname = 'gpt-4o'\n\
         base_url = '{}'\n[batch]\ntokens_per_call = 12_000\n",
        server.base_url()
    );
    let mut rows = String::from("id,text\n");
    for at in 0..699 {
        config.push_str(&format!("[[labels]]\nname = '{}'\n", name(at)));
        rows.push_str(&format!("{at},{}\n", name(at)));
    }
    scratch.write("rows.csv", &rows);
    scratch.write("batchclass.toml", &config);
    for form in ["array", "object", "lines"] {
        scratch.batchclass(&["rows.csv", form, "--answer-form", form]).expect_code(0);
        let rows = read_parts(&scratch.path(form));
        assert_eq!(rows.len(), 699);
        for row in rows {
            assert_eq!(row.label, Some(name(row.id as usize)), "{form}");
        }
    }
}

#[test]
fn the_catch_all_labels_what_is_like_nothing_and_is_part_of_the_job() {
    let scratch = Scratch::new();
    let rows = orders_csv(3) + "90,QQQ\n93,zebra crossing\n";
    scratch.write("orders.csv", &rows);
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    let args = ["orders.csv", "out", "--none-of-these", "zebra crossing", "--unsure", "U"];
    scratch.batchclass(&args).expect_code(0);
    for row in read_part(&part_files(&scratch.path("out"))[0]) {
        let label = if row.id < 90 { order_label(row.id) } else { "zebra crossing" };
        assert_eq!(row.label.as_deref(), Some(label), "{}", row.text);
    }
    let args = ["orders.csv", "out", "--label", "a", "--label", "b", "--none-of-these", "b"];
    let refused = scratch.batchclass(&args).expect_code(2);
    assert!(refused.stderr.contains("needs at least two labels"), "{}", refused.stderr);
    let refused = scratch.batchclass(&["orders.csv", "out", "--unsure", "U"]).expect_code(2);
    assert!(refused.stderr.contains("none_of_these: was \"zebra crossing\""), "{}", refused.stderr);
}

//! Whatever a server does to its replies: no wrong label, no row twice, no row lost.

use std::collections::BTreeSet;

use crate::support::{Scratch, Simulated, order_label, orders_csv, read_parts, simulated_config};

#[test]
fn every_fault_at_once_gives_no_wrong_label_and_loses_no_row() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--faults", "0.05", "--hang", "0.02"]);
    scratch.write("orders.csv", &orders_csv(2_000));
    scratch.write("batchclass.toml", &simulated_config(&server));
    let args = ["orders.csv", "out", "--rows-per-call", "20", "--reply-timeout-s", "1"];
    let finished = scratch.batchclass(&args);
    assert!(matches!(finished.code, Some(0 | 3)), "{finished:?}");

    let rows = read_parts(&scratch.path("out"));
    let ids: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
    assert_eq!((rows.len(), ids.len()), (2_000, 2_000));
    for row in &rows {
        match (&row.label, &row.reason) {
            (Some(label), None) => assert_eq!(label, order_label(row.id), "{}", row.text),
            (None, Some(reason)) => assert!(
                ["missing", "unknown_code", "conflicting", "refused", "provider_error"]
                    .contains(&reason.as_str()),
                "{reason}"
            ),
            other => panic!("{}: {other:?}", row.id),
        }
    }
    let labelled = rows.iter().filter(|row| row.label.is_some()).count();
    assert!(labelled > 1_900, "{labelled}");
}

#[test]
fn a_refused_row_stands_alone_and_its_neighbours_are_labelled() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--refuse-marker", "charge 7 "]);
    scratch.write("orders.csv", &orders_csv(40));
    scratch.write("batchclass.toml", &simulated_config(&server));
    scratch.batchclass(&["orders.csv", "out"]).expect_code(3);
    let rows = read_parts(&scratch.path("out"));
    let refused: Vec<&str> = rows
        .iter()
        .filter(|row| row.reason.as_deref() == Some("refused"))
        .map(|row| row.text.as_str())
        .collect();
    assert_eq!(refused, ["charge 7 on my card is wrong: refund the payment"]);
    assert_eq!(rows.iter().filter(|row| row.label.is_some()).count(), 39);

    let asked = server.count("rows_asked");
    scratch.batchclass(&["orders.csv", "out"]).expect_code(3);
    assert_eq!(server.count("rows_asked"), asked, "a rerun pays for no refusal again");
    scratch.batchclass(&["orders.csv", "out", "--retry", "refused"]).expect_code(3);
    assert_eq!(server.count("rows_asked"), asked + 1);
}

#[test]
fn rows_that_are_refused_again_stop_no_job_that_has_labels() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--refuse-marker", "charge"]);
    scratch.write("orders.csv", &orders_csv(30));
    scratch.write("batchclass.toml", &simulated_config(&server));
    for retry in [&[][..], &["--retry", "refused"][..]] {
        let args = [&["orders.csv", "out"][..], retry].concat();
        scratch.batchclass(&args).expect_code(3);
    }
    let rows = read_parts(&scratch.path("out"));
    assert_eq!(rows.iter().filter(|row| row.reason.as_deref() == Some("refused")).count(), 10);
}

#[test]
fn a_refused_parameter_is_dropped_and_every_form_labels_the_same_rows() {
    for refused in ["pattern", "response_format", "max_completion_tokens"] {
        let scratch = Scratch::new();
        let server = Simulated::start(&["--refuse-parameter", refused]);
        scratch.write("orders.csv", &orders_csv(30));
        scratch.write("batchclass.toml", &simulated_config(&server));
        scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
        for row in read_parts(&scratch.path("out")) {
            assert_eq!(row.label.as_deref(), Some(order_label(row.id)), "{refused}");
        }
    }
}

#[test]
fn each_answer_form_labels_the_same_rows() {
    let server = Simulated::start(&[]);
    for form in ["array", "object", "lines"] {
        let scratch = Scratch::new();
        scratch.write("orders.csv", &orders_csv(75));
        scratch.write("batchclass.toml", &simulated_config(&server));
        let args = ["orders.csv", "out", "--answer-form", form, "--rows-per-call", "20"];
        scratch.batchclass(&args).expect_code(0);
        for row in read_parts(&scratch.path("out")) {
            assert_eq!(row.label.as_deref(), Some(order_label(row.id)), "{form}");
        }
    }
}

#[test]
fn rows_with_equal_text_are_asked_once() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    let mut csv = String::from("id,text\n");
    for id in 0..200 {
        csv.push_str(&format!("{id},unlock the login {}\n", id % 4));
    }
    scratch.write("orders.csv", &csv);
    scratch.write("batchclass.toml", &simulated_config(&server));
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    assert_eq!(server.count("rows_asked"), 4);
    let rows = read_parts(&scratch.path("out"));
    assert_eq!(rows.len(), 200);
    assert!(rows.iter().all(|row| row.label.as_deref() == Some("login")));
}

#[test]
fn a_model_that_refuses_everything_stops_the_run_and_no_row_is_blamed() {
    let scratch = Scratch::new();
    let refusing = Simulated::start(&["--refuse", "1"]);
    scratch.write("orders.csv", &orders_csv(60));
    scratch.write("batchclass.toml", &simulated_config(&refusing));
    let args = ["orders.csv", "out", "--rows-per-part", "4"];
    let stopped = scratch.batchclass(&args).expect_code(4);
    assert!(
        stopped.stderr.contains("the prompt, a setting or the model is at fault"),
        "{}",
        stopped.stderr
    );
    assert!(refusing.count("requests") < 60, "{}", refusing.count("requests"));

    let healthy = Simulated::start(&[]);
    let base_url = healthy.base_url();
    let args = [&args[..], &["--base-url", &base_url]].concat();
    scratch.batchclass(&args).expect_code(0);
    let rows = read_parts(&scratch.path("out"));
    assert_eq!(rows.len(), 60);
    for row in rows {
        assert_eq!(row.label.as_deref(), Some(order_label(row.id)), "{}", row.text);
    }
}

//! Stopped in any way, the same command goes on and pays for nothing twice.

use std::path::Path;

use crate::support::{
    Finished, Scratch, Simulated, order_label, orders_csv, part_files, read_parts, simulated_config,
};

const ROWS: usize = 1_500;

fn lay(scratch: &Scratch, server: &Simulated) {
    scratch.write("orders.csv", &orders_csv(ROWS));
    let limits = "\n[limits]\ntokens_per_minute = 0\n[batch]\nrows_per_call = 10\n\
                  [output]\nrows_per_part = 200\n";
    scratch.write("batchclass.toml", &(simulated_config(server) + limits));
}

fn expect_whole(out: &Path) {
    let rows = read_parts(out);
    assert_eq!(rows.len(), ROWS);
    assert!(rows.is_sorted_by_key(|row| row.id));
    for row in rows {
        assert_eq!(row.label.as_deref(), Some(order_label(row.id)), "{}", row.text);
    }
}

#[test]
fn killed_again_and_again_it_ends_like_one_clean_run_and_pays_only_for_what_was_in_flight() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "40"]);
    lay(&scratch, &server);
    for kill in 1..=4 {
        let mut child = scratch.command(&["orders.csv", "out"]).spawn().unwrap();
        server.wait_for("rows_asked", kill * 300);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    expect_whole(&scratch.path("out"));
    assert_eq!(server.count("rows_asked_again_unexplained"), 0);

    scratch.batchclass(&["orders.csv", "clean"]).expect_code(0);
    let names = |out: &str| -> Vec<_> {
        let files = part_files(&scratch.path(out));
        files.iter().map(|file| file.file_name().unwrap().to_owned()).collect()
    };
    assert_eq!(names("out"), names("clean"));
    assert_eq!(read_parts(&scratch.path("out")), read_parts(&scratch.path("clean")));
}

#[test]
fn interrupted_once_it_finishes_what_is_in_flight_and_says_how_to_go_on() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "40"]);
    lay(&scratch, &server);
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let child = scratch.command(&["orders.csv", "out"]).spawn().unwrap();
        server.wait_for("rows_asked", server.count("rows_asked") + 200);
        let pid = child.id().to_string();
        std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        let finished = Finished::of(child.wait_with_output().unwrap()).expect_code(code);
        assert!(finished.stderr.contains("same command"), "{}", finished.stderr);
    }
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    expect_whole(&scratch.path("out"));
    assert_eq!(server.count("rows_asked"), ROWS as u64, "nothing in flight was lost");
}

#[test]
fn a_second_run_on_the_same_output_is_told_who_holds_it() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "4000"]);
    lay(&scratch, &server);
    let mut child = scratch.command(&["orders.csv", "out"]).spawn().unwrap();
    server.wait_for("rows_asked", 1);
    let second = scratch.batchclass(&["orders.csv", "out"]).expect_code(4);
    assert!(second.stderr.contains(&child.id().to_string()), "{}", second.stderr);
    child.kill().unwrap();
    child.wait().unwrap();
    let fast = Simulated::start(&[]);
    scratch.batchclass(&["orders.csv", "out", "--base-url", &fast.base_url()]).expect_code(0);
    expect_whole(&scratch.path("out"));
}

#[test]
fn a_lost_part_is_made_again_and_nothing_else_is() {
    let scratch = Scratch::new();
    let server = Simulated::start(&[]);
    lay(&scratch, &server);
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    std::fs::remove_file(&part_files(&scratch.path("out"))[2]).unwrap();
    let asked = server.count("rows_asked");
    let finished = scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    assert!(finished.stderr.contains("part-000003.parquet"), "{}", finished.stderr);
    expect_whole(&scratch.path("out"));
    assert_eq!(server.count("rows_asked"), asked + 200);
}

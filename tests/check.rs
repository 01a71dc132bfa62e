//! `check` says what storage promises, before anything is spent, and leaves it as it was.

use std::fs;

use crate::support::{Scratch, orders_config, orders_csv};

#[test]
fn a_disk_promises_everything_and_is_left_as_it_was() {
    let scratch = Scratch::new();
    let said = scratch.batchclass(&["check", "out"]).expect_code(0).stdout;
    assert!(said.starts_with("storage              local disk\n"), "{said}");
    assert!(said.contains("layout               replace"), "{said}");
    let kept = ["read back", "create once", "fresh listing", "replace", "remove", "durable"];
    for promise in kept {
        assert!(said.lines().any(|line| line.starts_with(&format!("ok     {promise} "))), "{said}");
    }
    assert!(!scratch.path("out").exists());
}

#[test]
fn an_output_that_stands_is_checked_and_goes_on_as_if_nothing_had_been() {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(50));
    scratch.write("batchclass.toml", &orders_config("provider = \"lexical\""));
    scratch.batchclass(&["orders.csv", "out", "--limit", "20"]).expect_code(0);
    let said = scratch.batchclass(&["check", "out", "--json"]).expect_code(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["layout"], "replace");
    assert_eq!(json["findings"].as_array().unwrap().len(), 7);
    let control: Vec<_> = fs::read_dir(scratch.path("out/_batchclass")).unwrap().collect();
    let is_probe = |name: &std::ffi::OsStr| name.to_string_lossy().contains("probe");
    assert!(!control.iter().any(|entry| is_probe(&entry.as_ref().unwrap().file_name())));
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(0);
}

#[test]
fn a_place_where_nothing_can_be_written_is_one_sentence() {
    let scratch = Scratch::new();
    scratch.write("file", "x");
    for (place, code) in [("file", 2), ("file/out", 2), ("/proc/out", 4), ("http://a/b", 2)] {
        let refused = scratch.batchclass(&["check", place]).expect_code(code);
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    }
}

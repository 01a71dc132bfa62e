//! `verify` names what is wrong with an output, tells it from what is not done, and touches nothing.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::support::{
    Finished, Scratch, Simulated, orders_config, orders_csv, part_files, simulated_config,
};

const ROWS: usize = 250;

/// A finished output `out` of `orders.csv`, in parts of 100 rows.
fn finished() -> Scratch {
    let scratch = Scratch::new();
    scratch.write("orders.csv", &orders_csv(ROWS));
    let config = orders_config("provider = \"lexical\"") + "[output]\nrows_per_part = 100\n";
    scratch.write("batchclass.toml", &config);
    scratch.batchclass(&["orders.csv", "out"]).expect_code(0);
    scratch
}

fn overwrite(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// The names of the checks that failed.
fn failed(verified: &Finished) -> Vec<&str> {
    let lines = verified.stdout.lines().filter_map(|line| line.strip_prefix("FAILED"));
    lines.filter_map(|line| line.split_whitespace().next()).collect()
}

#[test]
fn a_finished_output_verifies_with_and_without_its_input() {
    let scratch = finished();
    let csv = orders_csv(ROWS);
    let mut lines: Vec<&str> = csv.lines().collect();
    lines[1..].reverse();
    scratch.write("reversed.csv", &(lines.join("\n") + "\n"));
    for input in [&[][..], &["--input", "orders.csv"], &["--input", "reversed.csv"]] {
        let verified = scratch.batchclass(&[&["verify", "out"], input].concat()).expect_code(0);
        assert!(verified.stdout.lines().all(|line| line.starts_with("ok ")), "{verified:?}");
        assert_eq!(verified.stderr, "");
    }
}

#[test]
fn the_fixture_verifies_in_parquet_and_csv() {
    let folder = format!("{}/fixtures/banking77", env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new();
    for (input, other) in
        [("questions.parquet", "questions.csv"), ("questions.csv", "questions.parquet")]
    {
        let [input, other, config] =
            [input, other, "batchclass.toml"].map(|name| format!("{folder}/{name}"));
        let out = if input.ends_with("csv") { "csv" } else { "parquet" };
        scratch.batchclass(&[&input, out, "--config", &config]).expect_code(0);
        for compared in [&input, &other] {
            let verified = scratch.batchclass(&["verify", out, "--input", compared]).expect_code(0);
            assert!(verified.stdout.contains("3080 ids in the input"), "{}", verified.stdout);
        }
    }
}

#[test]
fn an_input_without_an_id_column_and_with_own_labels_verifies() {
    let scratch = Scratch::new();
    let csv = "text,old\nwhere is my parcel,\nrefund my card,kept by hand\n,\n";
    scratch.write("rows.csv", csv);
    let config = orders_config("provider = \"lexical\"").replace("id = \"id\"", "id = \"@row\"");
    scratch.write("batchclass.toml", &(config + "[input]\nexisting_label = \"old\"\n"));
    scratch.batchclass(&["rows.csv", "out"]).expect_code(3);
    let verified = scratch.batchclass(&["verify", "out", "--input", "rows.csv"]).expect_code(0);
    assert!(verified.stdout.contains("1 rows without a label"), "{}", verified.stdout);
    assert!(verified.stdout.contains("not written: rows have no label"), "{}", verified.stdout);
}

#[test]
fn verifying_changes_nothing_on_disk() {
    let scratch = finished();
    let before = everything_below(&scratch.path("out"));
    scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(0);
    fs::remove_file(scratch.path("out/_SUCCESS")).unwrap();
    let without = everything_below(&scratch.path("out"));
    scratch.batchclass(&["verify", "out"]).expect_code(3);
    assert_eq!(everything_below(&scratch.path("out")), without);
    assert_eq!(before.len(), without.len() + 1);
}

/// Every path below `folder`, with its bytes and when it was changed.
fn everything_below(folder: &Path) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let changed = entry.metadata().unwrap().modified().unwrap();
        let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
        found.push((path.display().to_string(), bytes, changed));
        if path.is_dir() {
            found.extend(everything_below(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn a_flipped_byte_anywhere_in_a_part_is_named() {
    let scratch = finished();
    let part = scratch.path("out/part-000002.parquet");
    let sound = fs::read(&part).unwrap();
    for at in (0..sound.len()).step_by(sound.len() / 40) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        overwrite(&part, &damaged);
        let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
        assert!(failed(&verified).contains(&"checksums"), "byte {at}: {}", verified.stdout);
        assert!(verified.stdout.contains("part-000002.parquet does not have the SHA-256"));
        assert!(!verified.stderr.contains("internal"), "byte {at}: {}", verified.stderr);
    }
    overwrite(&part, &sound);
    scratch.batchclass(&["verify", "out"]).expect_code(0);
}

#[test]
fn swapped_parts_are_named() {
    let scratch = finished();
    let parts = part_files(&scratch.path("out"));
    let [first, second] = [0, 1].map(|at| fs::read(&parts[at]).unwrap());
    overwrite(&parts[0], &second);
    overwrite(&parts[1], &first);
    let verified = scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(4);
    assert_eq!(failed(&verified), ["checksums", "footers", "ids", "input"]);
    assert!(verified.stdout.contains("the footer of part-000001.parquet is that of part 000002"));
}

#[test]
fn a_part_of_another_job_is_named() {
    let [scratch, other] = [finished(), finished()];
    let part = other.path("out/part-000003.parquet");
    overwrite(&scratch.path("out/part-000003.parquet"), &fs::read(part).unwrap());
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
    assert!(failed(&verified).contains(&"footers"), "{}", verified.stdout);
    assert!(verified.stdout.contains("part-000003.parquet belongs to another job"));
}

#[test]
fn a_deleted_part_is_named_and_one_that_was_never_written_is_not_done() {
    let scratch = finished();
    fs::remove_file(scratch.path("out/part-000002.parquet")).unwrap();
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
    assert_eq!(failed(&verified), ["parts"]);
    assert!(
        verified.stdout.contains("part-000002.parquet with 100 rows is recorded, but it is gone")
    );

    fs::remove_file(scratch.path("out/_batchclass/manifest/000002.json")).unwrap();
    fs::remove_file(scratch.path("out/_SUCCESS")).unwrap();
    let verified = scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(3);
    assert!(verified.stdout.contains("100 rows are not done yet"), "{}", verified.stdout);
    assert!(verified.stdout.contains("100 rows of the input are not done yet"));
}

#[test]
fn a_limited_output_is_not_done() {
    let scratch = finished();
    scratch.batchclass(&["orders.csv", "some", "--limit", "120"]).expect_code(0);
    let verified = scratch.batchclass(&["verify", "some", "--input", "orders.csv"]).expect_code(3);
    assert!(verified.stdout.contains("130 rows of the input are not planned yet"), "{verified:?}");
    assert!(verified.stdout.contains("130 rows of the input are not done yet"), "{verified:?}");
}

#[test]
fn an_output_that_a_run_is_writing_is_not_done_and_never_damaged() {
    let scratch = Scratch::new();
    let server = Simulated::start(&["--latency-ms", "30"]);
    scratch.write("orders.csv", &orders_csv(1_000));
    let limits = "[limits]\ntokens_per_minute = 0\n[batch]\nrows_per_call = 10\n\
                  [output]\nrows_per_part = 20\n";
    scratch.write("batchclass.toml", &(simulated_config(&server) + limits));
    scratch.batchclass(&["orders.csv", "out", "--limit", "20"]).expect_code(0);
    let mut run = scratch.command(&["orders.csv", "out"]).spawn().unwrap();
    while run.try_wait().unwrap().is_none() {
        let verified = scratch.batchclass(&["verify", "out", "--input", "orders.csv"]);
        assert!(matches!(verified.code, Some(0 | 3)), "{verified:?}");
    }
    scratch.batchclass(&["verify", "out", "--input", "orders.csv"]).expect_code(0);
}

#[test]
fn a_part_without_its_record_is_not_done() {
    let scratch = finished();
    fs::remove_file(scratch.path("out/_batchclass/manifest/000003.json")).unwrap();
    fs::remove_file(scratch.path("out/_SUCCESS")).unwrap();
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(3);
    assert!(verified.stdout.contains("part-000003.parquet has no record yet"), "{verified:?}");
}

#[test]
fn an_edited_record_is_named_even_if_its_checksum_was_made_to_fit() {
    let scratch = finished();
    let record = scratch.path("out/_batchclass/manifest/000001.json");
    let sound = fs::read_to_string(&record).unwrap();
    let edited = sound.replace("\"model\":\"lexical\"", "\"model\":\"gpt-4o\"");
    assert_ne!(edited, sound);
    overwrite(&record, edited.as_bytes());
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
    assert!(failed(&verified).contains(&"manifest"), "{}", verified.stdout);
    assert!(verified.stdout.contains("_batchclass/manifest/000001.json is damaged"));

    let json = edited.trim_end().split_once("\"record\":").unwrap().1.strip_suffix('}').unwrap();
    let digest: String =
        Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    overwrite(&record, format!("{{\"checksum\":\"{digest}\",\"record\":{json}}}\n").as_bytes());
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
    assert_eq!(failed(&verified), ["footers"]);
    assert!(verified.stdout.contains("000001.json differ in model"), "{}", verified.stdout);
}

#[test]
fn totals_and_files_that_do_not_belong_are_named() {
    let scratch = finished();
    let success = scratch.path("out/_SUCCESS");
    let sound = fs::read_to_string(&success).unwrap();
    overwrite(&success, sound.replace("\"rows\": 250", "\"rows\": 251").as_bytes());
    let parts = part_files(&scratch.path("out"));
    for name in ["copy.parquet", "part-000009.parquet"] {
        fs::copy(&parts[0], scratch.path("out").join(name)).unwrap();
    }
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
    assert_eq!(failed(&verified), ["success", "files"]);
    assert!(verified.stdout.contains("_SUCCESS says 251 rows, the records say 250"));
    assert!(verified.stdout.contains("copy.parquet is no part"));
    assert!(verified.stdout.contains("part-000009.parquet is not planned"));
}

#[test]
fn a_damaged_job_fails_and_a_folder_without_one_is_no_output() {
    let scratch = finished();
    overwrite(&scratch.path("out/_batchclass/job.json"), b"{");
    let verified = scratch.batchclass(&["verify", "out"]).expect_code(4);
    assert_eq!(failed(&verified), ["job"]);
    for nothing in ["none", "orders.csv", "."] {
        let verified = scratch.batchclass(&["verify", nothing]).expect_code(2);
        assert!(verified.stderr.contains("no output of batchclass"), "{}", verified.stderr);
    }
}

#[test]
fn an_input_with_a_row_more_or_less_is_told_by_the_id() {
    let scratch = finished();
    let csv = orders_csv(ROWS);
    let more = csv.clone() + "11,one more\n";
    scratch.write("more.csv", &more);
    let verified = scratch.batchclass(&["verify", "out", "--input", "more.csv"]).expect_code(4);
    assert_eq!(failed(&verified), ["input"]);
    assert!(verified.stdout.contains("1 ids of the input stand in no part: 11"), "{verified:?}");

    let less: Vec<&str> = csv.lines().filter(|line| !line.starts_with("13,")).collect();
    scratch.write("less.csv", &(less.join("\n") + "\n"));
    let arguments = ["verify", "out", "--input", "less.csv", "--json"];
    let verified = scratch.batchclass(&arguments).expect_code(4);
    let verdict: serde_json::Value = serde_json::from_str(&verified.stdout).unwrap();
    assert_eq!(verdict["state"], "failed");
    let checks = verdict["checks"].as_array().unwrap();
    let input = checks.iter().find(|check| check["name"] == "input").unwrap();
    assert_eq!(input["state"], "failed");
    assert!(input["problems"][0].as_str().unwrap().ends_with(": 13"), "{input}");
    assert!(checks.iter().filter(|check| check["name"] != "input").all(|it| it["state"] == "ok"));
}

#[test]
fn an_input_that_lacks_the_jobs_columns_is_refused() {
    let scratch = finished();
    scratch.write("other.csv", "key,text\n1,a\n");
    let verified = scratch.batchclass(&["verify", "out", "--input", "other.csv"]).expect_code(2);
    assert!(verified.stderr.contains("`id`"), "{}", verified.stderr);
}

//! Inputs and outputs in object storage, against a real S3 server: the same rows as on disk, each
//! once, and nothing is paid for twice.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::moto::{self, KEY_ID, SECRET_KEY, TestBucket};
use crate::support::{
    Finished, OutputRow, Scratch, Simulated, order_label, orders_config, orders_csv, read_parts,
    simulated_config,
};

const ROWS: usize = 900;

/// A bucket, a folder to run in and a model to ask.
struct Rig {
    scratch: Scratch,
    server: Simulated,
    bucket: TestBucket,
}

impl Rig {
    /// `None` where there is no S3 server.
    fn lay(flags: &[&str]) -> Option<Rig> {
        let bucket = moto::bucket()?;
        let rig = Rig { scratch: Scratch::new(), server: Simulated::start(flags), bucket };
        rig.scratch.write("orders.csv", &orders_csv(ROWS));
        let settings = "\n[batch]\nrows_per_call = 10\n[output]\nrows_per_part = 200\n";
        rig.scratch.write("batchclass.toml", &(simulated_config(&rig.server) + settings));
        Some(rig)
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.scratch.command(args);
        command.env("HOME", self.scratch.path("home")).envs(self.bucket.environment());
        command
    }

    fn run(&self, args: &[&str]) -> Finished {
        let finished = Finished::of(self.command(args).output().unwrap());
        for said in [&finished.stdout, &finished.stderr] {
            assert!(!said.contains(KEY_ID) && !said.contains(SECRET_KEY), "{said}");
        }
        finished
    }

    /// The rows of an output in the bucket.
    fn rows(&self, folder: &str) -> Vec<OutputRow> {
        let copy = self.scratch.path(&format!("copy-of-{folder}"));
        let _ = fs::remove_dir_all(&copy);
        fs::create_dir_all(&copy).unwrap();
        for (key, bytes) in self.bucket.objects(&format!("{folder}/part-")) {
            write(&copy.join(key.rsplit('/').next().unwrap()), &bytes);
        }
        read_parts(&copy)
    }

    fn expect_whole(&self, folder: &str) {
        let rows = self.rows(folder);
        assert_eq!(rows.len(), ROWS);
        assert!(rows.is_sorted_by_key(|row| row.id));
        for row in rows {
            assert_eq!(row.label.as_deref(), Some(order_label(row.id)), "{}", row.text);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test lays its own files")]
fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "polls another process, bounded")]
fn wait_for_rows(server: &Simulated, rows: u64) {
    for _ in 0..2_000 {
        if server.count("rows_asked") >= rows {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the server was never asked for {rows} rows");
}

/// Every file below `folder`.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn an_output_in_a_bucket_ends_like_one_on_disk_and_a_rerun_writes_and_asks_nothing() {
    let Some(rig) = Rig::lay(&[]) else { return };
    let out = rig.bucket.url("data/out/");
    rig.run(&["orders.csv", "local"]).expect_code(0);
    let asked = rig.server.count("rows_asked");
    let finished = rig.run(&["orders.csv", &out]).expect_code(0);
    assert!(finished.stderr.contains(&out), "{}", finished.stderr);
    assert_eq!(rig.rows("data/out"), read_parts(&rig.scratch.path("local")));
    assert_eq!(rig.server.count("rows_asked"), 2 * asked);

    let objects = rig.bucket.objects("data/");
    assert!(objects.contains_key("data/out/_SUCCESS"), "{:?}", objects.keys());
    let (puts, deletes) = (rig.bucket.count("PUT"), rig.bucket.count("DELETE"));
    rig.run(&["orders.csv", &out]).expect_code(0);
    assert_eq!((rig.bucket.count("PUT"), rig.bucket.count("DELETE")), (puts, deletes));
    assert_eq!(rig.server.count("rows_asked"), 2 * asked);

    let verified = rig.run(&["verify", &out, "--input", "orders.csv"]).expect_code(0);
    assert!(verified.stdout.contains("ids"), "{}", verified.stdout);
    let home = files_below(&rig.scratch.path("home")).into_iter();
    let kept = home.map(|file| fs::read(file).unwrap()).chain(objects.into_values());
    for bytes in kept {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(KEY_ID) && !text.contains(SECRET_KEY), "{text}");
    }
}

#[test]
fn a_lost_object_is_made_again_and_a_damaged_one_is_named_by_verify() {
    let Some(rig) = Rig::lay(&[]) else { return };
    let out = rig.bucket.url("out");
    rig.run(&["orders.csv", &out]).expect_code(0);
    let asked = rig.server.count("rows_asked");
    rig.bucket.delete("out/part-000002.parquet");
    rig.run(&["orders.csv", &out]).expect_code(0);
    assert_eq!(rig.server.count("rows_asked"), asked + 200);
    rig.expect_whole("out");

    let mut part = rig.bucket.get("out/part-000001.parquet");
    part.truncate(part.len() / 2);
    rig.bucket.put("out/part-000001.parquet", &part);
    let verified = rig.run(&["verify", &out]).expect_code(4);
    assert!(verified.stdout.contains("part-000001.parquet"), "{}", verified.stdout);
}

#[test]
fn killed_in_mid_run_a_rerun_into_the_bucket_has_each_row_once_and_pays_once() {
    let Some(rig) = Rig::lay(&["--latency-ms", "40"]) else { return };
    rig.bucket.put("in/orders.csv", orders_csv(ROWS).as_bytes());
    let (input, out) = (rig.bucket.url("in/orders.csv"), rig.bucket.url("out"));
    for kill in 1..=3 {
        let mut child = rig.command(&[&input, &out]).spawn().unwrap();
        wait_for_rows(&rig.server, kill * 250);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    rig.run(&[&input, &out]).expect_code(0);
    rig.expect_whole("out");
    assert_eq!(rig.server.count("rows_asked_again_unexplained"), 0);
    rig.run(&["verify", &out, "--input", &input]).expect_code(0);
}

#[test]
fn an_input_in_a_bucket_gives_the_rows_that_it_gives_on_disk() {
    let Some(rig) = Rig::lay(&[]) else { return };
    let csv = orders_csv(60);
    let (header, rows) = csv.split_once('\n').unwrap();
    let lines: Vec<&str> = rows.lines().collect();
    let part = |range: std::ops::Range<usize>| format!("{header}\n{}\n", lines[range].join("\n"));
    for (name, text) in [
        ("y1/a.csv", part(0..20)),
        ("y1/_hidden.csv", part(0..1)),
        ("y2/b.csv", part(20..40)),
        ("y2/.c.csv", part(0..1)),
        ("_old/d.csv", part(40..60)),
        ("notes.txt", "no data".to_owned()),
        ("z.csv", part(40..60)),
        ("_hive/y=1/a.csv", part(0..20)),
        ("_hive/y=2/b.csv", part(20..40)),
    ] {
        rig.bucket.put(&format!("in/{name}"), text.as_bytes());
        write(&rig.scratch.path("in").join(name), text.as_bytes());
    }
    rig.scratch.write("lexical.toml", &orders_config("provider = \"lexical\""));
    for (number, input) in [
        "in",
        "in/",
        "in/z.csv",
        "in/y*",
        "in/y*/*.csv",
        "in/**/*.csv",
        "in/_old/*.csv",
        "in/?.csv",
        "in/_hive",
    ]
    .iter()
    .enumerate()
    {
        let outs = ["disk", "bucket"].map(|kind| format!("{kind}-{number}"));
        let config = ["--config", "lexical.toml"];
        let url = rig.bucket.url(input);
        rig.run(&[&[*input, &outs[0]], &config[..]].concat()).expect_code(0);
        rig.run(&[&[&*url, &outs[1]], &config[..]].concat()).expect_code(0);
        let [disk, bucket] = outs.map(|out| read_parts(&rig.scratch.path(&out)));
        assert!(disk.len() >= 20, "{input}: {}", disk.len());
        assert_eq!(bucket, disk, "{input}");
    }
    for (input, words) in [("in/gone.csv", "there is no file"), ("in/_*.csv", "holds no .parquet")]
    {
        let refused = rig.run(&[&rig.bucket.url(input), "out", "--config", "lexical.toml"]);
        assert!(refused.expect_code(2).stderr.contains(words), "{input}");
    }
    let inside = [&*rig.bucket.url("in"), &*rig.bucket.url("in/out"), "--config", "lexical.toml"];
    assert!(rig.run(&inside).expect_code(2).stderr.contains("inside the input"));
}

#[test]
fn a_parquet_file_in_a_bucket_gives_the_same_rows_and_the_same_accuracy() {
    let Some(rig) = Rig::lay(&[]) else { return };
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/banking77");
    let file = fixture.join("questions.parquet");
    rig.bucket.put("q/questions.parquet", &fs::read(&file).unwrap());
    let config = fixture.join("batchclass.toml");
    let rest = ["--config", config.to_str().unwrap(), "--limit", "150"];
    let disk = [&[file.to_str().unwrap(), "disk"], &rest[..]].concat();
    let disk = rig.run(&disk).expect_code(0);
    let [input, out] = ["q/*.parquet", "out"].map(|place| rig.bucket.url(place));
    let bucket = rig.run(&[&[&*input, &*out], &rest[..]].concat()).expect_code(0);
    let rows = rig.rows("out");
    assert_eq!(rows.len(), 150);
    assert_eq!(rows, read_parts(&rig.scratch.path("disk")));
    let accuracy = |said: &Finished| {
        said.stderr.lines().find(|line| line.contains("accuracy")).map(str::to_owned)
    };
    assert_eq!(accuracy(&bucket), accuracy(&disk));
    assert_eq!(accuracy(&bucket).is_some(), cfg!(feature = "polars"), "{}", bucket.stderr);
}

#[test]
fn an_input_that_changed_in_its_bucket_is_noticed_and_one_that_did_not_is_known() {
    let Some(rig) = Rig::lay(&[]) else { return };
    rig.bucket.put("in/orders.csv", orders_csv(ROWS).as_bytes());
    let url = rig.bucket.url("in");
    rig.run(&[&url, "out", "--limit", "300"]).expect_code(0);
    let asked = rig.server.count("rows_asked");
    rig.run(&[&url, "out"]).expect_code(0);
    assert_eq!(rig.server.count("rows_asked") - asked, ROWS as u64 - 300);
    rig.bucket.put("in/orders.csv", orders_csv(ROWS - 1).as_bytes());
    let asked = rig.server.count("rows_asked");
    let changed = rig.run(&[&url, "out"]).expect_code(0);
    assert!(changed.stderr.contains("1 finished rows that it no longer has"), "{}", changed.stderr);
    assert_eq!(rig.server.count("rows_asked"), asked);
}

#[test]
fn what_is_wrong_with_storage_is_one_sentence_before_anything_is_paid_for() {
    let Some(rig) = Rig::lay(&[]) else { return };
    let out = rig.bucket.url("out");
    let run = |place: &str, variables: &[(&str, &str)], is_cleared: bool| {
        let mut command = rig.command(&["orders.csv", place]);
        if is_cleared {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        }
        let finished = Finished::of(command.envs(variables.iter().copied()).output().unwrap());
        // Storage that does not answer is tried for a while, and that is told.
        let said = finished.stderr.trim_end().lines();
        let said = said.filter(|line| *line != "looking at the input and the output");
        assert_eq!(said.count(), 1, "{}", finished.stderr);
        assert!(!finished.stderr.contains(SECRET_KEY), "{}", finished.stderr);
        finished
    };
    let no_bucket = run("s3://no-such-box/out", &[], false).expect_code(4);
    assert!(no_bucket.stderr.contains("there is no bucket `no-such-box`"), "{}", no_bucket.stderr);
    let off = [("AWS_EC2_METADATA_DISABLED", "true")];
    let no_keys = run(&out, &off, true).expect_code(4);
    assert!(no_keys.stderr.contains("no credentials for S3"), "{}", no_keys.stderr);
    let half = run(&out, &[("AWS_SECRET_ACCESS_KEY", SECRET_KEY)], true).expect_code(4);
    assert!(half.stderr.contains("AWS_ACCESS_KEY_ID"), "{}", half.stderr);
    let nobody = run(&out, &[("AWS_PROFILE", "nobody")], true).expect_code(4);
    assert!(nobody.stderr.contains("`nobody`"), "{}", nobody.stderr);
    let nowhere = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
    let nowhere = run(&out, &nowhere, false).expect_code(4);
    assert!(nowhere.stderr.contains("no connection"), "{}", nowhere.stderr);
    for (place, words) in [
        ("http://box/out", "`http://`"),
        ("s3:/box/out", "lacks a slash"),
        ("s3://AKIA:hunter2@box/out", "holds an `@`"),
    ] {
        let refused = run(place, &[], false).expect_code(2);
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
        assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    }
    assert_eq!(rig.server.count("rows_asked"), 0);
    assert_eq!(files_below(&rig.scratch.path("home")), Vec::<PathBuf>::new());
}

#[test]
fn a_profile_gives_keys_or_has_them_printed_and_sets_the_server() {
    let Some(rig) = Rig::lay(&[]) else { return };
    let json = format!(
        r#"{{"Version": 1, "AccessKeyId": "{KEY_ID}", "SecretAccessKey": "{SECRET_KEY}"}}"#
    );
    rig.scratch.write("printed.json", &json);
    let endpoint = format!("endpoint_url = {}\nregion = eu-west-1\n", rig.bucket.endpoint());
    let printed = rig.scratch.path("printed.json");
    let config = format!(
        "[profile tool]\n{endpoint}credential_process = cat '{}'\n[profile broken]\n{endpoint}\
         credential_process = echo {SECRET_KEY} >&2; false\n[profile sso]\n{endpoint}\
         sso_session = x\n[profile plain]\n{endpoint}",
        printed.display()
    );
    let aws = rig.scratch.path("home/.aws");
    write(&aws.join("config"), config.as_bytes());
    let keys =
        format!("[plain]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET_KEY}\n");
    write(&aws.join("credentials"), keys.as_bytes());
    rig.scratch.write("few.csv", &orders_csv(9));
    rig.scratch.write("lexical.toml", &orders_config("provider = \"lexical\""));
    let run = |profile: &str| {
        let out = rig.bucket.url(profile);
        let mut command = rig.scratch.command(&["few.csv", &out, "--config", "lexical.toml"]);
        command.env("HOME", rig.scratch.path("home")).env("AWS_PROFILE", profile);
        command.env("PATH", "/usr/bin:/bin");
        let finished = Finished::of(command.output().unwrap());
        assert!(!finished.stderr.contains(SECRET_KEY), "{}", finished.stderr);
        finished
    };
    for profile in ["tool", "plain"] {
        run(profile).expect_code(0);
        assert_eq!(rig.rows(profile).len(), 9);
    }
    let broken = run("broken").expect_code(4);
    assert!(broken.stderr.contains("credential_process of the AWS profile `broken`"));
    let sso = run("sso").expect_code(4);
    assert!(sso.stderr.contains("export-credentials --profile sso"), "{}", sso.stderr);
}

//! A scratch folder, the real binary, a real simulated server, and a reader of the parts.

pub mod hooked_store;
pub mod moto;
pub mod places;
pub mod rehearsal;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_batchclass");

/// A scratch folder that is removed at the end.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    #[expect(clippy::disallowed_methods, reason = "a test lays its own files")]
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs `batchclass` in this folder and waits for it.
    pub fn batchclass(&self, args: &[&str]) -> Finished {
        Finished::of(self.command(args).output().unwrap())
    }

    /// A command in this folder with an empty environment but for the path.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.0.path()).env_clear();
        // Most tests count what is asked; those of probes ask for some.
        command.env("BATCHCLASS_PROBE", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// What a finished process said.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn of(output: Output) -> Finished {
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails with the whole output unless the exit code is `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Finished {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }
}

/// `batchclass simulate` on a free port of loopback.
pub struct Simulated {
    child: Child,
    address: String,
}

impl Simulated {
    pub fn start(flags: &[&str]) -> Simulated {
        let at_once = ["--latency-ms", "--ms-per-output-token"].iter();
        let at_once = at_once.filter(|flag| !flags.contains(flag)).flat_map(|flag| [*flag, "0"]);
        let mut child = Command::new(BINARY)
            .args(["simulate", "--port", "0"])
            .args(at_once)
            .args(flags)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, rest) = line.split_once("http://").expect("the server says where it listens");
        let address = rest.split(['/', ' ', '\n']).next().unwrap().to_owned();
        Simulated { child, address }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub fn stats(&self) -> BTreeMap<String, serde_json::Value> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        write!(stream, "GET /stats HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let body = &reply[reply.find('{').unwrap()..=reply.rfind('}').unwrap()];
        serde_json::from_str(body).unwrap()
    }

    /// Waits until `field` counts `least`.
    pub fn wait_for(&self, field: &str, least: u64) {
        for _ in 0..2_000 {
            if self.count(field) >= least {
                return;
            }
            pause(Duration::from_millis(5));
        }
        panic!("`{field}` never came to {least}");
    }

    pub fn count(&self, field: &str) -> u64 {
        let stats = self.stats();
        stats
            .get(field)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_else(|| panic!("no count `{field}` in {stats:?}"))
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "polls another process, bounded")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// A row of the output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutputRow {
    pub id: i64,
    pub text: String,
    pub label: Option<String>,
    pub reason: Option<String>,
}

/// The names of the parts, in order.
pub fn part_files(out: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "parquet"))
        .collect();
    files.sort();
    files
}

/// The rows of one part; its columns are `id` (or `row_number`), `text`, `label`, `label_reason`.
pub fn read_part(file: &Path) -> Vec<OutputRow> {
    rows_in(std::fs::read(file).unwrap().into()).unwrap()
}

/// The rows of a part with these bytes; `None` if it is torn.
pub fn rows_in(part: Bytes) -> Option<Vec<OutputRow>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(part).ok()?.build().ok()?;
    Some(reader.flat_map(|batch| output_rows(&batch.unwrap())).collect())
}

/// The rows of all parts, part by part.
pub fn read_parts(out: &Path) -> Vec<OutputRow> {
    part_files(out).iter().flat_map(|file| read_part(file)).collect()
}

fn output_rows(batch: &RecordBatch) -> Vec<OutputRow> {
    let column = |name: &str, wanted: &DataType| -> ArrayRef {
        let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no column {name}"));
        cast(column, wanted).unwrap()
    };
    let id_name = if batch.column_by_name("id").is_some() { "id" } else { "row_number" };
    let ids = column(id_name, &DataType::Int64);
    let ids = ids.as_any().downcast_ref::<Int64Array>().unwrap();
    let [texts, labels, reasons] =
        ["text", "label", "label_reason"].map(|name| column(name, &DataType::Utf8));
    let at = |column: &ArrayRef, row: usize| {
        let column = column.as_any().downcast_ref::<StringArray>().unwrap();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    (0..batch.num_rows())
        .map(|row| OutputRow {
            id: ids.value(row),
            text: at(&texts, row).unwrap_or_default(),
            label: at(&labels, row),
            reason: at(&reasons, row),
        })
        .collect()
}

/// Distinct texts with an obvious label each: `id,text` rows as CSV.
pub fn orders_csv(rows: usize) -> String {
    let mut csv = String::from("id,text\n");
    for row in 0..rows {
        csv.push_str(&format!("{},{}\n", 10 + 3 * row, order_text(row)));
    }
    csv
}

fn order_text(row: usize) -> String {
    match row % 3 {
        0 => format!("parcel {row} has not arrived: where is the delivery"),
        1 => format!("charge {row} on my card is wrong: refund the payment"),
        _ => format!("password {row} is forgotten: unlock the login"),
    }
}

/// The label that [`orders_csv`]'s row with this id deserves.
pub fn order_label(id: i64) -> &'static str {
    match (id - 10) / 3 % 3 {
        0 => "delivery",
        1 => "payment",
        _ => "login",
    }
}

/// A config for [`orders_csv`]; `model` holds the lines of `[model]`.
pub fn orders_config(model: &str) -> String {
    format!(
        r#"id = "id"
text = "text"
instructions = "You sort the messages of a shop's customers."

[[labels]]
name = "delivery"
description = "a parcel that has not arrived: where is the delivery"

[[labels]]
name = "payment"
description = "a charge on a card is wrong: refund the payment"

[[labels]]
name = "login"
description = "a password is forgotten: unlock the login"

[model]
{model}
"#
    )
}

/// [`orders_config`] for the simulated server.
pub fn simulated_config(server: &Simulated) -> String {
    orders_config(&format!(
        "provider = \"openai\"\nname = \"gpt-4o-mini\"\nbase_url = \"{}\"",
        server.base_url()
    ))
}

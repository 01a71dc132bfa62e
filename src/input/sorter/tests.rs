//! Sorts that don't fit in memory: with a bound of no bytes each batch is a run, each page a row,
//! and no more than two runs are merged at once.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, Date32Array, Decimal128Array, DictionaryArray,
    DurationSecondArray, FixedSizeBinaryArray, Float64Array, Int64Array, ListArray, MapBuilder,
    NullArray, RecordBatch, StringArray, StringBuilder, StringDictionaryBuilder, StringViewArray,
    StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::{DataType, Field, Int8Type, Int16Type, Int32Type};
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::location::InputLocation;
use super::page_file::PageWriter;
use super::spill::Spiller;
use super::*;
use crate::domain::{Position, PositionRange, RowId};
use crate::input::OrderedInput;
use crate::input::tests::{
    integer_ids, keep_first, numbered, put, put_parquet, read, refusal, spec, whole,
};

/// An input folder, and one for temporary files.
struct Bench {
    input: TempDir,
    temp: TempDir,
}

impl Bench {
    fn new() -> Bench {
        Bench { input: TempDir::new().unwrap(), temp: TempDir::new().unwrap() }
    }

    fn spec(&self) -> InputSpec {
        let temp_dir = self.temp.path().to_owned();
        InputSpec { sort_memory: 0, temp_dir, ..spec(self.input.path()) }
    }

    fn keep_first(&self) -> InputSpec {
        let on_duplicate_id = keep_first(Path::new("")).on_duplicate_id;
        InputSpec { on_duplicate_id, ..self.spec() }
    }

    /// Writes batches as files of these numbers.
    fn put(&self, batches: &[RecordBatch]) {
        for (number, batch) in batches.iter().enumerate() {
            put_parquet(&self.input.path().join(format!("{number:03}.parquet")), batch, 1_000);
        }
    }

    fn temporary(&self) -> Vec<String> {
        let entries = fs::read_dir(self.temp.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// The rows of `table` in this order, `rows` to a batch.
fn shuffled(table: &RecordBatch, order: &[u64], rows: usize) -> Vec<RecordBatch> {
    let pieces = order.chunks(rows.max(1));
    pieces
        .map(|rows| take_record_batch(table, &UInt64Array::from(rows.to_vec())).unwrap())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_that_were_spilled_are_the_rows_in_order_wherever_reading_begins(
        ids in prop::collection::vec(-40_i64..40, 2..120),
        rows_per_file in 1_usize..20,
        are_strings in any::<bool>(),
        memory in prop_oneof![Just(0_u64), Just(2_000), Just(20_000)],
        ranges in prop::collection::vec((0_u64..9, 0_u64..9), 0..6),
    ) {
        let bench = Bench::new();
        let rows = numbered(ids.iter().copied());
        let id = match are_strings {
            true => cast(rows.column(0), &DataType::Utf8).unwrap(),
            false => Arc::clone(rows.column(0)),
        };
        let rows = RecordBatch::try_from_iter([
            ("id", id),
            ("text", Arc::clone(rows.column(1))),
        ]).unwrap();
        let in_order: Vec<u64> = (0..ids.len() as u64).collect();
        bench.put(&shuffled(&rows, &in_order, rows_per_file));
        let input = OrderedInput::open(&InputSpec { sort_memory: memory, ..bench.keep_first() }).unwrap();

        // The first row of each id, in id order.
        let mut expected = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            if !ids[..at].contains(id) {
                let id = if are_strings { RowId::Text(id.to_string().into()) } else { RowId::Integer((*id).into()) };
                expected.push((id, format!("text {} at {at}", ids[at])));
            }
        }
        expected.sort();
        prop_assert_eq!(input.rows(), expected.len() as u64);
        let pairs = |rows: Vec<crate::input::InputRow>| -> Vec<_> {
            rows.into_iter().map(|row| (row.id, row.text.unwrap().into_string())).collect()
        };
        prop_assert_eq!(&pairs(read(&input, &whole(&input)).1), &expected);

        let mut wanted = Vec::new();
        let mut from = 0;
        for (gap, rows) in ranges {
            let first = (from + gap).min(input.rows());
            let rows = rows.min(input.rows() - first);
            wanted.push(PositionRange { first: Position(first), rows });
            from = first + rows;
        }
        let slices: Vec<_> = wanted
            .iter()
            .flat_map(|range| &expected[range.first.0 as usize..range.end().0 as usize])
            .cloned()
            .collect();
        prop_assert_eq!(pairs(read(&input, &wanted).1), slices);
        drop(input);
        prop_assert_eq!(bench.temporary(), Vec::<String>::new());
    }
}

#[test]
fn hundreds_of_runs_are_merged_two_at_a_time() {
    let bench = Bench::new();
    // 7 is prime to 1,500: a scattered order of all ids.
    let rows = numbered((0..1_500).map(|at| at * 7 % 1_500));
    let in_order: Vec<u64> = (0..1_500).collect();
    bench.put(&shuffled(&rows, &in_order, 5));
    let input = OrderedInput::open(&bench.spec()).unwrap();
    assert_eq!(integer_ids(&read(&input, &whole(&input)).1), (0..1_500).collect::<Vec<_>>());
}

#[test]
fn an_input_that_fits_is_sorted_without_a_temporary_file() {
    let bench = Bench::new();
    bench.put(&[numbered((0..500).rev()), numbered(500..600)]);
    let spec = InputSpec { sort_memory: 1 << 20, temp_dir: "/nonexistent".into(), ..bench.spec() };
    let input = OrderedInput::open(&spec).unwrap();
    assert_eq!(integer_ids(&read(&input, &whole(&input)).1), (0..600).collect::<Vec<_>>());
}

#[test]
fn unsigned_ids_beyond_the_signed_ones_are_ordered_by_value() {
    let bench = Bench::new();
    let file = |ids: &[u64]| {
        let texts = StringArray::from(vec!["x"; ids.len()]);
        let ids = UInt64Array::from(ids.to_vec());
        RecordBatch::try_from_iter([
            ("id", Arc::new(ids) as ArrayRef),
            ("text", Arc::new(texts) as ArrayRef),
        ])
        .unwrap()
    };
    bench.put(&[file(&[u64::MAX, 3]), file(&[1 << 63, 0])]);
    let input = OrderedInput::open(&bench.spec()).unwrap();
    let expected = [0, 3, 1_u64 << 63, u64::MAX].map(i128::from);
    assert_eq!(integer_ids(&read(&input, &whole(&input)).1), expected);
}

#[test]
fn an_id_repeated_in_another_run_names_both_rows_before_anything_is_kept() {
    let bench = Bench::new();
    bench.put(&[numbered([9, 2]), numbered([5, 7]), numbered([1, 3]), numbered([8, 7])]);
    let error = refusal(&bench.spec()).to_string();
    assert!(
        error.starts_with("row 2 of `003.parquet` has the same id as row 2 of `001.parquet`"),
        "{error}"
    );
    assert!(OrderedInput::open(&bench.spec()).is_err(), "opening tells");
    assert_eq!(bench.temporary(), Vec::<String>::new());
}

// The temporary folder

#[test]
fn a_sort_that_was_kept_is_read_again_and_one_of_other_files_is_not() {
    let bench = Bench::new();
    bench.put(&[numbered([4, 2]), numbered([3, 1])]);
    let input = OrderedInput::open(&bench.spec()).unwrap();
    let expected = read(&input, &whole(&input));
    input.keep_sorted(true);
    drop(input);
    let kept = bench.temporary();
    assert_eq!(kept.len(), 1);

    let input = OrderedInput::open(&bench.spec()).unwrap();
    assert_eq!(read(&input, &whole(&input)), expected);
    assert_eq!(bench.temporary(), kept);
    // A run beside it has no part in the other's files.
    let beside = OrderedInput::open(&bench.spec()).unwrap();
    assert_eq!(read(&beside, &whole(&beside)), expected);
    assert_eq!(bench.temporary().len(), 2);
    drop(beside);
    drop(input);
    assert_eq!(bench.temporary(), kept, "what was found stays until the job is done");

    bench.put(&[numbered([5, 2])]);
    let input = OrderedInput::open(&bench.spec()).unwrap();
    assert_eq!(integer_ids(&read(&input, &whole(&input)).1), [1, 2, 3, 5]);
    assert_eq!(bench.temporary().len(), 2);
    drop(input);

    let input = OrderedInput::open(&bench.keep_first()).unwrap();
    assert_eq!(input.rows(), 4);
    drop(input);
    assert_eq!(bench.temporary(), kept);
}

#[test]
fn a_kept_sort_that_was_cut_short_is_removed_and_the_input_sorted_again() {
    for name in ["rows-0", "order", "manifest.json"] {
        let bench = Bench::new();
        bench.put(&[numbered([4, 2]), numbered([3, 1])]);
        let input = OrderedInput::open(&bench.spec()).unwrap();
        read(&input, &whole(&input));
        input.keep_sorted(true);
        drop(input);
        let path = bench.temp.path().join(&bench.temporary()[0]).join(name);
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        let input = OrderedInput::open(&bench.spec()).unwrap();
        assert_eq!(bench.temporary(), Vec::<String>::new(), "{name}");
        assert_eq!(integer_ids(&read(&input, &whole(&input)).1), [1, 2, 3, 4]);
    }
}

#[test]
fn what_a_killed_run_left_goes_at_the_next_start_whatever_its_input() {
    let bench = Bench::new();
    let folder = TempFolder::create(bench.temp.path(), "00ff").unwrap();
    folder.new_file("rows-0").unwrap();
    // A killed process does not come to remove it, and loses the lock.
    folder.keep(true);
    drop(folder);
    bench.put(&[numbered([1, 2])]);
    OrderedInput::open(&bench.spec()).unwrap();
    assert_eq!(bench.temporary(), Vec::<String>::new());
}

#[test]
fn a_temporary_folder_without_room_is_refused_with_what_is_needed() {
    let bench = Bench::new();
    bench.put(&[numbered([4, 2]), numbered([3, 1])]);
    // That file system has no room at all.
    let spec = InputSpec { temp_dir: "/proc".into(), ..bench.spec() };
    let error = refusal(&spec);
    assert!(!error.is_usage());
    assert_eq!(
        error.to_string(),
        "the input is not in id order, and sorting it takes about 1 MiB of temporary space where \
         `/proc` has 0 MiB free; free some, or name a folder on another disk with `--temp-dir`"
    );
    let spec = InputSpec { temp_dir: "/nonexistent".into(), ..bench.spec() };
    let error = refusal(&spec).to_string();
    assert!(error.starts_with("the input can't be sorted in `/nonexistent`"), "{error}");
}

#[test]
fn a_disk_that_fills_up_is_told_from_a_broken_one() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut pages = PageWriter::new(full);
    pages.write(&numbered(0..10)).unwrap();
    let error = pages.finish(numbered([]).schema()).unwrap_err();
    let error = temporary_error(Path::new("/scratch"), error);
    assert!(error.to_string().starts_with("`/scratch` filled up"), "{error}");
}

// Values

/// A batch with a column of every kind that Parquet gives, one row an id.
fn of_every_type(ids: &[i64]) -> RecordBatch {
    let rows = ids.len();
    let is_null = |id: i64| id % 5 == 0;
    let numbers = || ids.iter().map(|&id| (!is_null(id)).then_some(id));
    let words = || ids.iter().map(|&id| (!is_null(id)).then(|| format!("word {}", id % 7)));
    let lists = || {
        let lists =
            ids.iter().map(|&id| (!is_null(id)).then(|| (0..id % 4).map(|n| Some(n as i32))));
        ListArray::from_iter_primitive::<Int32Type, _, _>(lists)
    };
    let micros = TimestampMicrosecondArray::from_iter(numbers());
    let category: DictionaryArray<Int16Type> = {
        let mut builder = StringDictionaryBuilder::new();
        words().for_each(|word| builder.append_option(word));
        builder.finish()
    };
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for &id in ids {
        for key in 0..id % 3 {
            map.keys().append_value(format!("k{key}"));
            map.values().append_value(format!("v{id}"));
        }
        map.append(!is_null(id)).unwrap();
    }
    let structure = StructArray::from(vec![
        (
            Arc::new(Field::new("list", lists().data_type().clone(), true)),
            Arc::new(lists()) as ArrayRef,
        ),
        (
            Arc::new(Field::new("view", DataType::Utf8View, true)),
            Arc::new(StringViewArray::from_iter(words())) as ArrayRef,
        ),
        (
            Arc::new(Field::new("category", category.data_type().clone(), true)),
            Arc::new(category.clone()) as ArrayRef,
        ),
    ]);
    let reals = Float64Array::from_iter(numbers().map(|id| id.map(|id| id as f64 / 8.0)));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("text", Arc::new(StringArray::from_iter(words()))),
        ("half", cast(&reals, &DataType::Float16).unwrap()),
        ("real", Arc::new(reals)),
        (
            "flag",
            Arc::new(
                numbers()
                    .map(|id| id.map(|id| id % 2 == 0))
                    .collect::<arrow::array::BooleanArray>(),
            ),
        ),
        (
            "price",
            Arc::new(
                Decimal128Array::from_iter(numbers().map(|id| id.map(i128::from)))
                    .with_precision_and_scale(20, 3)
                    .unwrap(),
            ),
        ),
        ("day", Arc::new(Date32Array::from_iter(numbers().map(|id| id.map(|id| id as i32))))),
        ("time", Arc::new(Time64MicrosecondArray::from_iter(numbers()))),
        ("moment", Arc::new(micros.clone().with_timezone("Europe/London"))),
        ("span", Arc::new(DurationSecondArray::from_iter(numbers()))),
        ("view", Arc::new(StringViewArray::from_iter(words()))),
        ("bytes", Arc::new(BinaryViewArray::from_iter(words()))),
        ("large", cast(&StringArray::from_iter(words()), &DataType::LargeUtf8).unwrap()),
        ("binary", cast(&StringArray::from_iter(words()), &DataType::Binary).unwrap()),
        (
            "uuid",
            Arc::new(
                FixedSizeBinaryArray::try_from_iter(ids.iter().map(|id| [*id as u8; 16])).unwrap(),
            ),
        ),
        ("category", Arc::new(category)),
        ("list", Arc::new(lists())),
        ("map", Arc::new(map.finish())),
        ("structure", Arc::new(structure)),
        ("nothing", Arc::new(NullArray::new(rows))),
    ];
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

#[test]
fn every_type_comes_back_as_it_was() {
    let sorted = Bench::new();
    let ids: Vec<i64> = (0..60).collect();
    sorted.put(&[of_every_type(&ids)]);
    let reference = OrderedInput::open(&sorted.spec()).unwrap();
    assert!(reference.is_in_order());
    let (expected, _) = read(&reference, &whole(&reference));
    assert_eq!(expected.schema(), of_every_type(&ids).schema());

    for memory in [0, 1 << 20] {
        let bench = Bench::new();
        let files: Vec<_> = (0..6)
            .map(|file| {
                of_every_type(&(0..10).map(|at| (at * 6 + file) * 7 % 60).collect::<Vec<_>>())
            })
            .collect();
        bench.put(&files);
        let input = OrderedInput::open(&InputSpec { sort_memory: memory, ..bench.spec() }).unwrap();
        let (found, _) = read(&input, &whole(&input));
        assert_eq!(found.schema(), expected.schema());
        for (column, field) in expected.schema().fields().iter().enumerate() {
            let [found, expected] = [&found, &expected].map(|rows| rows.column(column).to_data());
            assert_eq!(found, expected, "{}", field.name());
        }
    }
}

#[test]
fn more_values_than_a_dictionary_can_hold_come_in_smaller_chunks() {
    let bench = Bench::new();
    let file = |from: i64| {
        let ids = Int64Array::from_iter_values((0..100).map(|at| at * 2 + from));
        let words: Vec<_> = (0..100).map(|at| format!("word {}", at * 2 + from)).collect();
        let words: DictionaryArray<Int8Type> = words.iter().map(String::as_str).collect();
        RecordBatch::try_from_iter([
            ("id", Arc::new(ids) as ArrayRef),
            ("text", Arc::new(words) as ArrayRef),
        ])
        .unwrap()
    };
    bench.put(&[file(0), file(1)]);
    let input = OrderedInput::open(&bench.spec()).unwrap();
    let mut texts = Vec::new();
    for chunk in input.read(whole(&input)).unwrap() {
        texts.extend(chunk.unwrap().rows.into_iter().map(|row| row.text.unwrap().into_string()));
    }
    assert_eq!(texts, (0..200).map(|id| format!("word {id}")).collect::<Vec<_>>());
}

#[test]
fn a_huge_row_stands_in_a_page_of_its_own() {
    let bench = Bench::new();
    bench.put(&[numbered([2, 1])]);
    let spec = InputSpec { sort_memory: 1 << 20, ..bench.spec() };
    let location = InputLocation::resolve(&spec.location, &spec.cloud, None).unwrap();
    let tables = Arc::new(Tables::open(&location, &spec).unwrap());
    let sorter = Sorter::new(&tables, 0, &spec);
    let ids: Vec<i64> = (0..2_000).collect();
    let huge = "x".repeat(500_000);
    let texts = ids.iter().map(|id| if *id == 777 { &*huge } else { "short" });
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.clone())) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(texts)) as ArrayRef),
    ])
    .unwrap();
    let mut spiller = Spiller::start(&sorter, rows.schema()).unwrap();
    let mut stretch = Stretch::new(&DataType::Int64);
    stretch.push(rows, 0).unwrap();
    spiller.write(stretch).unwrap();
    let spill = spiller.finish().unwrap();
    let mut pages: Vec<_> = spill.runs[0].pages.iter().collect();
    assert_eq!(pages.iter().map(|page| page.rows).sum::<u32>(), 2_000);
    pages.retain(|page| page.bytes > 4 * ((1 << 20) / 512));
    assert_eq!(pages.len(), 1, "all other pages are of the size that was aimed at");
    assert!(pages[0].rows < 4, "{pages:?}");
}

#[test]
fn a_file_that_is_rewritten_meanwhile_is_told() {
    let bench = Bench::new();
    bench.put(&[numbered([4, 2]), numbered([3, 1])]);
    let input = OrderedInput::open(&bench.spec()).unwrap();
    put(&bench.input.path().join("001.parquet"), "overwritten");
    let error = input.read(whole(&input)).unwrap_err();
    assert!(matches!(error, InputError::Changed { .. }), "{error}");
    assert_eq!(bench.temporary(), Vec::<String>::new());
}

#[test]
fn rows_are_gathered_from_the_pages_of_their_ids() {
    let bench = Bench::new();
    bench.put(&[numbered((0..3_000).rev()), numbered((3_000..6_000).rev())]);
    let input = OrderedInput::open(&InputSpec { sort_memory: 100_000, ..bench.spec() }).unwrap();
    let (columns, rows) = read(&input, &[PositionRange { first: Position(2_999), rows: 2 }]);
    assert_eq!(integer_ids(&rows), [2_999, 3_000]);
    assert_eq!(columns.column(1).as_string::<i32>().value(1), "text 3000 at 2999");
}

#!/usr/bin/env python3
"""Reads files that others wrote, whole and damaged, with batchclass, and holds it to what others see.

    python3 foreign_files.py [--binary batchclass] [--work FOLDER] [--only WORD] [FILE_OR_FOLDER ...]

Makes Parquet files with pyarrow, DuckDB and Polars (every type, codec, encoding and page version that
they write) and CSV files, adds those in the folders named (such as clones of apache/parquet-testing
and apache/arrow-testing, or the registry folder of a crate that ships test data), and classifies
each one offline. A file ends in one of three ways:

    read      exit code 0 or 3, and every column of the output holds what another reader finds in
              the input (pyarrow, else DuckDB; for CSV Python's csv module)
    refused   exit code 2 and one sentence that names the file, or the column that can't be used
              (behind it the summary of the run, where a page far into the file is damaged)
    failed    anything else: another exit code, a signal, a panic, more than one line, other values

A table of them is printed: refusals with their sentence, and among them those that another reader
does read. The exit code is 1 if any file failed.
"""

import argparse
import collections
import csv
import datetime
import decimal
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import duckdb
import polars
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

ROWS = 5
CONFIG = """
id = "@row"
text = '{{{text}}}'
instructions = "Sort the rows."
[model]
provider = "lexical"
[[labels]]
name = "first"
[[labels]]
name = "second"
"""
ADDRESS_SPACE = 4 << 30
OURS = {"row_number", "label", "label_reason"}


# Files made here


def with_text(name, values):
    """A table of a text column and `values`, a null among them."""
    texts = pa.array([f"{name} {row}" for row in range(len(values))])
    return pa.table({"text": texts, "value": values})


def arrow_values():
    """Each Arrow type that Parquet can hold, as (name, array of ROWS values)."""
    day = datetime.date(2024, 2, 29)
    time = datetime.time(23, 59, 59, 999000)
    moment = datetime.datetime(2024, 2, 29, 23, 59, 59)
    numbers = [0, 1, None, 100, 127]
    yield "null", pa.nulls(ROWS)
    yield "bool", pa.array([True, False, None, True, False])
    for bits in (8, 16, 32, 64):
        for kind in ("int", "uint"):
            low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind == "int" else (0, 2**bits - 1)
            yield f"{kind}{bits}", pa.array([0, low, None, high, 1], getattr(pa, f"{kind}{bits}")())
    for bits in (16, 32, 64):
        floats = [0.0, -0.0, None, math.inf, math.nan]
        yield f"float{bits}", pa.array(floats, pa.float32()).cast(getattr(pa, f"float{bits}")())
    for bits, digits in ((32, 9), (64, 18), (128, 38), (256, 76)):
        kind = getattr(pa, f"decimal{bits}")(digits, 2)
        yield f"decimal{bits}", pa.array([decimal.Decimal(text) if text else None for text in ("0.00", "-1.01", None, "9" * 7 + ".99", "5.50")], kind)
    texts = ["", "é", None, "a\nb\t\"c\"", "x" * 300]
    for kind in ("string", "large_string", "string_view"):
        yield kind, pa.array(texts, getattr(pa, kind)())
    blobs = [b"", b"\x00\xff", None, b"abc", b"x" * 300]
    for kind in ("binary", "large_binary", "binary_view"):
        yield kind, pa.array(blobs, getattr(pa, kind)())
    yield "fixed_binary", pa.array([b"0123", b"\0\0\0\0", None, b"abcd", b"\xff" * 4], pa.binary(4))
    yield "uuid", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=row).bytes for row in range(ROWS)], pa.binary(16)))
    yield "json", pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["{}", "[1]", None, "1", '"a"']))
    yield "date32", pa.array([day, None, day, day, day], pa.date32())
    yield "date64", pa.array([day, None, day, day, day], pa.date64())
    for unit in ("s", "ms"):
        yield f"time32_{unit}", pa.array([time.replace(microsecond=0), None, datetime.time(0), time.replace(microsecond=0), datetime.time(1)], pa.time32(unit))
    for unit in ("us", "ns"):
        yield f"time64_{unit}", pa.array([time, None, datetime.time(0), time, datetime.time(1)], pa.time64(unit))
    for unit in ("s", "ms", "us", "ns"):
        for zone in (None, "UTC", "Europe/Berlin", "+05:30"):
            zone_name = (zone or "naive").replace("/", "_").replace(":", "")
            yield f"timestamp_{unit}_{zone_name}", pa.array([moment, None, moment, datetime.datetime(1900, 1, 1), moment], pa.timestamp(unit, zone))
        yield f"duration_{unit}", pa.array([0, 1, None, -1, 10**9], pa.duration(unit))
    for width in (8, 16, 32, 64):
        yield f"dictionary{width}", pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1, 0], getattr(pa, f"int{width}")()), pa.array(["a", "b"]))
    yield "dictionary_ordered", pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1, 0], pa.int32()), pa.array(["a", "b"]), ordered=True)
    yield "dictionary_int_values", pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1, 0], pa.int32()), pa.array([7, 9], pa.int64()))
    lists = [[], [1, None], None, [3, 4, 5], [6]]
    yield "list", pa.array(lists, pa.list_(pa.int32()))
    yield "large_list", pa.array(lists, pa.large_list(pa.int32()))
    yield "list_view", pa.array(lists, pa.list_view(pa.int32()))
    yield "fixed_list", pa.array([[1, 2], [3, None], None, [5, 6], [7, 8]], pa.list_(pa.int32(), 2))
    structs = [{"a": 1, "b": "x"}, {"a": None, "b": None}, None, {"a": 2, "b": ""}, {"a": 3, "b": "y"}]
    struct = pa.struct([("a", pa.int64()), ("b", pa.string())])
    yield "struct", pa.array(structs, struct)
    yield "map", pa.array([[("a", 1)], [], None, [("b", None)], [("c", 3), ("d", 4)]], pa.map_(pa.string(), pa.int32()))
    yield "list_of_lists", pa.array([[[1], []], [None], None, [], [[2, 3]]], pa.list_(pa.list_(pa.int32())))
    yield "list_of_structs", pa.array([structs[:2], [], None, [None], structs[3:]], pa.list_(struct))
    yield "struct_of_lists", pa.array([{"a": lists[1]}, {"a": None}, None, {"a": []}, {"a": [1]}], pa.struct([("a", pa.list_(pa.int64()))]))
    yield "map_of_lists", pa.array([[("a", [1])], [], None, [("b", None)], [("c", [])]], pa.map_(pa.string(), pa.list_(pa.int32())))
    yield "list_of_dictionaries", pa.ListArray.from_arrays(pa.array([0, 1, 1, 2, 3, 5]), pa.array(["a", "b", "a", None, "b"]).dictionary_encode())
    yield "deep", pa.array([[{"a": [[(1, {"b": numbers})]]}], None, [], [None], [{"a": None}]], pa.list_(pa.struct([("a", pa.list_(pa.map_(pa.int32(), pa.struct([("b", pa.list_(pa.int8()))]))))])))


def make_with_pyarrow(folder):
    plain = {}
    for name, values in arrow_values():
        table = with_text(name, values)
        plain[name] = values
        for suffix, options in (("", {}), ("-v2-plain", {"data_page_version": "2.0", "use_dictionary": False})):
            write(folder / f"pyarrow-type-{name}{suffix}.parquet", lambda path: pq.write_table(table, path, **options))
        for store in (False,):
            write(folder / f"pyarrow-type-{name}-no-arrow-schema.parquet", lambda path: pq.write_table(table, path, store_schema=store))
    many = pa.table({"text": [f"row {row}" for row in range(3000)], "number": pa.array(range(3000), pa.int32()), "real": [row / 7 for row in range(3000)], "some": [None if row % 3 else f"v{row % 5}" for row in range(3000)], "fixed": pa.array([f"{row:08}".encode() for row in range(3000)], pa.binary(8)), "lists": [list(range(row % 4)) for row in range(3000)]})
    for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
        for version in ("1.0", "2.0"):
            for checksum in (False, True):
                write(
                    folder / f"pyarrow-codec-{codec}-pages-v{version[0]}{'-crc' if checksum else ''}.parquet",
                    lambda path: pq.write_table(many, path, compression=codec, data_page_version=version, row_group_size=700, data_page_size=2000, write_page_checksum=checksum),
                )
    encodings = {
        "plain": dict.fromkeys(("text", "number", "real", "some", "fixed"), "PLAIN"),
        "delta": {"text": "DELTA_BYTE_ARRAY", "number": "DELTA_BINARY_PACKED", "some": "DELTA_LENGTH_BYTE_ARRAY", "fixed": "DELTA_BYTE_ARRAY"},
        "split": dict.fromkeys(("number", "real", "fixed"), "BYTE_STREAM_SPLIT"),
    }
    for name, columns in encodings.items():
        for version in ("1.0", "2.0"):
            write(folder / f"pyarrow-encoding-{name}-pages-v{version[0]}.parquet", lambda path: pq.write_table(many, path, use_dictionary=False, column_encoding=columns, data_page_version=version, row_group_size=700, write_page_index=True))
    write(folder / "pyarrow-encoding-rle-bool.parquet", lambda path: pq.write_table(pa.table({"text": ["a"] * 999, "flag": [row % 3 == 0 for row in range(999)]}), path, use_dictionary=False, column_encoding={"flag": "RLE"}))
    write(folder / "pyarrow-int96.parquet", lambda path: pq.write_table(with_text("int96", plain["timestamp_ns_naive"]), path, use_deprecated_int96_timestamps=True))
    write(folder / "pyarrow-no-rows.parquet", lambda path: pq.write_table(many.slice(0, 0), path))
    write(folder / "pyarrow-version-1.parquet", lambda path: pq.write_table(many, path, version="1.0"))
    write(folder / "pyarrow-version-2.4.parquet", lambda path: pq.write_table(many, path, version="2.4"))
    write(folder / "pyarrow-not-null.parquet", lambda path: pq.write_table(pa.table({"text": ["a", "b"], "n": [1, 2]}, schema=pa.schema([pa.field("text", pa.string(), False), pa.field("n", pa.int64(), False)])), path))
    write(folder / "pyarrow-odd-names.parquet", lambda path: pq.write_table(pa.table({"text": ["a"], "": [1], "a.b": [2], "é \n": [3], "x" * 500: [4]}), path))
    write(folder / "pyarrow-two-columns-of-one-name.parquet", lambda path: pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array([1]), pa.array([2])], names=["text", "n", "n"]), path))
    write(folder / "pyarrow-all-types.parquet", lambda path: pq.write_table(pa.table({"text": ["t"] * ROWS, **plain}), path))


def make_with_duckdb(folder):
    base = duckdb.connect()
    types = base.sql("select * from test_all_types()")
    kinds = dict(zip(types.columns, types.types))
    for name in kinds:
        query = f'select \'text \' || row_number() over () as text, "{name}" as value from test_all_types()'
        write(folder / f"duckdb-type-{name}.parquet", lambda path: base.sql(f"copy ({query}) to '{path}' (format parquet)"))
    many = "select 'row ' || range as text, range as number, range / 7 as real, case when range % 3 = 0 then 'v' || range % 5 end as some, range::hugeint as huge, [range, null] as list, {'a': range, 'b': 'x'} as struct, map {'k': range} as pairs, uuid() as uuid, (range / 100)::decimal(18, 3) as money from range(3000)"
    for codec in ("uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4", "lz4_raw"):
        for version in ("v1", "v2"):
            write(folder / f"duckdb-codec-{codec}-{version}.parquet", lambda path: base.sql(f"copy ({many}) to '{path}' (format parquet, codec '{codec}', parquet_version {version}, row_group_size 2048)"))


def make_with_polars(folder):
    day = datetime.date(2024, 2, 29)
    moment = datetime.datetime(2024, 2, 29, 1, 2, 3, 4)
    series = {
        **{f"{kind.__name__}": polars.Series([0, None, 1, 127], dtype=kind) for kind in (polars.Int8, polars.Int16, polars.Int32, polars.Int64, polars.UInt8, polars.UInt16, polars.UInt32, polars.UInt64, polars.Int128)},
        **{kind.__name__: polars.Series([0.5, None, math.nan, -math.inf], dtype=kind) for kind in (polars.Float32, polars.Float64)},
        "Boolean": polars.Series([True, None, False, True]),
        "String": polars.Series(["a", None, "", "é" * 50]),
        "Binary": polars.Series([b"a", None, b"", b"\0\xff"]),
        "Date": polars.Series([day, None, day, day]),
        "Time": polars.Series([datetime.time(1), None, datetime.time(0), datetime.time(23, 59)]),
        **{f"Datetime_{unit}_{zone}": polars.Series([moment, None, moment, moment], dtype=polars.Datetime(unit)).dt.replace_time_zone(zone) for unit in ("ms", "us", "ns") for zone in (None, "UTC", "Asia/Tokyo")},
        **{f"Duration_{unit}": polars.Series([0, None, 1, -1], dtype=polars.Duration(unit)) for unit in ("ms", "us", "ns")},
        "Decimal": polars.Series([decimal.Decimal("1.25"), None, decimal.Decimal("-9.99"), decimal.Decimal("0")], dtype=polars.Decimal(20, 2)),
        "Categorical": polars.Series(["a", None, "b", "a"], dtype=polars.Categorical),
        "Enum": polars.Series(["a", None, "b", "a"], dtype=polars.Enum(["a", "b"])),
        "List": polars.Series([[1, None], None, [], [2]], dtype=polars.List(polars.Int64)),
        "Array": polars.Series([[1, 2], None, [3, None], [5, 6]], dtype=polars.Array(polars.Int64, 2)),
        "Struct": polars.Series([{"a": 1, "b": "x"}, None, {"a": None, "b": ""}, {"a": 2, "b": "y"}]),
        "ListOfStruct": polars.Series([[{"a": 1}], None, [], [{"a": None}]]),
        "ListOfCategorical": polars.Series([["a"], None, [], ["b", "a"]], dtype=polars.List(polars.Categorical)),
        "Null": polars.Series([None] * 4),
    }
    for name, values in series.items():
        frame = polars.DataFrame({"text": ["a", "b", "c", "d"], "value": values})
        write(folder / f"polars-type-{name.replace('/', '_')}.parquet", lambda path: frame.write_parquet(path))
    many = polars.DataFrame({"text": [f"row {row}" for row in range(3000)], "number": range(3000), "some": [None if row % 3 else "v" for row in range(3000)], "lists": [[row, None] for row in range(3000)]})
    for codec in ("uncompressed", "snappy", "gzip", "brotli", "zstd", "lz4"):
        write(folder / f"polars-codec-{codec}.parquet", lambda path: many.write_parquet(path, compression=codec, row_group_size=700, data_page_size=2000))


def make_csv(folder):
    for name, text in {
        "quotes": 'text,b\n"a ""quoted"" one","x,y"\n"two\nlines",\n5" pipe,z\n',
        "crlf": "text,b\r\na,1\r\n\r\n\"b\r\nc\",2\r\n",
        "cr": "text,b\ra,1\rb,2\r",
        "mark": "\ufefftext,b\na,1\n",
        "no-end": "text,b\na,1\nb,",
        "header-only": "text,b\n",
        "one-column": "text\na\n\nb\n",
        "nul": "text,b\na\0b,1\n",
        "long": "text,b\n" + "x" * 2_000_000 + ",1\n",
        "empty": "",
        "blank-lines": "\n\n\n",
        "ragged": "text,b\na,1,2\n",
        "short": "text,b\na\n",
        "open-quote": 'text,b\na,1\n"b,2\nc,3\n',
        "double-names": "text,text\na,b\n",
        "after-quote": 'text,b\n"a"x,1\n"a" "b",2\n',
        "lone-quote": 'text,b\na"b"c,1\n',
        "unicode": "text,b\n\u2028\u00a0,\U0001f600\n",
        "wide": ",".join(["text", *(f"c{at}" for at in range(3000))]) + "\n" + ",".join("v" for _ in range(3001)) + "\n",
    }.items():
        (folder / f"csv-{name}.csv").write_bytes(text.encode())
    (folder / "csv-latin1.csv").write_bytes("text,b\né,1\n".encode("latin-1"))
    (folder / "csv-utf16.csv").write_bytes("text,b\na,1\n".encode("utf-16"))
    (folder / "csv-binary.csv").write_bytes(bytes(range(256)) * 9)
    pa.csv.write_csv(pa.table({"text": ["a", None, 'b"c'], "n": [1, None, 3]}), folder / "csv-by-pyarrow.csv")
    duckdb.sql(f"copy (select 'a,\"b' as text, 1.5 as n union all select null, null) to '{folder / 'csv-by-duckdb.csv'}' (header)")
    polars.DataFrame({"text": ["a\nb", None, ""], "n": [1, 2, None]}).write_csv(folder / "csv-by-polars.csv")


not_written = []


def write(path, writer):
    """Runs `writer`; what a library can't write is no file to try."""
    try:
        writer(path)
    except Exception as error:
        path.unlink(missing_ok=True)
        not_written.append((path.name, f"{type(error).__name__}: {str(error).splitlines()[0]}"))


# What others see in a file


def frame(column):
    """A column as comparable values."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        storage = [chunk.storage for chunk in column.chunks]
        return frame(pa.chunked_array(storage, kind.storage_type))
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        # Values as numbers: Python has no nanoseconds.
        wide = pa.int32() if pa.types.is_date32(kind) or pa.types.is_time32(kind) else pa.int64()
        column = column.cast(wide)
    return [comparable(value) for chunk in column.chunks for value in python_values(chunk)]


def python_values(chunk):
    if pa.types.is_nested(chunk.type):
        return without_time(chunk).to_pylist()
    return chunk.to_pylist()


def without_time(array):
    """A nested array with its times as numbers and its dictionaries as values."""
    plain = plain_type(array.type)
    return array if plain == array.type else array.cast(plain)


def plain_type(kind):
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if types.is_date32(kind) or types.is_time32(kind):
        return pa.int32()
    if types.is_temporal(kind) and not types.is_interval(kind):
        return pa.int64()
    if types.is_struct(kind):
        return pa.struct([field.with_type(plain_type(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(plain_type(kind.value_type))
    if types.is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    return kind


def comparable(value):
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if isinstance(value, tuple):
        return tuple(comparable(item) for item in value)
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    return value


def seen_by_pyarrow(path):
    with pq.ParquetFile(path) as file:
        return file.read()


def seen_by_duckdb(paths):
    return duckdb.sql(f"select * from read_parquet([{', '.join(repr(str(path)) for path in paths)}])").fetchall()


def differences(path, parts):
    """How the output differs from the file as others read it: '' if not, None if nobody else reads it."""
    different = differences_to_pyarrow(path, parts)
    if different and parts and succeeds([sys.executable, "-c", SAME_FOR_DUCKDB, path, *parts]):
        return ""
    return different


# pyarrow lets times run over that its type can't hold; DuckDB says so.
SAME_FOR_DUCKDB = """
import sys, duckdb
read = lambda paths, columns: duckdb.sql(f"select {columns} from read_parquet({paths})").fetchall()
sys.exit(read(sys.argv[2:], "* exclude (row_number, label, label_reason)") != read(sys.argv[1:2], "*"))
"""


def differences_to_pyarrow(path, parts):
    theirs = None
    try:
        theirs = seen_by_pyarrow(path)
    except Exception as error:
        reason = error
    if theirs is not None:
        tables = [seen_by_pyarrow(part) for part in parts]
        if not tables:
            return "" if theirs.num_rows == 0 else f"no part for {theirs.num_rows} rows"
        ours = pa.concat_tables(tables)
        names = [name for name in ours.schema.names][1:-2]
        if names != theirs.schema.names:
            return f"columns {names} for {theirs.schema.names}"
        if ours.num_rows != theirs.num_rows:
            return f"{ours.num_rows} rows for {theirs.num_rows}"
        for at, name in enumerate(names):
            mine, other = ours.column(at + 1), theirs.column(at)
            if frame(mine) != frame(other):
                return f"column {name!r} ({other.type}, written as {mine.type}) holds other values"
        return ""
    try:
        other = seen_by_duckdb([path])
    except Exception:
        return None
    mine = [row[1:-2] for row in seen_by_duckdb(parts)] if parts else []
    return "" if comparable(mine) == comparable(other) else f"other values than DuckDB ({reason})"


def csv_differences(path, parts):
    with open(path, encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(1 << 30)
        delimiter = "\t" if path.suffix == ".tsv" else ","
        theirs = [row for row in csv.reader(file, delimiter=delimiter) if row]
    header, *rows = theirs
    rows = [tuple(field or None for field in row) for row in rows]
    mine = []
    for part in parts:
        table = seen_by_pyarrow(part)
        if table.schema.names[1:-2] != header:
            return f"columns {table.schema.names[1:-2]} for {header}"
        mine += zip(*(table.column(at + 1).to_pylist() for at in range(len(header))))
    if len(mine) != len(rows):
        return f"{len(mine)} rows for {len(rows)}"
    return "" if mine == rows else "other values than Python's csv module"


# One file through batchclass


def text_column(path):
    """A column that can be a row's text."""
    if path.suffix in (".csv", ".tsv"):
        first = path.read_bytes().removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")[:100_000]
        delimiter = "\t" if path.suffix == ".tsv" else ","
        try:
            names = next(csv.reader([first.decode("utf-8", "replace").splitlines()[0]], delimiter=delimiter))
        except (IndexError, StopIteration, csv.Error):
            names = []
        return nameable(names)
    names = []
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
        texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
        names = texts + [field.name for field in schema if can_be_text(field.type)] + schema.names
    except Exception:
        try:
            names = duckdb.sql(f"select * from read_parquet('{path}')").columns
        except Exception:
            pass
    return nameable(names)


def can_be_text(kind):
    return pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)


def nameable(names):
    return next((name for name in names if name.isprintable() and name and not set(name) & set("{}'")), "text")


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def classify(binary, path, scratch):
    """(outcome, why)"""
    out = scratch / "out"
    shutil.rmtree(out, ignore_errors=True)
    (scratch / "batchclass.toml").write_text(CONFIG.format(text=text_column(path)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BATCHCLASS_")}
    command = [binary, "run", path, out, "--config", scratch / "batchclass.toml", "--progress", "none"]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=120, preexec_fn=limited, env=environment)
    except subprocess.TimeoutExpired:
        return "failed", "still running after 120 s"
    said = ended.stderr.decode("utf-8", "replace").strip()
    parts = sorted(out.glob("part-*.parquet"))
    if "panicked" in said or ended.returncode < 0:
        return "failed", f"exit code {ended.returncode}: {said[:300]}"
    if ended.returncode == 2:
        if parts:
            return "failed", f"refused, but {len(parts)} parts were written: {said}"
        sentence, _, summary = said.partition("\n")
        if summary and not sentence.startswith("stopped by the input: "):
            return "failed", f"more than a sentence: {said}"
        if path.name not in sentence and "column `" not in sentence:
            return "failed", f"the file is not named: {said}"
        return "refused", sentence
    if ended.returncode not in (0, 3):
        return "failed", f"exit code {ended.returncode}: {said[:300]}"
    try:
        different = csv_differences(path, parts) if path.suffix in (".csv", ".tsv") else differences(path, parts)
    except Exception as error:
        return "failed", f"the output can't be compared: {type(error).__name__}: {str(error)[:200]}"
    if different is None:
        return "read", "nobody else reads it"
    return ("failed", different) if different else ("read", "")


def others_read(path):
    if path.suffix in (".csv", ".tsv"):
        return []
    # In a process of its own: a damaged file may end it, or keep it busy for ever.
    readers = {
        "pyarrow": "import sys, pyarrow.parquet as pq; pq.ParquetFile(sys.argv[1]).read()",
        "DuckDB": "import sys, duckdb; duckdb.from_parquet(sys.argv[1]).fetchall()",
    }
    return [name for name, program in readers.items() if succeeds([sys.executable, "-c", program, path])]


def succeeds(command):
    try:
        return subprocess.run(command, capture_output=True, timeout=60, preexec_fn=limited).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def gathered(places, folder):
    """Copies of the files in `places`, with a name that says what they are."""
    for place in places:
        files = sorted(file for file in place.rglob("*") if file.is_file() and ".git" not in file.parts) if place.is_dir() else [place]
        for file in files:
            name = "-".join(file.relative_to(place.parent).parts)
            if file.suffix in (".parquet", ".pq", ".csv", ".tsv"):
                pass
            elif file.name.endswith(".parquet.encrypted") or "parquet" in str(file.parent) and "fuzz" in str(file.parent) and file.suffix != ".md":
                name += ".parquet"
            elif "csv-fuzz" in file.name:
                name += ".csv"
            else:
                continue
            shutil.copyfile(file, folder / name)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", default="batchclass")
    arguments.add_argument("--work", type=Path, help="keep the files here")
    arguments.add_argument("--only", default="", help="only files with this in their name")
    arguments.add_argument("places", nargs="*", type=Path)
    given = arguments.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="foreign-"))
    files, scratch = work / "files", work / "scratch"
    shutil.rmtree(work, ignore_errors=True)
    for folder in (files, scratch):
        folder.mkdir(parents=True)
    for make in (make_with_pyarrow, make_with_duckdb, make_with_polars, make_csv):
        make(files)
    gathered(given.places, files)
    outcomes = collections.defaultdict(list)
    for path in sorted(file for file in files.iterdir() if given.only in file.name):
        outcome, why = classify(given.binary, path, scratch)
        outcomes[outcome].append((path.name, why))
        if outcome == "refused" and (readers := others_read(path)):
            outcomes["refused though others read it"].append((path.name, f"{', '.join(readers)}: {why}"))
    for outcome in ("refused", "refused though others read it", "failed"):
        print(f"\n{outcome}:")
        for name, why in outcomes[outcome]:
            print(f"  {name}: {why}")
    alone = [name for name, why in outcomes["read"] if why]
    print(f"\nread by nobody else: {', '.join(alone) or 'none'}")
    print(f"not written by its library: {'; '.join(f'{name} ({why})' for name, why in not_written) or 'none'}")
    tried = sum(len(outcomes[outcome]) for outcome in ("read", "refused", "failed"))
    print(f"\n{'tried':>8} {'read':>8} {'refused':>8} {'failed':>8}")
    print(f"{tried:>8} {len(outcomes['read']):>8} {len(outcomes['refused']):>8} {len(outcomes['failed']):>8}")
    if given.work is None:
        shutil.rmtree(work)
    return int(bool(outcomes["failed"]))


if __name__ == "__main__":
    import pyarrow.csv  # noqa: F401  (pa.csv)

    sys.exit(main())

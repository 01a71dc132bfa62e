#!/usr/bin/env python3
"""Reads an output as DuckDB, Polars and pyarrow do, and checks that all three see the same table.

    python3 read_everywhere.py OUT ROWS [--id COLUMN] [--label COLUMN] [--columns NAME,NAME,...]

Each reader takes OUT/*.parquet as one table and has to find ROWS rows, unique ids that are never
null, the input's columns (`--columns`, in that order, if given) followed by the label column and its
reason column as text, and a reason exactly where there is no label. OUT as a dataset folder must
give pyarrow the same table. One line is printed for each reader; the exit code is 1 if anything
differs.
"""

import argparse
import re
import sys
from pathlib import Path


def with_duckdb(parts, names):
    import duckdb

    table = f"read_parquet('{parts.as_posix().replace(chr(39), chr(39) * 2)}')"
    schema = duckdb.sql(f"describe select * from {table}").fetchall()
    id, label, reason = (f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names)
    rows, ids, unreasoned = duckdb.sql(
        f"select count(*), count(distinct {id}), count(*) filter (({label} is null) = ({reason} is null)) from {table}"
    ).fetchall()[0]
    texts = {column for column, kind, *_ in schema if kind == "VARCHAR"}
    return [column for column, *_ in schema], texts, rows, ids, unreasoned


def with_polars(parts, names):
    import polars

    id, label, reason = (polars.col(f"^{re.escape(name)}$") for name in names)
    table = polars.scan_parquet(parts)
    schema = table.collect_schema()
    rows, ids, unreasoned = (
        table.select(
            polars.len().alias("rows"),
            id.drop_nulls().n_unique().alias("ids"),
            (label.is_null() == reason.is_null()).sum().alias("unreasoned"),
        )
        .collect()
        .row(0)
    )
    texts = {column for column, kind in schema.items() if kind == polars.String}
    return schema.names(), texts, rows, ids, unreasoned


def with_pyarrow(parts, names):
    import pyarrow.compute
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(parts.parent, format="parquet")
    id, label, reason = names
    kept = table.to_table(columns=list(names))
    ids = pyarrow.compute.count_distinct(kept[id], mode="only_valid").as_py()
    same = pyarrow.compute.equal(pyarrow.compute.is_null(kept[label]), pyarrow.compute.is_null(kept[reason]))
    unreasoned = pyarrow.compute.sum(same).as_py() or 0
    types = pyarrow.types
    texts = {f.name for f in table.schema if types.is_string(f.type) or types.is_large_string(f.type) or types.is_string_view(f.type)}
    return table.schema.names, texts, kept.num_rows, ids, unreasoned


def problems(seen, names, expected_columns, expected_rows):
    columns, texts, rows, ids, unreasoned = seen
    if rows != expected_rows:
        yield f"{rows} rows instead of {expected_rows}"
    if ids != rows:
        yield f"{ids} distinct ids in {rows} rows"
    if columns[-2:] != names[1:]:
        yield f"the last two columns are {columns[-2:]}, not {names[1:]}"
    if expected_columns is not None and columns[:-2] != expected_columns:
        yield f"the input's columns are {columns[:-2]}, not {expected_columns}"
    if not set(names[1:]) <= texts:
        yield f"of {names[1:]} only {sorted(set(names[1:]) & texts)} are text"
    if unreasoned:
        yield f"{unreasoned} rows have both a label and a reason, or neither"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("rows", type=int)
    arguments.add_argument("--id", default="id")
    arguments.add_argument("--label", default="label")
    arguments.add_argument("--columns", type=lambda names: names.split(","))
    given = arguments.parse_args()
    names = [given.id, given.label, f"{given.label}_reason"]
    failed = False
    for reader in (with_duckdb, with_polars, with_pyarrow):
        name = reader.__name__.removeprefix("with_")
        try:
            seen = reader(given.out / "*.parquet", names)
            found = list(problems(seen, names, given.columns, given.rows))
            found = "; ".join(found) or f"ok, {seen[2]} rows, columns {', '.join(seen[0])}"
            failed |= not found.startswith("ok")
        except Exception as error:  # whatever a reader throws, the others are still asked
            first_line = str(error).partition("\n")[0]
            found, failed = f"{type(error).__name__}: {first_line}", True
        print(f"{name}: {found}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

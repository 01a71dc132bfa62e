#!/usr/bin/env python3
"""How fast, and in how much memory, a shuffled input comes into id order.

Makes a Parquet file of shuffled ids and 53-byte texts (needs pyarrow), then times two commands:
`run --limit 1`, which proves the ids, sorts everything and reads the first row; and
`verify --input`, which besides that reads all rows in order. A third, `run --limit 1` over the same
rows in order, says what the program takes without sorting. With --peers DuckDB and Polars sort the
same file, if they are installed.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import time

from bench import Checks, arguments, parsed, say, table

SECONDS = 10
PEAK_MB = 256

CONFIG = """\
id = "id"
text = "text"
[[labels]]
name = "odd"
[[labels]]
name = "even"
[model]
provider = "lexical"
"""

DUCKDB = """
import duckdb, sys
source, target, temp = sys.argv[1:]
duckdb.sql(f"set memory_limit = '256MB'; set temp_directory = '{temp}'; set preserve_insertion_order = false")
duckdb.sql(f"copy (select * from '{source}' order by id) to '{target}' (format parquet)")
"""

POLARS = """
import polars, sys
source, target, _ = sys.argv[1:]
polars.scan_parquet(source).sort("id").sink_parquet(target)
"""


def main():
    parser = arguments(__doc__, rows=20_000_000)
    parser.add_argument("--sort-memory", default="64MiB")
    parser.add_argument("--peers", action="store_true")
    given = parsed(parser)
    shuffled, in_order = make_inputs(given.folder, given.rows)
    config = given.folder / "sort.toml"
    config.write_text(CONFIG)
    temp = given.folder / "temp"
    temp.mkdir(exist_ok=True)
    flags = ["--sort-memory", given.sort_memory, "--temp-dir", temp]
    out = given.folder / "out"
    shutil.rmtree(out, ignore_errors=True)

    first = [given.binary, "run", "--config", config, "--limit", 1, "--progress", "none", *flags]
    plain = measured([*first, in_order, given.folder / "out"], 0, 3)
    shutil.rmtree(out, ignore_errors=True)
    sort = measured([*first, shuffled, out], 0, 3)
    whole = measured([given.binary, "verify", out, "--input", shuffled, *flags], 3)
    rows = [
        ["no sort, first row", *plain],
        ["sort, first row", *sort],
        ["sort, all rows read", *whole],
    ]
    if given.peers:
        for name, script in [("duckdb", DUCKDB), ("polars", POLARS)]:
            if importlib.util.find_spec(name) is None:
                say(f"{name} is not installed")
                continue
            command = [sys.executable, "-c", script, shuffled, given.folder / f"{name}.parquet", temp]
            rows.append([f"{name}, sort and write", *measured(command, 0)])
    table(
        ["what", "seconds", "CPU s", "peak MB"],
        [[what, f"{seconds:.1f}", f"{cpu:.1f}", f"{peak:.0f}"] for what, seconds, cpu, peak in rows],
    )
    checks = Checks()
    left = sorted(path.name for path in temp.iterdir() if path.name.startswith("batchclass"))
    checks.claim("no temporary file stays", not left, left)
    checks.claim(f"in order within {SECONDS} s", sort[0] <= SECONDS, f"{sort[0]:.1f} s")
    peak = max(sort[2], whole[2])
    checks.claim(f"in less than {PEAK_MB} MB", peak < PEAK_MB, f"{peak:.0f} MB")
    checks.exit()


def make_inputs(folder, rows):
    """The same rows shuffled and in id order; made once for a folder."""
    paths = [folder / f"{name}-{rows}.parquet" for name in ("shuffled", "in-order")]
    if all(path.exists() for path in paths):
        return paths
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
    except ImportError:
        sys.exit("making the input needs pyarrow: pip install pyarrow")
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    numbers = pa.array(range(rows), pa.int64())
    orders = [pc.sort_indices(pc.random(rows, initializer=7)).cast(pa.int64()), numbers]
    for path, ids in zip(paths, orders):
        unfinished = path.with_suffix(".unfinished")
        with pq.ParquetWriter(unfinished, schema, compression="snappy", use_dictionary=False) as writer:
            for first in range(0, rows, 1_000_000):
                part = ids[first : first + 1_000_000]
                noise = pc.floor(pc.multiply(pc.random(len(part), initializer=first + 1), 1e9)).cast(pa.int64())
                words = [pc.utf8_lpad(column.cast(pa.string()), 10, "0") for column in (part, noise)]
                text = pc.binary_join_element_wise(*words, "Market Street, Northbridge, NB1 7QQ", " ")
                text = pc.utf8_slice_codeunits(text, 0, 53)
                writer.write_table(pa.table([part, text], schema=schema), row_group_size=1_000_000)
        unfinished.rename(path)
    return paths


def measured(command, *codes, stdout=subprocess.DEVNULL):
    """Runs a command: seconds, CPU seconds and peak MB."""
    command = [str(word) for word in command]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE)
    said = process.stderr.read().decode(errors="replace")
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {said[-2000:]}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()

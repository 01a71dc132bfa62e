#!/usr/bin/env python3
"""How much memory a job takes whose rows are wide.

Makes Parquet files (needs pyarrow): rows of an id, a text of 60 bytes and 40 further columns
(integers, floats, short strings, some nulls) in id order and shuffled; and rows of which a few hold
cells of 20 MiB. Each is classified as a whole by the embedded scorer, in parts of the usual size.
"""

import shutil
import sys

from bench import Checks, arguments, parsed, say, table
from sort import measured

PEAK_MB = 256
GROUP = 100_000
CELL = 20 << 20

CONFIG = """\
id = "id"
text = "text"
[[labels]]
name = "odd"
[[labels]]
name = "even"
[model]
provider = "lexical"
[batch]
rows_per_call = 100
"""


def main():
    parser = arguments(__doc__, rows=2_000_000)
    parser.add_argument("--only", nargs="*", help="names of the files to classify; default: all")
    given = parsed(parser)
    config = given.folder / "wide.toml"
    config.write_text(CONFIG)
    temp = given.folder / "temp"
    temp.mkdir(exist_ok=True)
    rows, checks = [], Checks()
    for path in make_inputs(given.folder, given.rows):
        name = path.stem
        if given.only and name not in given.only:
            continue
        out = given.folder / f"out-{name}"
        shutil.rmtree(out, ignore_errors=True)
        command = [given.binary, "run", "--config", config, "--progress", "none", "--temp-dir", temp, path, out]
        seconds, cpu, peak = measured(command, 0, 3)
        parts = len(list(out.glob("*.parquet")))
        rows.append([name, f"{path.stat().st_size / 1e6:.0f}", parts, f"{seconds:.1f}", f"{cpu:.1f}", f"{peak:.0f}"])
        say(*rows[-1])
        if name.startswith("wide"):
            checks.claim(f"{name} in less than {PEAK_MB} MB", peak < PEAK_MB, f"{peak:.0f} MB")
    table(["input", "MB", "parts", "seconds", "CPU s", "peak MB"], rows)
    checks.exit()


def make_inputs(folder, rows):
    """The files; made once for a folder."""
    names = [f"wide-{rows}", f"wide-shuffled-{rows}", "cells", "cells-shuffled"]
    paths = [folder / f"{name}.parquet" for name in names]
    if all(path.exists() for path in paths):
        return paths
    try:
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        sys.exit("making the input needs pyarrow and numpy: pip install pyarrow numpy")

    def write(path, batches):
        unfinished = path.with_suffix(".unfinished")
        writer = None
        for batch in batches:
            writer = writer or pq.ParquetWriter(unfinished, batch.schema, compression="snappy")
            writer.write_table(batch, row_group_size=GROUP)
        writer.close()
        unfinished.rename(path)

    def wide(ids, seed):
        random = np.random.default_rng(seed)
        count = len(ids)
        words = random.integers(0, 1 << 63, (count, 4), dtype=np.int64)
        columns = {"id": pa.array(ids), "text": pa.array([f"{a:016x} {b:016x} Market Street, Northbridge"[:60] for a, b in words[:, :2]])}
        for number in range(40):
            nulls = random.random(count) < 0.05 if number % 5 == 0 else None
            if number % 3 == 0:
                values = pa.array(random.integers(0, 1 << 62, count, dtype=np.int64), mask=nulls)
            elif number % 3 == 1:
                values = pa.array(random.random(count), mask=nulls)
            else:
                short = random.integers(0, 1 << 48, count, dtype=np.int64)
                values = pa.array([f"{value:012x}" for value in short], mask=nulls)
            columns[f"column_{number:02}"] = values
        return pa.table(columns)

    order = np.random.default_rng(7).permutation(rows).astype(np.int64)
    for path, ids in zip(paths, [np.arange(rows, dtype=np.int64), order]):
        write(path, (wide(ids[first : first + GROUP], first + 1) for first in range(0, rows, GROUP)))

    def cells(ids):
        """A text of 60 bytes, and in every 5,000th row a cell of 20 MiB that is no text."""
        random = np.random.default_rng(11)
        for first in range(0, len(ids), 5_000):
            some = ids[first : first + 5_000]
            blobs = [random.bytes(CELL) if row == 0 else b"small" for row in range(len(some))]
            texts = [f"row {value} Market Street" for value in some]
            yield pa.table({"id": some, "text": texts, "blob": pa.array(blobs, pa.binary())})

    write(paths[2], cells(np.arange(100_000, dtype=np.int64)))
    write(paths[3], cells(np.random.default_rng(7).permutation(100_000).astype(np.int64)))
    return paths


if __name__ == "__main__":
    main()

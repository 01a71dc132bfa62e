"""Address-like rows by the million, made in seconds: the inputs of `performance.py`.

As those of fixtures/addresses (the same words, about 60 bytes and 16 tokens, no two alike), but drawn column by
column; the same arguments give the same rows. Needs pyarrow.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

from bench import ROOT

SEED = 20260101
FIRST_ID, ID_STEP = 100_000, 3
ROWS_PER_WRITE = 500_000
ROWS_PER_GROUP = 100_000


def arrow():
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        sys.exit("making the input needs pyarrow: pip install pyarrow")
    return pyarrow


def words():
    """The word lists of fixtures/addresses/make.py."""
    spec = importlib.util.spec_from_file_location("addresses", ROOT / "fixtures/addresses/make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    towns = [f", {town}, {county}, {area}" for town, (county, area) in module.TOWNS.items()]
    houses = [house.format(n=n) + ", " for house in module.HOUSES for n in (range(1, 100) if "{n}" in house else [0])]
    return houses, module.STREETS, module.KINDS, towns


def make(path, rows, shuffled=False):
    """Rows with `id` (int64) and `address` as Parquet or CSV, by the path's suffix; made once.

    In a process of its own: a child begins with the peak memory of its parent.
    """
    if not path.exists():
        subprocess.run([sys.executable, __file__, path, str(rows), *(["--shuffled"] if shuffled else [])], check=True)
    return path


def make_here(path, rows, shuffled):
    pa = arrow()
    pc = pa.compute
    lists = [pa.array(words_of) for words_of in words()]
    numbers = pa.array(range(rows), pa.int64())
    if shuffled:
        numbers = pc.sort_indices(pc.random(rows, initializer=SEED)).cast(pa.int64())
    schema = pa.schema([("id", pa.int64()), ("address", pa.string())])
    unfinished = path.with_suffix(".unfinished")
    if path.suffix == ".csv":
        writer = pa.csv.CSVWriter(unfinished, schema, write_options=pa.csv.WriteOptions(quoting_style="needed"))
        flags = {}
    else:
        writer = pa.parquet.ParquetWriter(unfinished, schema, compression="snappy", use_dictionary=False)
        flags = {"row_group_size": ROWS_PER_GROUP}
    with writer:
        for first in range(0, rows, ROWS_PER_WRITE):
            part = numbers[first : first + ROWS_PER_WRITE]
            writer.write_table(pa.table([ids(pa, part), addresses(pa, part, lists, first)], schema=schema), **flags)
    unfinished.rename(path)


def ids(pa, numbers):
    return pa.compute.add(pa.compute.multiply(numbers, ID_STEP), FIRST_ID)


def addresses(pa, numbers, lists, seed):
    """One address for each row number; the number itself is in it, so no two are alike."""
    pc = pa.compute

    def drawn(list_, at):
        places = pc.floor(pc.multiply(pc.random(len(numbers), initializer=SEED + 10 * seed + at), len(list_)))
        return list_.take(places.cast(pa.int64()))

    # House numbers count through 1 to 399, postcodes through what that leaves.
    street_number = pc.add(pc.subtract(numbers, pc.multiply(pc.divide(numbers, 399), 399)), 1)
    postcode = pc.add(pc.divide(numbers, 399), 1)
    houses, streets, kinds, towns = (drawn(list_, at) for at, list_ in enumerate(lists))
    streets = pc.binary_join_element_wise(street_number.cast(pa.string()), streets, kinds, " ")
    return pc.binary_join_element_wise(houses, streets, towns, postcode.cast(pa.string()), "")


if __name__ == "__main__":
    make_here(Path(sys.argv[1]), int(sys.argv[2]), "--shuffled" in sys.argv)

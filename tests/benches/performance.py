#!/usr/bin/env python3
"""The table of docs/performance.md: what the program itself costs, beside a model that answers at once.

Everything is measured in one run, on the inputs of rows.py: the whole job over HTTP against a server that answers every
row with the first label (its CPU apart), the engine without HTTP, peak memory on 20 million rows in order, shuffled and
as CSV, a rerun over the finished output, and how cost grows with the rows. Needs pyarrow and two builds:

    cargo build --release --bins --example engine

--only picks among the parts; --quick makes every input a tenth.
"""

import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import rows
from bench import Checks, arguments, free_port, parsed, say, table
from sort import measured
from throughput import profile

PARTS = ["http", "engine", "memory", "scale", "peers"]
CONFIG_LABELS = ["Prime City Professionals", "Urban Terraces", "Suburban Families", "Market Town Comfort", "Rural Fringe"]
SORTED_MB, SHUFFLED_MB = 192, 256

# The nearest rival that packs several rows into a call and can be told an address. It holds its rows in a data frame.
ONDINE = """
import sys, pandas
from ondine import PipelineBuilder
source, base_url, rows, rows_per_call = sys.argv[1:]
frame = pandas.read_parquet(source, columns=["address"]).head(int(rows))
builder = PipelineBuilder.create().from_dataframe(frame, input_columns=["address"], output_columns=["label"])
builder = builder.with_prompt("Classify as A or B: {address}").with_batch_size(int(rows_per_call)).with_concurrency(16)
builder = builder.with_llm(provider="openai_compatible", model="gpt-4o-mini", base_url=base_url, api_key="none")
labels = list(builder.build().execute().data["label"])
assert labels == ["A"] * int(rows), labels[:5]
"""


def main():
    parser = arguments(__doc__, rows=2_000_000)
    parser.add_argument("--rows-per-call", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--perf", action="store_true", help="also say which module the client's time went to")
    given = parsed(parser)
    given.engine = given.binary.parent / "examples/engine"
    if not given.engine.is_file():
        raise SystemExit(f"{given.engine} is missing; `cargo build --release --example engine` makes it")
    given.scale = 10 if given.quick else 1
    given.config = config(given.folder)
    checks = Checks()
    for part in given.only or PARTS:
        print(f"\n### {part}\n", flush=True)
        globals()[part](given, checks)
    checks.exit()


def config(folder):
    labels = "".join(f'[[labels]]\nname = "{name}"\n' for name in CONFIG_LABELS)
    path = folder / "performance.toml"
    path.write_text(
        'id = "id"\ntext = "address"\ninstructions = "You classify UK postal addresses."\n'
        f'[model]\nprovider = "openai"\nname = "gpt-4o-mini"\n[limits]\ntokens_per_minute = 0\n{labels}'
    )
    return path


class FixedAnswers:
    """`engine serve`: a server that does as little as one can."""

    def __init__(self, engine):
        self.engine = engine

    def __enter__(self):
        port = free_port()
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self.process = subprocess.Popen([self.engine, "serve", str(port)])
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100


def fresh(folder):
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    return out


@dataclass
class Run:
    seconds: float
    cpu_seconds: float
    peak_mb: float


def whole_job(given, source, server, *flags, prefix=()):
    """One run over HTTP into a new output.

    Without its events: a process begins with the peak memory of its parent, and this one's has to stay small.
    """
    flags = ["--rows-per-call", given.rows_per_call, "--tokens-per-call", 32_000, *flags]
    command = [*prefix, given.binary, source, fresh(given.folder), "--config", given.config, "--base-url", server.base_url]
    return Run(*measured([*command, "--progress", "none", *flags], 0, 3))


def http(given, checks):
    count = given.rows // given.scale
    source = rows.make(given.folder / f"rows-{count}.parquet", count)
    lines = []
    with FixedAnswers(given.engine) as server:
        for number in range(given.runs):
            before = server.cpu_seconds()
            run = whole_job(given, source, server)
            lines.append((count / run.seconds, run.cpu_seconds / count * 1e6, (server.cpu_seconds() - before) / count * 1e6, run.peak_mb))
            say(f"run {number + 1}: {lines[-1][0]:,.0f} rows/s")
        if given.perf:
            record = given.folder / "perf.data"
            prefix = ["perf", "record", "-q", "-F", "199", "--call-graph", "dwarf,16384", "-o", record]
            whole_job(given, source, server, "--limit", count // 4, prefix=prefix)
            profile(record)
    speed, client, served, peak = (statistics.median(column) for column in zip(*lines))
    table(
        ["whole job over HTTP", "rows/s", "client CPU s per M rows", "server CPU s per M rows", "client peak MB"],
        [[f"{count:,} rows, {given.rows_per_call} a call", f"{speed:,.0f}", f"{client:.2f}", f"{served:.2f}", f"{peak:.0f}"]],
    )
    checks.claim("at least 100,000 rows/s", speed >= 100_000, f"{speed:,.0f}")
    checks.claim("at most 8 client CPU s per million rows", client <= 8, f"{client:.2f}")


def engine_run(given, source):
    """One run without HTTP: seconds, CPU seconds, peak MB."""
    out = fresh(given.folder)
    with tempfile.TemporaryFile() as said:
        command = [given.engine, "run", source, out, given.rows_per_call]
        seconds, cpu, peak = measured(command, 0, stdout=said)
        said.seek(0)
        seconds = json.load(said)["seconds"]
    return seconds, cpu, peak


def engine(given, checks):
    count = given.rows // given.scale
    source = rows.make(given.folder / f"rows-{count}.parquet", count)
    runs = [engine_run(given, source) for _ in range(given.runs)]
    seconds, cpu, peak = (statistics.median(column) for column in zip(*runs))
    table(
        ["engine without HTTP", "rows/s", "CPU s per M rows", "peak MB"],
        [[f"{count:,} rows, {given.rows_per_call} a call", f"{count / seconds:,.0f}", f"{cpu / count * 1e6:.2f}", f"{peak:.0f}"]],
    )
    checks.claim("at least 300,000 rows/s", count / seconds >= 300_000, f"{count / seconds:,.0f}")


def memory(given, checks):
    count = 20_000_000 // given.scale
    cases = [
        ("in order, Parquet", rows.make(given.folder / f"rows-{count}.parquet", count), SORTED_MB),
        ("shuffled, Parquet", rows.make(given.folder / f"shuffled-{count}.parquet", count, shuffled=True), SHUFFLED_MB),
        ("shuffled, CSV", rows.make(given.folder / f"shuffled-{count}.csv", count, shuffled=True), SHUFFLED_MB),
    ]
    lines = []
    with FixedAnswers(given.engine) as server:
        for name, source, bar in cases:
            run = whole_job(given, source, server, "--temp-dir", given.folder)
            lines.append([name, f"{source.stat().st_size / 1e6:,.0f}", f"{run.seconds:.0f}", f"{run.cpu_seconds:.0f}", f"{run.peak_mb:.0f}"])
            checks.claim(f"{name}: under {bar} MB", run.peak_mb < bar, f"{run.peak_mb:.0f} MB")
            if source is cases[0][1]:
                again = [given.binary, source, given.folder / "out", "--config", given.config, "--base-url", server.base_url, "--progress", "none"]
                reruns = [measured(again, 0) for _ in range(given.runs)]
    table([f"whole job, {count:,} rows", "input MB", "seconds", "client CPU s", "peak MB"], lines)
    seconds, cpu, peak = (statistics.median(column) for column in zip(*reruns))
    print()
    table(["rerun over the finished output", "seconds", "CPU s", "peak MB"], [[f"{count:,} rows", f"{seconds:.2f}", f"{cpu:.2f}", f"{peak:.0f}"]])
    checks.claim("rerun under 2 s", seconds < 2, f"{seconds:.2f} s")


def scale(given, checks):
    lines, costs = [], []
    for millions in [1, 2, 4, 8, 16]:
        count = millions * 1_000_000 // given.scale
        source = rows.make(given.folder / f"rows-{count}.parquet", count)
        seconds, cpu, peak = engine_run(given, source)
        costs.append(cpu / count * 1e6)
        lines.append([f"{count:,}", f"{seconds:.1f}", f"{costs[-1]:.2f}", f"{peak:.0f}"])
    table(["rows, engine without HTTP", "seconds", "CPU s per M rows", "peak MB"], lines)
    spread = max(costs) / min(costs) - 1
    checks.claim("CPU a row within 10 %", spread <= 0.10, f"{spread:.1%}")


def peers(given, checks):
    if importlib.util.find_spec("ondine") is None:
        return say("ondine is not installed (pip install ondine pandas pyarrow)")
    count = given.rows // given.scale
    few = min(20_000, count)
    source = rows.make(given.folder / f"rows-{count}.parquet", count)
    with FixedAnswers(given.engine) as server:
        command = [sys.executable, "-c", ONDINE, source, server.base_url, few, given.rows_per_call]
        # The start (imports, reading) is not what is compared: a run of one call is taken off.
        start = measured([*command[:-2], given.rows_per_call, given.rows_per_call], 0)
        theirs = measured(command, 0)
        ours = [whole_job(given, source, server, "--limit", few) for _ in range(given.runs)]
    seconds, cpu = theirs[0] - start[0], theirs[1] - start[1]
    rate = few / statistics.median(run.seconds for run in ours)
    ours_cpu = statistics.median(run.cpu_seconds for run in ours) / few * 1e6
    lines = [
        ["batchclass, the whole process", f"{rate:,.0f}", f"{ours_cpu:.1f}", f"{statistics.median(run.peak_mb for run in ours):.0f}"],
        ["Ondine, 16 at once, without its start", f"{few / seconds:,.0f}", f"{cpu / few * 1e6:.1f}", f"{theirs[2]:.0f}"],
    ]
    table([f"{few:,} rows, {given.rows_per_call} a call", "rows/s", "client CPU s per M rows", "peak MB"], lines)


if __name__ == "__main__":
    main()

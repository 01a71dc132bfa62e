#!/usr/bin/env python3
"""How long a rerun takes to find that nothing is left to do, over an output of 2,000 parts.

The output is made by a real run with the embedded scorer. Measured are a rerun over the whole output,
and one over an output of which a part's record in the manifest is gone, which has to record it again;
neither asks anything. With strace the system calls of each are counted, too, in a run of their own.
"""

import shutil
import statistics

from bench import Checks, Client, arguments, expect_exit, make_addresses, parsed, say, table


def main():
    parser = arguments(__doc__, rows=200_000)
    parser.add_argument("--rows-per-part", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5, help="of which the median counts; default: %(default)s")
    parser.add_argument("--bar", type=float, default=1.0, help="seconds that a rerun may take; default: %(default)s")
    given = parsed(parser)
    source, config = make_addresses(given.folder, given.rows)
    out = given.folder / "restart"
    parts = -(-given.rows // given.rows_per_part)

    def start(prefix=()):
        flags = ["--provider", "lexical", "--rows-per-part", given.rows_per_part, "--tokens-per-minute", 0]
        return Client(given.binary, source, out, config, None, *flags, prefix=prefix)

    made = expect_exit(start().wait(), 0)
    if not made.told("call_started"):
        raise SystemExit(f"{out} was finished already; give another --folder")
    say(f"made {parts} parts in {made.seconds:.0f} s")

    def forget_a_record():
        (out / f"_batchclass/manifest/{parts // 2:06}.json").unlink()

    lines, checks = [], Checks()
    for name, damage in [("nothing to do", lambda: None), ("a record is gone", forget_a_record)]:
        runs = []
        for _ in range(given.runs):
            damage()
            runs.append(expect_exit(start().wait(), 0))
            say(f"{name}: {runs[-1].seconds:.3f} s")
            if runs[-1].told("call_started"):
                raise SystemExit("a rerun asked something")
        damage()
        calls = system_calls(start, given.folder / "strace")
        median = statistics.median(run.seconds for run in runs)
        cpu = statistics.median(run.cpu_seconds for run in runs)
        lines.append([name, parts, f"{median:.3f}", f"{max(run.seconds for run in runs):.3f}", f"{cpu:.3f}", f"{max(run.peak_mb for run in runs):.0f}", *calls])
        checks.claim(f"a rerun with {parts:,} parts, {name}, takes less than {given.bar:g} s", median < given.bar, f"{median:.3f} s")
    records = len(list((out / "_batchclass/manifest").glob("*.json")))
    checks.claim("every part has its record at the end", records >= parts, f"{records} records of {parts} parts")
    print()
    table(["rerun", "parts", "median s", "longest s", "CPU s", "peak MB", "system calls", "files opened", "reads", "syncs"], lines)
    checks.exit()


def system_calls(start, record):
    """All system calls of a run, and among them those that open, read and sync."""
    if not shutil.which("strace"):
        return ["-"] * 4
    expect_exit(start(prefix=["strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", record]).wait(), 0)
    counts = {}
    for line in record.read_text().splitlines():
        cells = line.split()
        if len(cells) == 2 and cells[0].isdigit():
            counts[cells[1]] = int(cells[0])
    total = counts.pop("total", None) or sum(counts.values())
    return [total, *(sum(counts.get(name, 0) for name in names) for names in (("open", "openat"), ("read", "pread64", "readv"), ("fsync", "fdatasync")))]


if __name__ == "__main__":
    main()

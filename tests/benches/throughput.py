#!/usr/bin/env python3
"""How fast the program is when nothing holds it back: no limit, no latency, sorted rows.

Prints seconds, rows a second, the client's peak memory and the CPU seconds of client and server.
With --perf it also says which module the client's time went to (needs perf, and a binary with
symbols: `CARGO_PROFILE_RELEASE_DEBUG=line-tables-only cargo build --release`).
"""

import collections
import re
import shutil
import subprocess

from bench import Client, Server, arguments, expect_exit, make_addresses, parsed, say, table


def main():
    parser = arguments(__doc__, rows=1_000_000)
    parser.add_argument("--rows-per-call", type=int, default=50)
    parser.add_argument("--perf", action="store_true")
    given = parsed(parser)
    if given.perf and not shutil.which("perf"):
        raise SystemExit("perf is not installed")
    source, config = make_addresses(given.folder, given.rows)
    with Server(given.binary, "--tokens-per-minute", 0, "--latency-ms", 0, "--ms-per-output-token", 0) as server:
        out = given.folder / f"throughput-{server.port}"
        record = given.folder / "perf.data"
        prefix = ["perf", "record", "-q", "-F", "99", "--call-graph", "dwarf,16384", "-o", record] if given.perf else []
        before = server.cpu_seconds()
        flags = ["--rows-per-call", given.rows_per_call, "--tokens-per-minute", 0]
        run = Client(given.binary, source, out, config, server.base_url, *flags, prefix=prefix).wait()
        expect_exit(run, 0)
        server_cpu = server.cpu_seconds() - before
    if given.perf:
        say("recorded with perf: seconds, memory and CPU below include it")
    table(
        ["rows", "seconds", "rows/s", "client peak MB", "client CPU s", "server CPU s"],
        [[f"{given.rows:,}", f"{run.seconds:.1f}", f"{given.rows / run.seconds:,.0f}", f"{run.peak_mb:.0f}", f"{run.cpu_seconds:.1f}", f"{server_cpu:.1f}"]],
    )
    if given.perf:
        print()
        profile(record)


def profile(record):
    """Counts each sample for the innermost of our modules on its stack."""
    script = subprocess.run(["perf", "script", "-i", record, "-F", "ip,sym"], capture_output=True, text=True, check=True)
    ours = re.compile(r"\bbatchclass(?:\[[0-9a-f]+\])?::((?:\w+::)?\w+)")
    counts = collections.Counter()
    for stack in script.stdout.split("\n\n"):
        if stack.strip():
            found = ours.search(stack)
            counts[found.group(1) if found else "outside (runtime, kernel)"] += 1
    total = sum(counts.values()) or 1
    table(["module", "share"], [[module, f"{count / total:.1%}"] for module, count in counts.most_common(20)])


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What the journal and syncing cost: 100 calls a second with the output on disk, and on tmpfs.

The client is paced to --calls-per-second, the server answers after --latency-ms. The same is measured
with nothing to wait for and ten times the rows, which shows what the pace hides. Then strace times
each write and each sync of a paced run: writes to the journal hold up a call, syncs run on threads of
their own. In a last run it makes each sync --slow-sync-ms slower, as on a slow disk.

Needs a disk under --folder and a tmpfs at --memory (Linux: /dev/shm); strace for the second table.
"""

import re
import shutil
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from bench import Checks, Client, Server, arguments, expect_exit, make_addresses, parsed, say, seconds, table

ROWS_PER_CALL = 20
TRACED = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat"
# 812 fdatasync(9</out/_batchclass/journal/000001.jsonl>) = 0 <0.001234>
SYSTEM_CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)\)\s+= .* <([\d.]+)>$")
# What strace splits because another thread came between.
UNFINISHED = re.compile(r"^(\d+)\s+(\w+)\((.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+)\s+<\.\.\. \w+ resumed>(.*)$")


def main():
    parser = arguments(__doc__, rows=30_000)
    parser.add_argument("--calls-per-second", type=int, default=100)
    parser.add_argument("--latency-ms", type=int, default=300)
    parser.add_argument("--rows-per-part", type=int, default=2_000)
    parser.add_argument("--runs", type=int, default=5, help="of which the medians count; default: %(default)s")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder on tmpfs; default: %(default)s")
    parser.add_argument("--slow-sync-ms", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--bar", type=float, default=0.02, help="share of the wall time that may be lost; default: %(default)s")
    given = parsed(parser)
    memory = Path(tempfile.mkdtemp(prefix="batchclass-bench-", dir=given.memory))
    try:
        measure(given, memory)
    finally:
        shutil.rmtree(memory)


def measure(given, memory):
    for folder, is_memory in ((given.folder, False), (memory, True)):
        kind = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
        if (kind == "tmpfs") != is_memory:
            raise SystemExit(f"{folder} is on {kind}; --folder has to be on a disk, --memory on tmpfs")
    flags = ["--rows-per-call", ROWS_PER_CALL, "--rows-per-part", given.rows_per_part, "--tokens-per-minute", 0]
    pace = ["--requests-per-minute", given.calls_per_second * 60]
    checks, lines = Checks(), []
    loads = [(f"{given.calls_per_second} calls/s", given.rows, given.latency_ms, pace), ("nothing to wait for", 10 * given.rows, 0, [])]
    for name, rows, latency, limit in loads:
        source, config = make_addresses(given.folder, rows)
        server_flags = ["--fixed-answer", "--tokens-per-minute", 0, "--latency-ms", latency, "--ms-per-output-token", 0, "--jitter", 0]
        with Server(given.binary, *server_flags) as server:
            runs = {"disk": [], "tmpfs": []}
            for number in range(given.runs):
                # In turns, so that a busy machine slows both.
                for place, folder in (("disk", given.folder), ("tmpfs", memory)):
                    out = folder / f"journal-{server.port}-{number}"
                    run = expect_exit(Client(given.binary, source, out, config, server.base_url, *flags, *limit).wait(), 0)
                    runs[place].append(run)
                    say(f"{name}, {place}: {run.seconds:.2f} s, {run.cpu_seconds:.2f} CPU s")
            disk, tmpfs = (statistics.median(run.seconds for run in runs[place]) for place in ("disk", "tmpfs"))
            for place, median in (("disk", disk), ("tmpfs", tmpfs)):
                calls = statistics.median(len(run.told("call_finished")) for run in runs[place])
                asked = statistics.median(asking(run) for run in runs[place])
                cpu = statistics.median(run.cpu_seconds for run in runs[place])
                spread = f"{min(run.seconds for run in runs[place]):.2f}-{max(run.seconds for run in runs[place]):.2f}"
                lines.append([name, place, f"{calls:g}", f"{calls / asked:.0f}", f"{median:.2f}", spread, f"{asked:.2f}", f"{cpu:.2f}", f"{median / tmpfs:.3f}"])
            if limit:
                checks.claim(f"at {name} a disk costs less than {given.bar:.0%} of the wall time", disk / tmpfs - 1 < given.bar, f"{disk / tmpfs - 1:+.2%}")
                traced = trace(given, source, config, server, flags + limit) if shutil.which("strace") else None
                if traced:
                    slow = slowed(given, source, config, server, flags + limit)
                    paced = statistics.median(asking(run) for run in runs["tmpfs"])
                    calls = len(slow.told("call_finished"))
                    lines.append([name, f"disk, syncs {given.slow_sync_ms} ms slower", calls, f"{calls / asking(slow):.0f}", f"{slow.seconds:.2f}", "-", f"{asking(slow):.2f}", "-", f"{slow.seconds / tmpfs:.3f}"])
                    lost = asking(slow) / paced - 1
                    checks.claim(f"with syncs {given.slow_sync_ms} ms slower, asking slows by less, too", lost < given.bar, f"{lost:+.2%}")
    print()
    table(["pace", "output on", "calls", "calls/s", "median s", "range s", "asking s", "CPU s", "of tmpfs"], lines)
    if not traced:
        say("strace is missing, so single writes were not timed: apt install strace")
        checks.exit()
    run, times = traced
    print(f"\nunder strace, on disk: {run.seconds:.2f} s, {len(run.told('call_finished'))} calls")
    table(["what", "times", "median µs", "longest ms", "total s", "share of the wall time"], [line(run, name, taken) for name, taken in times.items()])
    held = sum(times["journal: write"]) / run.seconds
    print()
    checks.claim(f"calls are held up by writes to the journal for less than {given.bar:.0%} of the wall time", held < given.bar, f"{held:.2%}")
    checks.exit()


def asking(run):
    """Seconds from a run's first call to its last reply: without its start and end."""
    return seconds(run.told("call_finished")[-1]["at"]) - seconds(run.told("call_started")[0]["at"])


def trace(given, source, config, server, flags):
    """A run under strace, and the seconds of each write and sync on disk, by what it was for."""
    record, out = given.folder / "strace", given.folder / f"traced-{server.port}"
    prefix = ["strace", "-f", "-qq", "-y", "-T", "-s", "0", "--seccomp-bpf", "-e", f"trace={TRACED}", "-o", record]
    run = expect_exit(Client(given.binary, source, out, config, server.base_url, *flags, prefix=prefix).wait(), 0)
    times, began = defaultdict(list), {}
    times["journal: write"], times["journal: sync"] = [], []
    for text in record.read_text(errors="replace").splitlines():
        if cut := UNFINISHED.match(text):
            began[cut[1]] = f"{cut[1]} {cut[2]}({cut[3]}"
            continue
        if rest := RESUMED.match(text):
            text = began.pop(rest[1], "") + rest[2]
        if found := SYSTEM_CALL.match(text):
            _, name, words, taken = found.groups()
            if what := purpose(name, words, str(out)):
                times[what].append(float(taken))
    return run, times


def slowed(given, source, config, server, flags):
    """A run of which each sync takes longer."""
    out = given.folder / f"slowed-{server.port}"
    inject = f"inject=fsync,fdatasync:delay_exit={given.slow_sync_ms * 1000}"
    prefix = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-e", inject, "-o", "/dev/null"]
    return expect_exit(Client(given.binary, source, out, config, server.base_url, *flags, prefix=prefix).wait(), 0)


def purpose(name, words, out):
    if out not in words:
        return None
    kind = "sync" if "sync" in name else "write" if "write" in name else "rename" if "rename" in name else "remove"
    if "/journal/" in words or "/journal>" in words:
        return f"journal: {kind}"
    return f"parts and records: {kind}"


def line(run, name, taken):
    total = sum(taken)
    return [name, len(taken), f"{statistics.median(taken or [0]) * 1e6:.0f}", f"{max(taken, default=0) * 1e3:.2f}", f"{total:.3f}", f"{total / run.seconds:.2%}"]


if __name__ == "__main__":
    main()

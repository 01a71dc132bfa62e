#!/usr/bin/env python3
"""Power loss on ext4 and XFS: what was reported as committed is there, and the rerun ends as ever.

    sudo python3 tests/scripts/power_loss.py [--rounds 10] [--cuts 2] [--file-systems ext4 xfs]

Each round makes a file system in an image, mounts it, and runs a job on it against `batchclass
simulate`. At a random moment the file system is shut down as `xfs_io -x -c shutdown` does it: the log
is not flushed, and what nobody synced is gone. The program is killed, the image mounted again (which
replays the file system's own journal), what stands is compared with what was reported, and the same
command goes on, up to the next cut or to the end. Then `batchclass verify` has to find every row.

A canary file that is not synced has to be lost at every cut, or it was no power loss. The image keeps
what reached it without a flush of the drive's cache, so a drive that lies about flushes is not tested.

`--lie` lets every sync succeed without syncing (strace does it): the claims then have to break.

Needs root, loop devices, pyarrow, and `apt install e2fsprogs xfsprogs` (strace for --lie).
"""

import ctypes
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benches"))
from bench import Checks, Client, Server, arguments, expect_exit, make_addresses, parsed, read_rows, say, seconds, table

MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
IMAGE_BYTES = 512 << 20
# The ioctl and the flag behind `xfs_io -x -c shutdown`; ext4 takes both, too.
GOING_DOWN, WITHOUT_FLUSHING_THE_LOG = 0x8004587D, 2
CLONE_NEWNS = 0x20000
LYING_SYNCS = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:retval=0"]


class Disk:
    """A file system of its own in an image, mounted from `with` to its end."""

    def __init__(self, kind, folder):
        folder = folder.resolve()
        self.kind, self.image, self.top = kind, folder / f"{kind}.img", folder / f"{kind}-mount"

    def __enter__(self):
        self.top.mkdir(exist_ok=True)
        self.image.unlink(missing_ok=True)
        self.image.touch()
        os.truncate(self.image, IMAGE_BYTES)
        command([*MAKE[self.kind], self.image])
        self.mount()
        return self

    def __exit__(self, *_):
        # `os.path.ismount` is of no use: it takes a file system that was shut down for none.
        if f" {self.top} " in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["umount", "--lazy", self.top])
        self.image.unlink(missing_ok=True)

    def mount(self):
        command(["mount", "-o", "loop", self.image, self.top])

    def cut(self):
        """The power goes; returns when, in seconds since 1970."""
        (self.top / "canary").write_bytes(b"\1" * 65_536)
        top = os.open(self.top, os.O_RDONLY)
        try:
            when = time.time()
            fcntl.ioctl(top, GOING_DOWN, struct.pack("I", WITHOUT_FLUSHING_THE_LOG))
        finally:
            os.close(top)
        return when

    def come_back(self):
        """Mounts again; returns whether what was not synced was lost."""
        command(["umount", self.top])
        self.mount()
        canary = self.top / "canary"
        is_lost = not canary.exists() or b"\1" not in canary.read_bytes()
        canary.unlink(missing_ok=True)
        return is_lost


def command(words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed: {done.stderr.strip()}")


class Told:
    """What the runs of a round have reported so far."""

    def __init__(self):
        self.parts = {}
        self.counts = Counter()
        self.oldest_lost_ms = 0

    def compare(self, out, run, cut_at):
        """What `run` reported up to the cut against what stands; yields what is not there."""
        self.parts.update({event["part"]: event for event in run.told("part_committed")})
        self.counts["commits"] += len(run.told("part_committed"))
        for number, event in self.parts.items():
            if problem := missing(out, number, event):
                self.counts["parts lost"] += 1
                yield problem
        if run.finished():
            if not (out / "_SUCCESS").exists():
                yield "the run reported its end, and _SUCCESS is gone"
            return
        kept = journaled_calls(out, run)
        for event in run.told("call_finished"):
            self.counts["replies"] += 1
            if event["call"] not in kept:
                self.counts["replies lost"] += 1
                self.counts["rows in lost replies"] += event["rows"]
                self.oldest_lost_ms = max(self.oldest_lost_ms, (cut_at - seconds(event["at"])) * 1000)

    def rows(self):
        return sum(event["rows"] for event in self.parts.values())


def missing(out, number, event):
    """Why the part of a `part_committed` event does not stand as reported; None if it does."""
    import pyarrow.parquet

    path = out / f"part-{number:06}.parquet"
    try:
        table = pyarrow.parquet.read_table(path)
    except FileNotFoundError:
        return f"{path.name} is gone"
    except (OSError, pyarrow.ArrowInvalid) as error:
        return f"{path.name} can't be read: {error}"
    if table.num_rows != event["rows"]:
        return f"{path.name} has {table.num_rows} rows, {event['rows']} were reported"
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    records = []
    for record in (out / "_batchclass/manifest").glob(f"{number:06}*.json"):
        try:
            records.append(json.loads(record.read_text())["record"])
        except (ValueError, KeyError):
            return f"{record.name} is torn"
    if checksum not in (record["sha256"] for record in records):
        return f"{path.name} has no record with its checksum"
    return None


def journaled_calls(out, run):
    """The calls of a run whose replies stand in the journal."""
    name = next((event["run"] for event in run.told("run_started")), None)
    calls = set()
    for segment in (out / "_batchclass/journal").glob("[0-9]*.jsonl"):
        of = None
        for line in segment.read_bytes().split(b"\n"):
            try:
                record = json.loads(line)["record"]
            except (ValueError, KeyError):
                continue  # torn, or of zeros: not a line
            of = record["segment"]["run"] if "segment" in record else of
            if "reply" in record and of == name:
                calls.add(record["reply"]["call"])
    return calls


def one_round(disk, given, source, config, dice, calm_rows):
    """One job through its cuts to its end. Returns what was reported, the server's count, problems."""
    told, problems, out = Told(), [], disk.top / "out"
    pace = ["--tokens-per-minute", given.tokens_per_minute]
    flags = [*pace, "--rows-per-call", 20, "--rows-per-part", given.rows_per_part]
    prefix = LYING_SYNCS if given.lie else ()

    def start(server):
        return Client(given.binary, source, out, config, server.base_url, *flags, prefix=prefix)

    with Server(given.binary, "--tokens-per-minute", 0, "--latency-ms", 150, "--ms-per-output-token", 1) as server:
        for _ in range(given.cuts):
            with start(server) as client:
                time.sleep(dice.uniform(0.02, given.longest_life))
                cut_at = disk.cut()
                run = client.kill()
            told.counts["cuts"] += 1
            told.counts["after the end"] += run.finished() is not None
            if not disk.come_back():
                problems.append("an unsynced file outlived the cut: no power loss")
            problems += told.compare(out, run, cut_at)
        with start(server) as client:
            run = client.wait()
        if run.exit_code:
            problems.append(f"the rerun ended with {run.exit_code}: {' '.join(map(str, run.messages[-3:]))}")
            return told, server.stats(), problems
        for event in run.told("run_started"):
            if event["rows_done"] < told.rows():
                problems.append(f"the rerun took {event['rows_done']} rows for done, {told.rows()} were committed")
        stats = server.stats()

    verify = subprocess.run([given.binary, "verify", out, "--input", source], capture_output=True, text=True)
    if verify.returncode:
        problems.append(f"verify ended with {verify.returncode}:\n{verify.stdout}{verify.stderr}")
        return told, stats, problems
    rows, _ = read_rows(out)
    different = sum(rows.get(id) != outcome for id, outcome in calm_rows.items()) + len(rows.keys() - calm_rows.keys())
    if different:
        problems.append(f"{different} rows differ from an undisturbed run")
    return told, stats, problems


def main():
    parser = arguments(__doc__, rows=6_000)
    parser.add_argument("--file-systems", nargs="+", choices=MAKE, default=list(MAKE))
    parser.add_argument("--rounds", type=int, default=10, help="for each file system; default: %(default)s")
    parser.add_argument("--cuts", type=int, default=2, help="in each round; default: %(default)s")
    parser.add_argument("--longest-life", type=float, default=4, help="seconds before a cut, at most; default: %(default)s")
    parser.add_argument("--rows-per-part", type=int, default=50)
    parser.add_argument("--tokens-per-minute", type=int, default=2_400_000, help="paces the client; default: %(default)s")
    parser.add_argument("--unsynced-ms", type=int, default=1_000, help="oldest reply that a cut may take, ms; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lie", action="store_true", help="let syncs do nothing: the claims have to break")
    given = parsed(parser)
    need_tools([MAKE[kind][0] for kind in given.file_systems] + ["strace"] * given.lie)
    have_own_mounts()
    # So that an end from outside removes the images, too.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    source, config = make_addresses(given.folder, given.rows)

    with Server(given.binary, "--latency-ms", 0, "--ms-per-output-token", 0) as server:
        calm_out = given.folder / f"calm-{server.port}"
        expect_exit(Client(given.binary, source, calm_out, config, server.base_url, "--tokens-per-minute", 0).wait(), 0)
    calm_rows, _ = read_rows(calm_out)

    checks, lines, notes = Checks(), [], []
    for kind in given.file_systems:
        dice = random.Random(f"{kind} {given.seed}")
        totals, oldest, found = Counter(), 0, []
        for number in range(1, given.rounds + 1):
            with Disk(kind, given.folder) as disk:
                told, stats, problems = one_round(disk, given, source, config, dice, calm_rows)
            totals += told.counts
            oldest = max(oldest, told.oldest_lost_ms)
            again, opened, unconfirmed, unexplained = (stats[f"rows_{it}"] for it in ("answered_again", "open_at_disconnect", "unconfirmed_at_disconnect", "asked_again_unexplained"))
            lost = told.counts["rows in lost replies"]
            if unexplained > lost:
                problems.append(f"{unexplained} rows were paid twice, though only {lost} were in replies that the cut took")
            totals.update({"paid twice": again, "open": opened, "unconfirmed": unconfirmed, "unexplained": unexplained, "429": stats["rejected_429"]})
            found += [f"{kind} round {number}: {problem}" for problem in problems]
            say(f"{kind} round {number}: {dict(told.counts)}, paid twice {again}, {len(problems)} problems")
        lines.append([kind, given.rounds] + [totals[it] for it in ("cuts", "after the end", "commits", "parts lost", "replies", "replies lost")] + [f"{oldest:.0f}"] + [totals[it] for it in ("paid twice", "open", "unconfirmed", "rows in lost replies", "unexplained")])
        notes += found[:10] + [f"{kind}: and {len(found) - 10} more"] * (len(found) > 10)
        checks.claim(f"{kind}: commits were reported before the cuts", totals["commits"] > 0, totals["commits"])
        checks.claim(f"{kind}: what was reported stands, the rerun ends, every row stands once with its label, none is paid twice without reason", not found, f"{len(found)} problems")
        checks.claim(f"{kind}: no reply older than {given.unsynced_ms} ms was lost", oldest <= given.unsynced_ms, f"the oldest was {oldest:.0f} ms old")
    print()
    table(["file system", "rounds", "cuts", "after the end", "commits", "parts lost", "replies", "replies lost", "oldest lost, ms", "rows paid twice", "rows open at a cut", "rows unconfirmed", "rows in lost replies", "rows paid twice for a lost reply"], lines)
    for note in notes:
        print(note)
    checks.exit()


def have_own_mounts():
    """Moves this process to a mount namespace of its own.

    Nothing stays mounted after it, however it ends. And no process that copies this machine's mounts
    in the course of a round can hold on to a file system that has to go and come back.
    """
    kernel = ctypes.CDLL(None, use_errno=True)
    if kernel.unshare(CLONE_NEWNS):
        raise SystemExit(f"there is no mount namespace to be had: {os.strerror(ctypes.get_errno())}")
    command(["mount", "--make-rprivate", "/"])


def need_tools(names):
    if os.geteuid():
        sys.exit("mounting needs root: run it with sudo")
    lacking = [name for name in names if not shutil.which(name)]
    if lacking:
        sys.exit(f"missing: {', '.join(lacking)}; apt install e2fsprogs xfsprogs strace")
    if not Path("/dev/loop-control").exists():
        sys.exit("this kernel or container has no loop devices (/dev/loop-control)")


if __name__ == "__main__":
    main()

"""What the scripts beside it share: the rows, the simulated server, a measured run of the program."""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The server can't tell a row that is asked a second time on purpose from one that is paid twice.
os.environ.setdefault("BATCHCLASS_PROBE", "0")


def arguments(description, **defaults):
    """A parser with the options that every script takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/batchclass", help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where inputs and outputs go; default: a new temporary folder")
    parser.add_argument("--rows", type=int, default=defaults["rows"], help="default: %(default)s")
    return parser


def parsed(parser):
    given = parser.parse_args()
    if not given.binary.is_file():
        sys.exit(f"{given.binary} is missing; `cargo build --release` makes it, or name another with --binary")
    given.folder = given.folder or Path(tempfile.mkdtemp(prefix="batchclass-bench-"))
    given.folder.mkdir(parents=True, exist_ok=True)
    say(f"files are in {given.folder}")
    return given


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def make_addresses(folder, rows):
    """Address-like rows in id order and their job; made once for a folder. Returns both paths."""
    target = folder / f"addresses-{rows}"
    done = target / "done"
    if not done.exists():
        script = ROOT / "fixtures/addresses/make.py"
        subprocess.run([sys.executable, script, target, str(rows), "--csv"], check=True)
        done.touch()
    return target / "addresses.csv", target / "batchclass.toml"


class Server:
    """`batchclass simulate` on a free port, from `with` to its end."""

    def __init__(self, binary, *flags):
        self.port = free_port()
        self.command = [str(binary), "simulate", "--port", str(self.port), *map(str, flags)]

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=self.log)
        try:
            self.wait_until_it_answers()
        except BaseException:
            self.process.kill()
            raise
        return self

    def wait_until_it_answers(self):
        for _ in range(200):
            if self.process.poll() is not None:
                self.log.seek(0)
                said = self.log.read().decode(errors="replace")
                raise SystemExit(f"{' '.join(self.command)} ended with {self.process.returncode}: {said}")
            try:
                return self.stats()
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        raise SystemExit(f"{' '.join(self.command)} does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30) as reply:
            return json.load(reply)

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Run:
    """How a run of the program went."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_mb: float
    events: list = field(repr=False)
    messages: list = field(repr=False)

    def told(self, name):
        """The events of that name, in order."""
        return [event for event in self.events if event.get("event") == name]

    def finished(self):
        """The last event, which holds the run's totals."""
        return next(iter(self.told("run_finished")[-1:]), None)


class Client:
    """A run of the program that has been started."""

    def __init__(self, binary, source, out, config, base_url, *flags, prefix=(), environment=None):
        self.command = [*map(str, prefix), str(binary), str(source), str(out), "--config", str(config)]
        self.command += [*(["--base-url", base_url] if base_url else []), "--progress", "json", *map(str, flags)]
        # Events go to a file, so that a full pipe never holds the program up.
        self.log = tempfile.TemporaryFile()
        self.began = time.monotonic()
        environment = {**os.environ, **(environment or {})}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        self.process = subprocess.Popen(self.command, **quiet, stderr=self.log, env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.returncode is None:
            self.kill()

    def kill(self):
        """As a power cut would: SIGKILL."""
        os.kill(self.process.pid, signal.SIGKILL)
        return self.wait()

    def is_running(self):
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self):
        _, status, used = os.wait4(self.process.pid, 0)
        seconds = time.monotonic() - self.began
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.log.seek(0)
        events, messages = [], []
        for line in self.log.read().decode(errors="replace").splitlines():
            try:
                event = json.loads(line)
                (events if isinstance(event, dict) else messages).append(event)
            except ValueError:
                messages.append(line)
        self.log.close()
        cpu = used.ru_utime + used.ru_stime
        return Run(self.process.returncode, seconds, cpu, used.ru_maxrss / 1024, events, messages)


def expect_exit(run, *codes):
    if run.exit_code not in codes:
        for message in run.messages[-10:]:
            say(message)
        raise SystemExit(f"the run ended with {run.exit_code}, not with one of {codes}")
    return run


def seconds(at):
    """The time of an event, in seconds since 1970."""
    return datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp()


def read_rows(out, files=None):
    """`{id: (label, reason)}` of an output, and the names of its parts. Needs pyarrow.

    `files` is the pyarrow file system of an output that is not in a folder.
    """
    try:
        import pyarrow.fs
        import pyarrow.parquet
    except ImportError:
        sys.exit("comparing outputs needs pyarrow: pip install pyarrow")
    files, top = files or pyarrow.fs.LocalFileSystem(), str(out).partition("://")[2] or str(out)
    found = files.get_file_info(pyarrow.fs.FileSelector(top.rstrip("/")))
    rows, parts = {}, sorted(info.base_name for info in found if info.is_file and info.base_name.endswith(".parquet"))
    for part in parts:
        table = pyarrow.parquet.read_table(f"{top.rstrip('/')}/{part}", filesystem=files, columns=["id", "label", "label_reason"])
        for id, label, reason in zip(*(column.to_pylist() for column in table.columns)):
            if id in rows:
                raise SystemExit(f"id {id} stands twice, the second time in {part}")
            rows[id] = (label, reason)
    return rows, parts


def table(header, lines):
    """A Markdown table on stdout."""
    cells = [[str(cell) for cell in line] for line in [header, *lines]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    cells.insert(1, ["-" * width for width in widths])
    for line in cells:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |")


class Checks:
    """Claims, each with what was seen; `exit` fails if one does not hold."""

    def __init__(self):
        self.failed = False

    def claim(self, words, holds, seen):
        self.failed |= not holds
        print(f"{'holds ' if holds else 'BROKEN'}  {words}: {seen}", flush=True)

    def exit(self):
        sys.exit(int(self.failed))

#!/usr/bin/env python3
"""How much of every kind of limit a run uses, and how often it is told to slow down.

Each run has a server of its own that enforces 200,000 tokens a minute in one way, for three minutes
after the first. The table says what share of the limit was charged in them, by the server's count,
and of what whole calls allow; `--bars` ends with 1 if a bar is missed. With the defaults 72 runs, 24
at once (they mostly wait), about 17 minutes.

    limits.py --worlds rolling second --latency-ms 3000
"""

import argparse
import collections
import json
import signal
import sys
import threading
import time
from dataclasses import dataclass, field

from bench import Client, Server, arguments, make_addresses, parsed, say, seconds, table

LIMIT = 200_000
FIRST, LAST = 60, 240
"""What is measured, seconds after the first request."""
CHANGE = 90
"""When the limit of the world `lower` falls to half, seconds after the first request."""


@dataclass
class World:
    """What the server enforces, what the client is told of it, and what is demanded."""

    server: list
    client: list = field(default_factory=list)
    least: float = 0.98
    """Of what whole calls allow."""
    most_429: float = 0
    """As a share of the calls."""
    theirs: float = 0
    """What somebody else takes of the limit, as a share."""
    slice: int = 60
    """Seconds within which whole calls have to fit."""
    without_holds: bool = False
    """Whether the time in which an injected 429 says to wait is left out."""


WORLDS = {
    "rolling": World([]),
    "bucket": World(["--minute-window", "bucket"], ["--minute-window", "bucket"]),
    "fixed": World(["--minute-window", "fixed"], ["--minute-window", "fixed"]),
    "slices": World(["--slice-s", 10], ["--slice-s", 10], least=0.97, slice=10),
    "second": World(["--second-client", 0.5], least=0.90, most_429=0.01, theirs=0.5),
    "faults": World(["--status-429", 0.05, "--status-500", 0.05], without_holds=True),
    "counts-more": World(["--count-bias", 0.03]),
    "lower": World(["--limits-change", f"{CHANGE}=0.5"], least=0.95, most_429=1, theirs=0.5),
}


def main():
    parser = arguments(__doc__, rows=40_000)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    parser.add_argument("--rows-per-call", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--latency-ms", type=int, nargs="+", default=[300, 3_000, 30_000])
    parser.add_argument("--at-once", type=int, default=24, help="runs at the same time; default: %(default)s")
    parser.add_argument("--bars", action=argparse.BooleanOptionalAction, default=True)
    given = parsed(parser)
    source, config = make_addresses(given.folder, given.rows)
    plans = [
        (name, latency, rows)
        for name in given.worlds
        for latency in given.latency_ms
        for rows in given.rows_per_call
    ]
    lines, broken = [], []
    for first in range(0, len(plans), given.at_once):
        threads = [Measured(given, source, config, *plan) for plan in plans[first : first + given.at_once]]
        for thread in threads:
            thread.start()
            time.sleep(0.4)
        for thread in threads:
            thread.join()
            if thread.failure:
                raise SystemExit(f"{thread.name}: {thread.failure}")
            lines.append(thread.line)
            broken += [thread.name] if thread.is_broken else []
        say(f"{len(lines)} of {len(plans)} runs")
    head = ["server", "latency", "rows a call", "share of the limit", "of what whole calls allow", "answered 429", "calls", "rows/min", "bar"]
    table(head, lines)
    if given.bars and broken:
        sys.exit(f"missed: {', '.join(broken)}")


class Measured(threading.Thread):
    """One run, from its server's start to its line of the table."""

    def __init__(self, given, source, config, name, latency, rows):
        super().__init__(name=f"{name} {latency} ms {rows} rows")
        self.given, self.source, self.config = given, source, config
        self.key = (name, latency, rows)
        self.failure, self.line, self.is_broken = None, None, True

    def run(self):
        try:
            self.measure()
        except BaseException as failure:  # told by the main thread
            self.failure = failure

    def measure(self):
        name, latency, rows = self.key
        world, given = WORLDS[name], self.given
        with Server(given.binary, "--tokens-per-minute", LIMIT, "--latency-ms", latency, *world.server) as server:
            # What somebody else takes has to stand in the minute before we come.
            time.sleep(62 if name == "second" else 0)
            out = given.folder / f"limits-{name}-{latency}-{rows}-{server.port}"
            flags = ["--rows-per-call", rows, "--tokens-per-minute", LIMIT, *world.client]
            with Client(given.binary, self.source, out, self.config, server.base_url, *flags) as client:
                samples = watch(server, client, LAST + 3)
                stats = server.stats()
                client.process.send_signal(signal.SIGINT)
                run = client.wait()
        out.with_suffix(".jsonl").write_text("".join(json.dumps(event) + "\n" for event in run.events))
        if run.exit_code != 130:
            raise SystemExit(f"the run ended with {run.exit_code}: {run.messages[-3:]}")
        self.judge(world, stats, samples, run)

    def judge(self, world, stats, samples, run):
        name, latency, rows = self.key
        first = stats["first_request_ms"] / 1000
        begin = CHANGE + 60 if name == "lower" else FIRST
        held = holds(run, first, begin, LAST) if world.without_holds else 0
        charged = at(samples, first + LAST) - at(samples, first + begin)
        allowed = LIMIT / 60 * (LAST - begin - held)
        share = charged / allowed
        calls = stats["requests"] - stats["rejected_429"] - stats["injected_429"]
        call = stats["charged_tokens"] / max(calls, 1)
        whole = whole_calls(call, world.slice)
        of_whole = share / (1 - world.theirs) / whole
        rate_429 = stats["rejected_429"] / stats["requests"]
        self.is_broken = of_whole < world.least or rate_429 > world.most_429
        settled = collections.Counter()
        for event in run.told("rows_settled"):
            if begin <= seconds(event["at"]) - first <= LAST:
                settled["rows"] += event["labelled"]
        self.line = [
            name,
            f"{latency / 1000:g} s",
            rows,
            f"{share:.1%}",
            f"{of_whole:.1%}",
            stats["rejected_429"],
            stats["requests"],
            f"{settled['rows'] / (LAST - begin) * 60:,.0f}",
            "MISSED" if self.is_broken else "met",
        ]


def watch(server, client, until):
    """`(time, tokens charged)` every half second until so long after the first request."""
    samples, first = [], None
    while first is None or time.time() < first + until:
        if not client.is_running():
            raise SystemExit(f"the run ended early: {client.wait().messages[-3:]}")
        stats = server.stats()
        if stats["first_request_ms"]:
            first = stats["first_request_ms"] / 1000
        samples.append((time.time(), stats["charged_tokens"]))
        time.sleep(0.5)
    return samples


def at(samples, moment):
    """Tokens charged until `moment`, between two samples in proportion."""
    for (before, low), (after, high) in zip(samples, samples[1:]):
        if before <= moment <= after:
            return low + (high - low) * (moment - before) / (after - before)
    raise SystemExit("the moment lies outside of the samples")


def whole_calls(call, span):
    """The share of what a span allows that fits into it in calls of that size."""
    allowed = LIMIT * span / 60
    return allowed // call * call / allowed


def holds(run, first, begin, end):
    """Seconds between `begin` and `end` in which a 429 said to wait."""
    spans = [(seconds(event["at"]) - first, event["seconds"]) for event in run.told("held")]
    total, covered = 0, begin
    for since, length in sorted(spans):
        since, until = max(since, covered), min(since + length, end)
        if until > since:
            total += until - since
            covered = until
    return total


if __name__ == "__main__":
    main()

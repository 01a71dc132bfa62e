#!/usr/bin/env python3
"""Two processes started together on one new output: one classifies, and nothing is paid for twice.

In each round the second is started up to --apart-ms after the first. One of them has to end with 0;
the other with 4 and a message that says who writes, or with 0 because it came when all was done.
Needs pyarrow.
"""

import random
import re
import time
from collections import Counter

from bench import Checks, Client, Server, arguments, make_addresses, parsed, read_rows, say, table

HELD = re.compile(r"another run .*process (\d+)")


def main():
    parser = arguments(__doc__, rows=600)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--apart-ms", type=float, default=10, help="between the two starts, at most; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    given = parsed(parser)
    source, config = make_addresses(given.folder, given.rows)
    dice = random.Random(given.seed)
    seen, problems = Counter(), []

    with Server(given.binary, "--tokens-per-minute", 0, "--latency-ms", 100, "--ms-per-output-token", 0) as server:
        rows_asked = 0
        for number in range(1, given.rounds + 1):
            out = given.folder / f"pair-{server.port}-{number}"
            # Each round's rows are those of the round before: how often they were asked is counted by difference.
            clients = []
            for wait in (0, dice.uniform(0, given.apart_ms / 1000)):
                time.sleep(wait)
                clients.append(Client(given.binary, source, out, config, server.base_url, "--tokens-per-minute", 0, "--rows-per-part", 100))
            runs = [client.wait() for client in clients]
            asked, rows_asked = server.stats()["rows_asked"] - rows_asked, server.stats()["rows_asked"]
            outcome, found = judge(clients, runs)
            seen[outcome] += 1
            if asked != given.rows:
                found.append(f"{asked} rows were asked, not {given.rows}")
            if outcome != "nobody":
                rows, _ = read_rows(out)
                if len(rows) != given.rows or any(label is None for label, _ in rows.values()):
                    found.append(f"{len(rows)} of {given.rows} rows, {sum(label is None for label, _ in rows.values())} without a label")
            problems += [f"round {number}: {problem}" for problem in found]
        stats = server.stats()
    table(["rounds", "first classified", "second classified", "both ended with 0", "nobody classified", "rows asked a round"], [[given.rounds, seen["first"], seen["second"], seen["both"], seen["nobody"], f"{stats['rows_asked'] / given.rounds:g}"]])
    for problem in problems[:20]:
        print(problem)
    checks = Checks()
    checks.claim("the two met", seen["first"] + seen["second"] + seen["nobody"] > 0, f"in {given.rounds - seen['both']} of {given.rounds} rounds")
    checks.claim("one of the two classifies every row, once; the other says who does", not problems, f"{len(problems)} problems")
    checks.claim("no row was paid for twice", stats["rows_asked"] <= given.rounds * given.rows, f"{stats['rows_asked']:,} rows asked for {given.rounds * given.rows:,}")
    checks.exit()


def judge(clients, runs):
    """Which of the two classified, and what is wrong with how they ended."""
    codes = [run.exit_code for run in runs]
    # The later one may get the claim when the other has just finished: then it asks nothing.
    asked = [bool(run.told("call_started")) for run in runs]
    outcome = {(0, 4): "first", (4, 0): "second", (0, 0): "both"}.get(tuple(codes), "nobody")
    found = []
    if outcome == "nobody":
        found.append(f"the exit codes are {codes}: {' | '.join(' '.join(map(str, run.messages)) for run in runs)}")
    if all(asked):
        found.append("both asked")
    for run, other in zip(runs, reversed(clients)):
        if run.exit_code == 4 and outcome != "nobody":
            text = " ".join(map(str, run.messages))
            holder = HELD.search(text)
            if not holder or int(holder.group(1)) != other.process.pid:
                found.append(f"the loser does not name process {other.process.pid}: {text}")
    return outcome, found


if __name__ == "__main__":
    main()

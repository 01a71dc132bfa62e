#!/usr/bin/env python3
"""How much of a tokens-per-minute limit a run uses, and what it costs a row.

Runs the same rows at several rows a call, each against a server of its own that enforces an exact
rolling minute, all at once (they mostly wait). With the defaults about 20 minutes.
"""

import contextlib

from bench import Client, Server, arguments, expect_exit, make_addresses, parsed, say, table


def main():
    parser = arguments(__doc__, rows=60_000)
    parser.add_argument("--rows-per-call", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--tokens-per-minute", type=int, default=200_000)
    parser.add_argument("--latency-ms", type=int, default=400)
    parser.add_argument("--ms-per-output-token", type=float, default=6)
    given = parsed(parser)
    source, config = make_addresses(given.folder, given.rows)
    limit = ["--tokens-per-minute", given.tokens_per_minute]
    delays = ["--latency-ms", given.latency_ms, "--ms-per-output-token", given.ms_per_output_token]

    with contextlib.ExitStack() as stack:
        runs = []
        for rows_per_call in given.rows_per_call:
            server = stack.enter_context(Server(given.binary, *limit, *delays))
            out = given.folder / f"pacing-{rows_per_call}-{server.port}"
            flags = ["--rows-per-call", rows_per_call, *limit]
            runs.append((rows_per_call, server, Client(given.binary, source, out, config, server.base_url, *flags)))
        lines = []
        for rows_per_call, server, client in runs:
            run = expect_exit(client.wait(), 0)
            lines.append(line(rows_per_call, run, server.stats()))
            say(f"{rows_per_call} rows a call: done in {run.seconds:.0f} s")
    head = ["rows a call", "rows/min", "tokens/row", "requests", "answered 429", "fullest minute", "share after the first minute"]
    table(head, lines)


def line(rows_per_call, run, stats):
    totals = run.finished()
    tokens = stats["prompt_tokens"] + stats["completion_tokens"]
    return [
        rows_per_call,
        f"{totals['rows'] / totals['seconds'] * 60:,.0f}",
        f"{tokens / stats['rows_distinct']:.1f}",
        f"{stats['requests']:,}",
        stats["rejected_429"],
        f"{stats['fullest_minute_tokens']:,}",
        f"{stats['share_after_first_minute']:.1%}",
    ]


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What kill -9 costs: ten kills at random moments in one job under a limit, then a clean finish.

The output has to be that of a run that nobody disturbed, the limit has to hold across the restarts,
and no row may be asked twice unless its request was open when the program died. Needs pyarrow.

    kill.py --kills 50 --longest-life 5 --latency-ms 150 --tokens-per-minute 600000 --rows 40000    ~5 min
    kill.py --output s3://bench-bucket/out                against moto, which it starts
    kill.py --output s3://mine/x --endpoint-url URL       against another server, keys from AWS_*
    kill.py --output /mnt/bucket/out                      another disk, or a mount

An output in S3 needs moto, too: pip install 'moto[server,s3]'. Words after `--` go to the program.
"""

import contextlib
import os
import random
import time

from bench import Checks, Client, Server, arguments, expect_exit, make_addresses, parsed, read_rows, say


def main():
    parser = arguments(__doc__, rows=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens-per-minute", type=int, default=400_000)
    parser.add_argument("--latency-ms", type=int, default=400, help="to the first token; a 70th of it for each; default: %(default)s")
    parser.add_argument("--longest-life", type=float, default=8, help="seconds before a kill, at most; default: %(default)s")
    parser.add_argument("--rows-per-part", type=int, default=500)
    parser.add_argument("--output", help="a new folder, or s3://BUCKET/PREFIX; default: within --folder")
    parser.add_argument("--endpoint-url", help="of the S3 server; default: moto is started")
    parser.add_argument("flags", nargs="*", help="further flags of the program, after `--`")
    given = parsed(parser)
    with contextlib.ExitStack() as stack:
        measure(given, *output(given, stack))


def output(given, stack):
    """Where the killed job writes, the flags and environment that it needs for it, and how it is read."""
    if not (given.output or "").startswith("s3://"):
        return given.output, [], {}, None
    from s3_server import ENVIRONMENT, S3Server, file_system

    if given.endpoint_url:
        return given.output, ["--endpoint-url", given.endpoint_url], {}, file_system(given.endpoint_url, os.environ)
    server = stack.enter_context(S3Server(given.output.split("/")[2]))
    return given.output, ["--endpoint-url", server.url], ENVIRONMENT, file_system(server.url, ENVIRONMENT)


def measure(given, out, place, environment, files):
    source, config = make_addresses(given.folder, given.rows)
    limit = ["--tokens-per-minute", given.tokens_per_minute]
    packing = ["--rows-per-part", given.rows_per_part]

    with Server(given.binary, "--latency-ms", 0, "--ms-per-output-token", 0) as server:
        calm_out = given.folder / f"calm-{server.port}"
        calm = Client(given.binary, source, calm_out, config, server.base_url, *packing, "--tokens-per-minute", 0).wait()
        expect_exit(calm, 0)
        say(f"undisturbed, without a limit: {calm.seconds:.1f} s")

    dice = random.Random(given.seed)
    with Server(given.binary, *limit, "--latency-ms", given.latency_ms, "--ms-per-output-token", given.latency_ms / 70) as server:
        out = out or given.folder / f"killed-{server.port}"

        def start():
            return Client(given.binary, source, out, config, server.base_url, *limit, *packing, *place, *given.flags, environment=environment)

        kills = 0
        for _ in range(given.kills):
            client = start()
            life = dice.uniform(0.05, given.longest_life)
            time.sleep(life)
            if not client.is_running():
                expect_exit(client.wait(), 0)
                say("the job was done before its next kill; more rows or a lower limit would give it time")
                break
            client.kill()
            kills += 1
            stats = server.stats()
            say(f"kill {kills} after {life:.1f} s: {stats['rows_distinct']} rows asked so far")
        expect_exit(start().wait(), 0)
        stats = server.stats()

    checks = Checks()
    calm_rows, calm_parts = read_rows(calm_out)
    rows, parts = read_rows(out, files)
    different = sum(rows.get(id) != outcome for id, outcome in calm_rows.items())
    checks.claim("the job was killed", kills > 0, f"{kills} times")
    checks.claim("the parts are those of an undisturbed run", parts == calm_parts, f"{len(parts)} and {len(calm_parts)} parts")
    checks.claim("so are the rows", not different and len(rows) == len(calm_rows), f"{different} of {len(rows)} differ")
    checks.claim("every row stands once", len(rows) == given.rows, f"{len(rows)} of {given.rows}")
    unexplained = stats["rows_asked_again_unexplained"]
    checks.claim("only rows of requests in flight at a kill were asked twice", unexplained == 0, f"{unexplained} other rows")
    checks.claim("the limit held across restarts", stats["rejected_429"] == 0, f"{stats['rejected_429']} answered 429")
    again, opened, unconfirmed = (stats[f"rows_{name}"] for name in ("asked_again", "open_at_disconnect", "unconfirmed_at_disconnect"))
    print(f"asked again: {again} rows; at the kills {opened} were in open requests, {unconfirmed} in replies not yet read")
    checks.exit()


if __name__ == "__main__":
    main()

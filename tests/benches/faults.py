#!/usr/bin/env python3
"""What every fault of the simulated server at once does to a job: never a wrong label.

The same rows are run against a sound server and against one that injects each of its faults into a
share of the calls. Needs pyarrow.
"""

import collections

from bench import Checks, Client, Server, arguments, expect_exit, make_addresses, parsed, read_rows, say

DONE, ROWS_WITHOUT_LABEL, STOPPED, OUT_OF_QUOTA = 0, 3, 4, 5


def main():
    parser = arguments(__doc__, rows=20_000)
    parser.add_argument("--faults", type=float, default=0.05, help="share of the calls for each fault; default: %(default)s")
    parser.add_argument("--runs", type=int, default=5, help="most runs until the job is done; default: %(default)s")
    given = parsed(parser)
    source, config = make_addresses(given.folder, given.rows)

    with Server(given.binary) as server:
        clean_out = given.folder / f"clean-{server.port}"
        clean = Client(given.binary, source, clean_out, config, server.base_url, "--tokens-per-minute", 0)
        expect_exit(clean.wait(), DONE)

    with Server(given.binary, "--faults", given.faults) as server:
        out = given.folder / f"faulty-{server.port}"
        for number in range(1, given.runs + 1):
            run = Client(given.binary, source, out, config, server.base_url, "--tokens-per-minute", 0, "--reply-timeout-s", 5).wait()
            expect_exit(run, DONE, ROWS_WITHOUT_LABEL, STOPPED, OUT_OF_QUOTA)
            failures = collections.Counter(event["kind"] for event in run.events if event.get("event") == "call_failed")
            say(f"run {number}: exit code {run.exit_code}, {run.seconds:.1f} s, failed calls {dict(failures)}")
            if run.exit_code in (DONE, ROWS_WITHOUT_LABEL):
                break
        stats = server.stats()

    checks = Checks()
    clean_rows, clean_parts = read_rows(clean_out)
    rows, parts = read_rows(out)
    wrong = sum(label is not None and label != clean_rows[id][0] for id, (label, _) in rows.items())
    lost = len(clean_rows.keys() - rows.keys())
    unlabelled = collections.Counter(reason for label, reason in rows.values() if label is None)
    checks.claim("the job ends", run.exit_code in (DONE, ROWS_WITHOUT_LABEL), f"exit code {run.exit_code} in run {number}")
    checks.claim("faults were injected", stats["requests"] > stats["answered"] or bool(unlabelled), f"{stats['answered']} of {stats['requests']} requests answered")
    checks.claim("no label is wrong", wrong == 0, f"{wrong} of {len(rows)} differ from the sound run")
    checks.claim("no row is lost, and none stands twice", lost == 0, f"{lost} of {len(clean_rows)} missing")
    checks.claim("the parts have the same names", parts == clean_parts, f"{len(parts)} and {len(clean_parts)} parts")
    checks.claim("a row without a label has a reason", None not in unlabelled, dict(unlabelled))
    both = sum(label is not None and reason is not None for label, reason in rows.values())
    checks.claim("a row with a label has none", both == 0, f"{both} have both")
    print(f"asked again: {stats['rows_asked_again']} rows; labelled {len(rows) - sum(unlabelled.values())} of {len(rows)}")
    checks.exit()


if __name__ == "__main__":
    main()

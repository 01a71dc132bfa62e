#!/usr/bin/env python3
"""A job on an S3 mount: s3fs over moto on this machine, killed again and again, then read from the bucket.

    python3 tests/scripts/s3_mount.py [--kills 12] [--torn 2] [--create-only]

The output folder is on the mount. The program is killed with SIGKILL at random moments, every other
time as soon as a part or a record is being created, which is when a mount publishes half a file. With
--torn, such halves are also left on purpose: a writer that is killed in mid-file, under the name that
the next part or its record would get. The same command goes on until all is done. A torn part
that the program names is then removed from the bucket, as its message asks for.

What has to hold: the mount is known for one (layout `append`), each row stands once with the label of
an undisturbed run, `batchclass verify` finds nothing, rows are paid twice only for requests that were
open at a kill, and the server's log has no copy (a rename), no second PUT of an object, and no DELETE
but of torn parts and of claims. With --create-only the server refuses the mount all of these, as
Mountpoint for S3 does, and everything else has to hold all the same.

Needs FUSE, `apt install s3fs fuse3` and `pip install pyarrow 'moto[server,s3]'`.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benches"))
from bench import Checks, Client, Server, arguments, expect_exit, make_addresses, parsed, read_rows, say, table
from s3_server import ENVIRONMENT, S3Server, file_system

BUCKET = "bench-bucket"
CLAIM = re.compile(r"out/_batchclass/(claim|release|heartbeat)-[^/]+")
PART = re.compile(r"out/part-\d{6}(-r\d\d+)?\.parquet")
# A look-up of a name that does not exist: what a mount asks just before it creates the file.
LOOKED_FOR = re.compile(rf'"/{BUCKET}/out/(part-|_batchclass/manifest/)[^"/]+", .*"status": 404')
WRITER = "import os, signal, sys; os.write(os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY), sys.stdin.buffer.read()); os.kill(os.getpid(), signal.SIGKILL)"


class Mount:
    """The bucket as a folder, from `with` to its end."""

    def __init__(self, folder, server):
        self.top, self.server, self.password = folder / "mount", server, folder / "passwd-s3fs"

    def __enter__(self):
        self.top.mkdir(exist_ok=True)
        self.password.touch(0o600)
        self.password.write_text("test:test")
        options = f"passwd_file={self.password},use_path_request_style,url={self.server.url}"
        subprocess.run(["s3fs", BUCKET, self.top, "-o", options], check=True)
        for _ in range(100):
            if os.path.ismount(self.top):
                return self
            time.sleep(0.1)
        raise SystemExit("s3fs did not mount the bucket; `s3fs -f -d` says why")

    def __exit__(self, *_):
        unmount = shutil.which("fusermount3") or "fusermount"
        if os.path.ismount(self.top) and subprocess.run([unmount, "-u", self.top]).returncode:
            subprocess.run([unmount, "-u", "-z", self.top])


def wait_for_creation(s3, client, longest):
    """Returns as soon as a new part or record is looked for on the server, or after `longest` seconds."""
    until, tail = time.monotonic() + longest, ""
    with s3.log.open() as log:
        log.seek(0, os.SEEK_END)
        while time.monotonic() < until and client.is_running():
            tail = tail[-2_000:] + log.read()
            if LOOKED_FOR.search(tail):
                return
            time.sleep(0.001)


def leave_torn(out, kind):
    """Leaves half a file under the name that the next part, or its record, would get."""
    parts = sorted(out.glob("part-*.parquet"))
    number = 1 + max((int(path.name[5:11]) for path in parts), default=0)
    if kind == "part":
        pattern, target = parts, out / f"part-{number:06}.parquet"
    else:
        pattern, target = sorted((out / "_batchclass/manifest").glob("*.json")), out / f"_batchclass/manifest/{number:06}.json"
    if not pattern or target.exists():
        return None
    whole = pattern[-1].read_bytes()
    subprocess.run([sys.executable, "-c", WRITER, target], input=whole[: len(whole) // 2])
    return target.relative_to(out.parent).as_posix()


def torn_parts(files):
    """Keys of the parts in the bucket that are no whole Parquet file."""
    import pyarrow
    import pyarrow.parquet

    torn = []
    for key in keys(files):
        if key.endswith(".parquet"):
            try:
                pyarrow.parquet.ParquetFile(files.open_input_file(f"{BUCKET}/{key}"))
            except pyarrow.ArrowInvalid:
                torn.append(key)
    return torn


def keys(files):
    import pyarrow.fs

    selector = pyarrow.fs.FileSelector(f"{BUCKET}/out", allow_not_found=True, recursive=True)
    found = files.get_file_info(selector)
    return sorted(info.path.partition("/")[2] for info in found if info.is_file)


def rows_in_bucket(files):
    """`{id: (label, reason)}` as any reader of the bucket sees it, and how many ids stand twice."""
    import pyarrow.parquet

    rows, twice = {}, 0
    for key in keys(files):
        if key.endswith(".parquet"):
            part = pyarrow.parquet.read_table(f"{BUCKET}/{key}", filesystem=files, columns=["id", "label", "label_reason"])
            for id, label, reason in zip(*(column.to_pylist() for column in part.columns)):
                twice += id in rows
                rows[id] = (label, reason)
    return rows, twice


def said(run):
    """What a run told of its end: its messages, warnings, and last events."""
    return " ".join(map(str, run.messages + run.told("warning") + run.events[-3:]))


def changes(requests, torn):
    """What was done through the mount that nothing may do on a create-once storage; `torn` are parts."""
    found, standing = Counter(), set()
    for request in requests:
        key, method, is_done = request["key"], request["method"], request["status"] < 300
        if not request.get("agent", "").startswith("s3fs") or not is_done:
            continue
        if method == "DELETE" and "uploadId" not in request["query"]:
            # Tidying, which a mount may refuse.
            if key not in torn and not CLAIM.fullmatch(key):
                found[f"DELETE {key}"] += 1
            standing.discard(key)
        if "copy_source" in request:
            found[f"COPY {request['copy_source']} to {key}"] += 1
        # A multipart upload appears when it is completed by a POST.
        appears = method == "PUT" and "partNumber" not in request["query"] or method == "POST" and "uploadId" in request["query"]
        if appears:
            if key in standing and "copy_source" not in request:
                found[f"second PUT of {key}"] += 1
            standing.add(key)
    return found


def main():
    parser = arguments(__doc__, rows=6_000)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--torn", type=int, default=2, help="halves left on purpose; default: %(default)s")
    parser.add_argument("--longest-life", type=float, default=4, help="seconds before a kill, at most; default: %(default)s")
    parser.add_argument("--rows-per-part", type=int, default=100)
    parser.add_argument("--tokens-per-minute", type=int, default=900_000, help="paces the client; default: %(default)s")
    parser.add_argument("--create-only", action="store_true", help="let the server refuse the mount to remove, copy and overwrite")
    parser.add_argument("--seed", type=int, default=1)
    given = parsed(parser)
    if not shutil.which("s3fs"):
        sys.exit("s3fs is missing: apt install s3fs fuse3")
    if not Path("/dev/fuse").exists():
        sys.exit("this kernel or container has no FUSE (/dev/fuse)")
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    source, config = make_addresses(given.folder, given.rows)

    with Server(given.binary, "--latency-ms", 0, "--ms-per-output-token", 0) as server:
        calm_out = given.folder / f"calm-{server.port}"
        expect_exit(Client(given.binary, source, calm_out, config, server.base_url, "--tokens-per-minute", 0).wait(), 0)
    calm_rows, _ = read_rows(calm_out)

    checks, dice, left, named = Checks(), random.Random(given.seed), [], []
    flags = ["--tokens-per-minute", given.tokens_per_minute, "--rows-per-call", 20, "--rows-per-part", given.rows_per_part]
    pace = ["--tokens-per-minute", 0, "--latency-ms", 200, "--ms-per-output-token", 1]
    with S3Server(BUCKET, create_only="s3fs" if given.create_only else None) as s3, Mount(given.folder, s3) as mount, Server(given.binary, *pace) as server:
        out, files = mount.top / "out", file_system(s3.url, ENVIRONMENT)
        environment = {"XDG_STATE_HOME": str(given.folder / "state")}

        def start():
            return Client(given.binary, source, out, config, server.base_url, *flags, environment=environment)

        kills, ever_torn = 0, set()
        for number in range(given.kills):
            with start() as client:
                life = dice.uniform(0.05, given.longest_life)
                time.sleep(life)
                if number % 2:
                    wait_for_creation(s3, client, 2)
                if not client.is_running():
                    expect_exit(client.wait(), 0, 3, 4)
                    run_ended = True
                else:
                    run, run_ended = client.kill(), False
            if run_ended:
                say("the job ended before its next kill; more rows or a lower limit would give it time")
                break
            kills += 1
            # The mount uploads what the dead process had written.
            time.sleep(0.3)
            if len(left) < given.torn and number >= given.kills // 3:
                half = leave_torn(out, ("part", "record")[len(left) % 2])
                left += [half] * (half is not None)
            stats, torn = server.stats(), torn_parts(files)
            ever_torn.update(torn)
            say(f"kill {kills} after {life:.1f} s: {len(list(out.glob('*.parquet')))} parts, {stats['rows_distinct']} rows asked, torn: {torn}")
        torn = torn_parts(files)
        for _ in range(3):
            run = start().wait()
            if run.exit_code != 4:
                break
            words = said(run)
            now = torn_parts(files)
            named = [key for key in now if Path(key).name in words]
            say(f"ended with 4: {words[:600]}")
            if not named:
                break
            # What the message asks the user for.
            for key in named:
                s3.remove(key)
            subprocess.run(["ls", "-l", out], stdout=subprocess.DEVNULL)
        stats = server.stats()
        verify = subprocess.run([given.binary, "verify", out, "--input", source], capture_output=True, text=True)
        requests = s3.requests("out/")
        # Ends here, with the id, if one stands twice.
        rows, _ = read_rows(f"s3://{BUCKET}/out", files) if not torn_parts(files) else ({}, [])
        found, names = changes(requests, ever_torn), keys(files)
        try:
            with files.open_input_file(f"{BUCKET}/out/_batchclass/job.json") as job:
                layout = json.loads(job.read())["layout"]
        except OSError as error:
            layout = str(error)

    checks.claim("the job was killed", kills > 0, f"{kills} times")
    checks.claim("the rerun ends", run.exit_code == 0, f"exit code {run.exit_code} {said(run)[:600] if run.exit_code else ''}")
    checks.claim("the mount was known for one", layout == "append", f"layout {layout}")
    different = sum(rows.get(id) != outcome for id, outcome in calm_rows.items())
    checks.claim("in the bucket each row stands once, labelled as in an undisturbed run", not different and len(rows) == given.rows, f"{len(rows)} ids, {different} differ")
    checks.claim("verify finds nothing", verify.returncode == 0, f"exit code {verify.returncode}" + (f"\n{verify.stdout}{verify.stderr}" if verify.returncode else ""))
    parts = [name for name in names if name.endswith(".parquet")]
    odd = [name for name in parts if not PART.fullmatch(name)]
    checks.claim("parts have their names, and _SUCCESS is there", not odd and "out/_SUCCESS" in names, f"{len(parts)} parts, of which {sum('-r' in name for name in parts)} are later generations; odd: {odd}")
    checks.claim("every torn part was named", set(torn) <= set(named), f"{len(torn)} torn, {len(named)} named")
    checks.claim("nothing was renamed or overwritten on the mount, or removed but torn parts and claims", not found, f"{sum(found.values())} times {list(found)[:5]}")
    unexplained = stats["rows_asked_again_unexplained"]
    checks.claim("only rows of requests in flight at a kill were paid for twice", unexplained == 0, f"{unexplained} other rows")
    print()
    kinds = Counter("create" if request["method"] == "PUT" else request["method"] for request in requests)
    header = ["kills", "halves left", "torn parts", "objects", "PUTs", "GETs and HEADs", "rows paid twice", "rows open at a kill", "rows unconfirmed"]
    table(header, [[kills, len(left), len(torn), len(names), kinds["create"], kinds["GET"] + kinds["HEAD"], stats["rows_answered_again"], stats["rows_open_at_disconnect"], stats["rows_unconfirmed_at_disconnect"]]])
    checks.exit()


if __name__ == "__main__":
    main()

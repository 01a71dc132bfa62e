#!/usr/bin/env python3
"""An S3 server on this machine: moto, with a log of what is asked of it.

    python3 s3_server.py PORT LOG [AGENT]     serves until it is ended; scripts use `S3Server`

Clients whose names begin with AGENT may create objects only: to remove, copy or overwrite one is
refused, as a role may be that has no such rights, and as Mountpoint for S3 refuses by itself.
Each answered request is one JSON line in LOG: method, path, query, headers that matter, status, ETag.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote

from bench import free_port

# What any S3 client needs to be told; moto looks at none of it.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    # So that the machine's own settings play no part.
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}
LOGGED = {"HTTP_USER_AGENT": "agent", "HTTP_X_AMZ_COPY_SOURCE": "copy_source", "HTTP_IF_NONE_MATCH": "if_none_match", "HTTP_IF_MATCH": "if_match", "CONTENT_LENGTH": "bytes"}


class S3Server:
    """moto on a free port with one empty bucket, from `with` to its end.

    `create_only` begins the names of clients that may do no more than create.
    """

    def __init__(self, bucket, create_only=None):
        self.bucket, self.port, self.create_only = bucket, free_port(), create_only

    def __enter__(self):
        try:
            import moto.server  # noqa: F401
        except ImportError:
            sys.exit("the S3 server is missing: pip install 'moto[server,s3]'")
        log = tempfile.NamedTemporaryFile(prefix="s3-requests-", suffix=".jsonl", delete=False)
        self.log, self.said = Path(log.name), tempfile.TemporaryFile()
        words = [sys.executable, __file__, str(self.port), str(self.log)] + [self.create_only] * bool(self.create_only)
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.said, stderr=self.said)
        try:
            self.make_bucket()
        except BaseException:
            self.process.kill()
            raise
        return self

    def make_bucket(self):
        for _ in range(300):
            if self.process.poll() is not None:
                self.said.seek(0)
                raise SystemExit(f"moto ended: {self.said.read().decode(errors='replace')}")
            try:
                make = urllib.request.Request(f"{self.url}/{self.bucket}", method="PUT")
                return urllib.request.urlopen(make, timeout=30).close()
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise SystemExit("moto does not answer")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.unlink(missing_ok=True)

    def remove(self, key):
        """Removes an object as its owner would, past any mount."""
        # moto takes any signature, but not none.
        signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        ask = urllib.request.Request(f"{self.url}/{self.bucket}/{key}", method="DELETE", headers={"Authorization": signed})
        urllib.request.urlopen(ask, timeout=30).close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def requests(self, prefix=""):
        """The requests so far for objects under `prefix`, in the order of their answers."""
        found = []
        for line in self.log.read_text().splitlines():
            request = json.loads(line)
            bucket, _, request["key"] = unquote(request["path"]).lstrip("/").partition("/")
            if bucket == self.bucket and request["key"].startswith(prefix):
                found.append(request)
        return found


def file_system(url, environment):
    """The server at `url` as pyarrow reads it, with the keys of `environment`."""
    import pyarrow.fs

    key, secret, region = (environment.get(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION"))
    return pyarrow.fs.S3FileSystem(access_key=key, secret_key=secret, region=region, endpoint_override=url)


def logged(serve, log):
    """The WSGI application `serve`, with each of its answers on a line of `log`."""

    def answer(environ, start_response):
        request = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "query": environ.get("QUERY_STRING", "")}
        request.update({name: environ[key] for key, name in LOGGED.items() if environ.get(key)})

        def started(status, headers, *rest):
            request["status"] = int(status.split()[0])
            request.update({"etag": value for name, value in headers if name.lower() == "etag"})
            # One write(2) on a file opened for appending: lines of threads do not mix.
            os.write(log, (json.dumps(request) + "\n").encode())
            return start_response(status, headers, *rest)

        return serve(environ, started)

    return answer


def refusing(serve, agent):
    """The WSGI application `serve`, where clients called `agent` may only create."""
    standing = set()

    def answer(environ, start_response):
        method, query, key = environ["REQUEST_METHOD"], environ.get("QUERY_STRING", ""), environ["PATH_INFO"]
        is_removal = method == "DELETE" and "uploadId" not in query
        # A multipart upload appears when it is completed by a POST.
        appears = method == "PUT" and "partNumber" not in query or method == "POST" and "uploadId" in query
        is_copy = "HTTP_X_AMZ_COPY_SOURCE" in environ
        if environ.get("HTTP_USER_AGENT", "").startswith(agent) and (is_removal or is_copy or appears and key in standing):
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>create only</Message></Error>"]

        def started(status, *rest):
            if int(status.split()[0]) < 300:
                (standing.discard if is_removal else standing.add if appears else bool)(key)
            return start_response(status, *rest)

        return serve(environ, started)

    return answer


def main():
    import logging

    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    port, path, create_only = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    serve = DomainDispatcherApplication(create_backend_app)
    serve = refusing(serve, *create_only) if create_only else serve
    run_simple("127.0.0.1", port, logged(serve, log), threaded=True)


if __name__ == "__main__":
    main()

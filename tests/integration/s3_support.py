"""An S3 server of the tests' own on a free port, in memory; it can be told to fail for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SECRET = "a-secret-of-the-tests"
BUCKET = "studies"


@dataclass
class Trouble:
    """What the server does to the next requests.

    Args:
        busy: How many are answered with 503.
        torn: How many downloads end after half of the file.
    """

    busy: int = 0
    torn: int = 0

    def __call__(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """A WSGI application in trouble."""

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            if self.busy > 0:
                self.busy -= 1
                start_response("503 Slow Down", [("Content-Type", "application/xml")])
                return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]
            if self.torn > 0 and environ["REQUEST_METHOD"] == "GET":
                self.torn -= 1
                whole = b"".join(app(environ, start_response))
                return [whole[: len(whole) // 2]]
            return app(environ, start_response)

        return answer


@contextmanager
def server() -> Iterator[tuple[str, Trouble]]:
    """A running server's endpoint, and its trouble; the tests are skipped where moto is not installed."""
    pytest.importorskip("moto", reason="no S3 server here: pip install 'moto[server]' boto3")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Silent(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            """Nothing."""

    trouble = Trouble()
    app = trouble(DomainDispatcherApplication(create_backend_app))
    running = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", trouble
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def configure(monkeypatch: pytest.MonkeyPatch, endpoint: str, home: Path) -> None:
    """boto3's configuration: this endpoint, a false key, and nothing of the machine's own."""
    values = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(home / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-credentials"),
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def client() -> Any:
    """boto3's client, as it is configured."""
    import boto3

    return boto3.session.Session().client("s3")


def held(bucket: str = BUCKET) -> dict[str, bytes]:
    """All that is in a bucket: key -> content."""
    s3 = client()
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {one["Key"]: s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in found}

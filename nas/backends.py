"""Goes in: a shared folder or a bucket. Comes out: an Optuna artifact store that has a file whole or not at all.

Its one error is StoreError, without secrets. Optuna's own `Backoff` is not used: in Optuna 5.0 it removes a file ten
times over, with a minute and a half of pauses, and retries what no retry mends. boto3 tells transient faults apart.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from optuna.artifacts import Boto3ArtifactStore, FileSystemArtifactStore
from optuna.artifacts._protocol import ArtifactStore as ArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from nas.recipe import RecipeError

PART = ".nas-{}.part"
OLD = 24 * 3600.0  # seconds after which a part is of a writer that died
ATTEMPTS = 8  # of one request to S3: with boto3's pauses, about a minute
SECRETS = re.compile(r"\S*@|\?[^\"\s]*")  # a URL's user and password, and its query
HINTS = {
    "NoCredentialsError": "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "NoSuchBucket": "; create it first",
}


class StoreError(RuntimeError):
    """A file that the artifact store has not, has damaged, or cannot reach now."""


class FileLost(StoreError):
    """A file that the artifact store has not, or has damaged: asking again does not help."""


def faults() -> tuple[type[Exception], ...]:
    """What a folder or boto3 raises when something is wrong outside."""
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return (OSError,)
    return OSError, BotoCoreError, ClientError, Boto3Error


def reason(e: BaseException) -> str:
    """An error in one line without secrets, and what mends it."""
    told = getattr(e, "response", {}).get("Error", {})
    code = str(told.get("Code") or type(e).__name__)
    text = f"{code}: {told.get('Message')}" if told else getattr(e, "strerror", None) or str(e) or code
    return SECRETS.sub("", " ".join(text.split()))[:300] + HINTS.get(code, "")


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn what goes wrong in a store into one error.

    Raises:
        StoreError: With the reason.
        ArtifactNotFound: The file is not there, while the store is.
    """
    try:
        yield
    except ArtifactNotFound as e:
        if e.__cause__ is not None and "NoSuchBucket" in reason(e.__cause__):  # to Optuna it is as a missing file
            raise StoreError(f"artifacts {where}: {reason(e.__cause__)}") from e
        raise
    except faults() as e:
        raise StoreError(f"artifacts {where}: {reason(e)}") from e


class Folder(FileSystemArtifactStore):
    """A folder; a file is written beside its name and renamed, so that no reader sees half of it."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.place = place

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write whole, or leave what was there."""
        name, part = self._get_filepath(artifact_id), self.place / PART.format(uuid.uuid4().hex)
        try:
            with part.open("wb") as file:
                shutil.copyfileobj(content_body, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(name)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the parts of writers that died long ago."""
        for part in self.place.glob(PART.format("*")):
            with suppress(OSError):
                if part.stat().st_mtime < time.time() - OLD:
                    part.unlink()


class Bucket(Boto3ArtifactStore):
    """A bucket of S3, all files under a prefix; S3 itself shows a file whole or not at all."""

    def __init__(self, bucket: str, prefix: str, client: Any) -> None:
        super().__init__(bucket, client, avoid_buf_copy=True)  # closes what it wrote, and holds no copy in memory
        self.prefix = prefix

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """The file under the prefix."""
        return super().open_reader(self.prefix + artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Upload under the prefix."""
        super().write(self.prefix + artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove under the prefix; S3 says nothing where the file is not there."""
        super().remove(self.prefix + artifact_id)


def client(where: str, attempts: int, connect_s: float) -> Any:
    """boto3's client, with the endpoint, region and credentials of its own configuration.

    Raises:
        RecipeError: boto3 is not here, or its configuration is no good.
    """
    try:
        from boto3.session import Session
        from botocore.config import Config
    except ImportError as e:
        raise RecipeError(f"artifacts {where}: needs boto3: pip install 'yolo-attention-nas[s3]'") from e
    retries: Any = {"mode": "standard", "total_max_attempts": attempts}
    wrong: tuple[type[Exception], ...] = (*faults(), ValueError)
    try:
        config = Config(connect_timeout=connect_s, read_timeout=60 if attempts > 2 else 10, retries=retries)
        return Session().client("s3", config=config)
    except wrong as e:
        raise RecipeError(f"artifacts {where}: {reason(e)}") from e


class Body(io.RawIOBase):
    """An open file of a store; what goes wrong while it is read is told as all else."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self.stream, self.where = stream, where

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        with told(self.where):
            data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let go of the connection."""
        self.stream.close()
        super().close()


class Careful:
    """An Optuna artifact store around another one, whose faults are told in one line each."""

    def __init__(self, backend: ArtifactStore, where: str) -> None:
        self.backend, self.where = backend, where

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """A file to read."""
        with told(self.where):
            stream = self.backend.open_reader(artifact_id)
        return cast(BinaryIO, io.BufferedReader(Body(stream, self.where), 1 << 20))

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write a file whole, or leave what was there."""
        with told(self.where):
            self.backend.write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove a file."""
        with told(self.where):
            self.backend.remove(artifact_id)


def there(store: ArtifactStore, artifact: str) -> bool:
    """Whether it is stored, without reading it."""
    try:
        store.open_reader(artifact).close()
    except ArtifactNotFound:
        return False
    return True

"""Goes in: where a study's files travel, a shared folder or `s3://bucket/prefix`. Comes out: a store of files by name.

A file arrives with the SHA-256 that it was sent with, or not at all.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from optuna.artifacts.exceptions import ArtifactNotFound

from nas import backends
from nas.backends import ArtifactStore, Bucket, Careful, FileLost, Folder, StoreError
from nas.recipe import RecipeError

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")  # two letters at least: C:/ is a folder
S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9!_.*'()/-]*))?")
ALLOWED = "expected a folder or s3://bucket/prefix"
CHUNK = 1 << 20
TRIES, PAUSE = 3, 1.0  # of a download that was cut off; seconds before the next one


@dataclass(frozen=True)
class Store:
    """Files by name, for all machines of a study.

    Args:
        address: Where they are, for messages.
        artifacts: The same as an Optuna artifact store, for the dashboard.
    """

    address: str
    artifacts: ArtifactStore

    def put(self, name: str, file: Path) -> str:
        """Upload a file, whole or not at all; its SHA-256.

        Raises:
            StoreError: The store cannot be reached or refuses.
        """
        refuse(name)
        digest = sha256_of(file)
        with file.open("rb") as content:
            self.artifacts.write(name, content)
        return digest

    def get(self, name: str, file: Path, sha256: str | None = None) -> None:
        """Download a file, whole or not at all, in place of what is there.

        Args:
            sha256: What :meth:`put` returned; None takes what comes.

        Raises:
            StoreError: It is missing, damaged, or the store cannot be reached.
        """
        refuse(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(f"{file.name}.{uuid.uuid4().hex}.part")
        try:
            self._download(name, part)
            if sha256 is not None and (got := sha256_of(part)) != sha256:
                raise FileLost(f"artifacts {self.address}: {name} is damaged: expected SHA-256 {sha256}, got {got}")
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    def drop(self, name: str) -> None:
        """Remove a file; nothing happens where it is gone.

        Raises:
            StoreError: The store cannot be reached or refuses.
        """
        refuse(name)
        with suppress(ArtifactNotFound):
            self.artifacts.remove(name)

    def _download(self, name: str, part: Path) -> None:
        """From the start again where the connection was cut off."""
        for attempt in range(1, TRIES + 1):
            try:
                reader = self.artifacts.open_reader(name)
            except ArtifactNotFound as e:
                raise FileLost(f"artifacts {self.address}: {name} is missing") from e
            with reader, part.open("wb") as file:
                try:
                    while chunk := reader.read(CHUNK):
                        file.write(chunk)
                    return
                except StoreError:
                    if attempt == TRIES:
                        raise
            time.sleep(PAUSE * attempt)


def refuse(name: str) -> None:
    """Raise ValueError for a name that could lead out of the store, or hide in it."""
    if not NAME.fullmatch(name):
        raise ValueError(f"artifact {name!r}: expected letters, digits, '.', '_' and '-', no '.' first, at most 200")


def sha256_of(file: Path) -> str:
    """A file's SHA-256 in hex digits, without the whole file in memory."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def open_store(address: str | None) -> Store | None:
    """The store at an address; None for None: everything stays in the study's folder.

    Raises:
        RecipeError: No such folder on this machine, no address, or boto3 is not here.
    """
    if address is None:
        return None
    if (found := bucket_of(address, backends.ATTEMPTS, 10.0)) is not None:
        return Store(address, Careful(found, address))
    address = str(Path(address).resolve())  # other commands, and other machines, start elsewhere
    try:
        folder_of(address).mkdir(exist_ok=True)
    except OSError as e:
        raise RecipeError(f"artifacts {address}: {backends.reason(e)}") from e
    folder = Folder(Path(address))
    folder.sweep()
    return Store(address, Careful(folder, address))


def check(address: str | None) -> None:
    """See whether files can be written, read and removed there; leaves nothing behind.

    Raises:
        RecipeError: They cannot, with the reason in one line.
    """
    if address is None:
        return
    backend: ArtifactStore | None = bucket_of(address, 2, 3.0)
    if backend is None:
        folder = folder_of(address)
        backend = Folder(folder if folder.is_dir() else folder.parent)  # it is made when it is opened
    store, name = Careful(backend, address), f"nas-probe-{uuid.uuid4().hex}"
    try:
        store.write(name, io.BytesIO(b"probe"))
        try:
            with store.open_reader(name) as file:
                if file.read() != b"probe":
                    raise StoreError(f"artifacts {address}: another file was read than was written")
        finally:
            store.remove(name)
    except (StoreError, ArtifactNotFound) as e:
        raise RecipeError(str(e) if isinstance(e, StoreError) else f"artifacts {address}: a file is lost there") from e


def bucket_of(address: str, attempts: int, connect_s: float) -> Bucket | None:
    """The bucket that an address names; None where it is a folder.

    Raises:
        RecipeError: Neither; what stands behind the scheme may be a secret and is not told.
    """
    if (scheme := SCHEME.match(address)) is None:
        return None
    if scheme[1] != "s3":
        raise RecipeError(f"artifacts {scheme[1]}://...: {ALLOWED}")
    if (found := S3.fullmatch(address)) is None:
        raise RecipeError(
            f"artifacts s3://...: {ALLOWED}, a bucket of small letters, digits, '.' and '-'; "
            "keys belong to AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, an endpoint to AWS_ENDPOINT_URL"
        )
    prefix = (found[2] or "").strip("/")
    return Bucket(found[1], f"{prefix}/" if prefix else "", backends.client(address, attempts, connect_s))


def folder_of(address: str) -> Path:
    """The folder that an address names, or one that can be made.

    Raises:
        RecipeError: It is a file, or there is not even a folder to make it in.
    """
    folder = Path(address)
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"artifacts {address}: is a file; {ALLOWED}")
    if not folder.is_dir() and not folder.parent.is_dir():
        raise RecipeError(f"artifacts {address}: no such folder on this machine, nor {folder.parent}; {ALLOWED}")
    return folder

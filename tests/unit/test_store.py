"""The store in a shared folder: whole files or none, their SHA-256, names that stay inside, and what `check` says."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

from nas import backends, store
from nas.backends import Careful, Folder, StoreError
from nas.recipe import RecipeError
from nas.store import Store

SECRET = "a-secret-of-the-tests"


class Dying(io.BytesIO):
    """A file that gives some bytes; then its reader dies, or what it stands on."""

    def __init__(self, how: BaseException) -> None:
        super().__init__(b"half of it" * 1000)
        self.how = how

    def read(self, size: int | None = -1) -> bytes:
        """Once."""
        if self.tell():
            raise self.how
        return super().read(100)


def opened(folder: Path) -> Store:
    """The store in a folder."""
    found = store.open_store(str(folder))
    assert found is not None
    return found


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def inside(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_without_an_address_there_is_no_store() -> None:
    assert store.open_store(None) is None
    store.check(None)


def test_a_file_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    sent, there = write(tmp_path / "a.pt", os.urandom(3_000_000)), opened(tmp_path / "shared")
    digest = there.put("abc-1.pt", sent)
    assert digest == hashlib.sha256(sent.read_bytes()).hexdigest() == store.sha256_of(sent)
    assert inside(tmp_path / "shared") == ["abc-1.pt"]
    here = tmp_path / "another" / "machine" / "b.pt"
    there.get("abc-1.pt", here, digest)
    assert here.read_bytes() == sent.read_bytes() and inside(here.parent) == ["b.pt"]
    there.put("abc-1.pt", write(sent, b"a new state"))
    there.get("abc-1.pt", here)
    assert here.read_bytes() == b"a new state"
    for _ in range(2):
        there.drop("abc-1.pt")
    assert inside(tmp_path / "shared") == []


@pytest.mark.parametrize("how", [KeyboardInterrupt(), MemoryError(), OSError(28, "No space left on device")])
def test_a_writer_that_dies_leaves_what_was_there(tmp_path: Path, how: BaseException) -> None:
    there = opened(tmp_path / "shared")
    there.put("a.pt", write(tmp_path / "a", b"whole"))
    expected: Any = StoreError if isinstance(how, OSError) else type(how)
    for name in ("a.pt", "new.pt"):
        with pytest.raises(expected):
            there.artifacts.write(name, Dying(how))
    assert inside(tmp_path / "shared") == ["a.pt"]
    assert (tmp_path / "shared" / "a.pt").read_bytes() == b"whole"


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    there = opened(tmp_path / "shared")
    there.put("a.pt", write(tmp_path / "a", b"old" * 1_000_000))
    with there.artifacts.open_reader("a.pt") as reader:
        assert reader.read(3) == b"old"
        there.put("a.pt", write(tmp_path / "a", b"new"))
        assert reader.read() == b"old" * 999_999
    assert (tmp_path / "shared" / "a.pt").read_bytes() == b"new"


def test_parts_of_writers_that_were_killed_are_removed_after_a_day(tmp_path: Path) -> None:
    opened(tmp_path / "shared")
    names = [backends.PART.format(x) for x in ("dead", "alive")] + ["somebody.part"]
    for name in names:
        write(tmp_path / "shared" / name, b"half")
    for name in (names[0], names[2]):
        os.utime(tmp_path / "shared" / name, (time.time() - 2 * backends.OLD,) * 2)
    opened(tmp_path / "shared")
    assert inside(tmp_path / "shared") == sorted(names[1:])


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    there, here = opened(tmp_path / "shared"), write(tmp_path / "here.pt", b"mine")
    digest = there.put("a.pt", write(tmp_path / "a", b"whole"))
    got = store.sha256_of(write(tmp_path / "shared" / "a.pt", b"whol"))
    with pytest.raises(StoreError, match=f"a.pt is damaged: expected SHA-256 {digest}, got {got}"):
        there.get("a.pt", here, digest)
    assert here.read_bytes() == b"mine" and inside(tmp_path) == ["a", "here.pt", "shared"]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    there = opened(tmp_path / "shared")
    with pytest.raises(StoreError, match=r"shared: a\.pt is missing$"):
        there.get("a.pt", tmp_path / "here.pt")
    assert inside(tmp_path) == ["shared"]
    with pytest.raises(ArtifactNotFound):
        there.artifacts.open_reader("a.pt")
    with pytest.raises(FileNotFoundError):
        there.put("a.pt", tmp_path / "never")


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    there = opened(tmp_path / "shared")
    (tmp_path / "shared").rmdir()
    with pytest.raises(StoreError, match="No such file or directory"):
        there.put("a.pt", write(tmp_path / "a", b"whole"))


class Shaky:
    """A store whose readers are cut off some times."""

    def __init__(self, times: int) -> None:
        self.left, self.opened = times, 0

    def open_reader(self, artifact_id: str) -> Any:
        """Cut off, or not any more."""
        self.opened, self.left = self.opened + 1, self.left - 1
        return Dying(OSError("cut off")) if self.left >= 0 else io.BytesIO(b"whole")

    def write(self, artifact_id: str, content_body: Any) -> None:
        """Never."""

    def remove(self, artifact_id: str) -> None:
        """Never."""


def test_a_download_that_is_cut_off_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PAUSE", 0.0)
    Store("x", Careful(Shaky(2), "x")).get("a", tmp_path / "a", hashlib.sha256(b"whole").hexdigest())
    assert (tmp_path / "a").read_bytes() == b"whole"
    shaky = Shaky(9)
    with pytest.raises(StoreError, match="artifacts x: cut off"):
        Store("x", Careful(shaky, "x")).get("b", tmp_path / "b")
    assert shaky.opened == store.TRIES and inside(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/a", "a\\b", "a b", "ä", ".hidden", "a\n", "a" * 201])
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    there, file = opened(tmp_path / "shared"), write(tmp_path / "a", b"")
    for act in (lambda: there.put(name, file), lambda: there.get(name, file), lambda: there.drop(name)):
        with pytest.raises(ValueError, match="expected letters"):
            act()
    assert inside(tmp_path) == ["a", "shared"] and inside(tmp_path / "shared") == []


def test_checking_a_folder_leaves_nothing(tmp_path: Path) -> None:
    store.check(str(tmp_path / "new"))
    assert inside(tmp_path) == []
    opened(tmp_path / "new")
    store.check(str(tmp_path / "new"))
    assert inside(tmp_path) == ["new"] and inside(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("{root}/file", "is a file; expected a folder or s3://bucket/prefix"),
        ("{root}/file/inside", "no such folder on this machine, nor"),
        ("{root}/never/new", "no such folder on this machine, nor"),
        (f"ftp://me:{SECRET}@box/x", r"artifacts ftp://\.\.\.: expected a folder or s3://bucket/prefix"),
        ("file:///x", "expected a folder"),
        ("s3:/bucket", "expected a folder or s3://bucket/prefix"),
        ("s3://", "expected a folder or s3://bucket/prefix"),
        ("s3://Bucket/x", "small letters"),
        (f"s3://key:{SECRET}@bucket/x", "AWS_SECRET_ACCESS_KEY"),
        (f"s3://bucket/x?secret={SECRET}", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str, said: str) -> None:
    write(tmp_path / "file", b"")
    for act in (store.check, store.open_store):
        with pytest.raises(RecipeError, match=said) as caught:
            act(address.format(root=tmp_path))
        assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert inside(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    opened(tmp_path / "shared")
    monkeypatch.setattr(Path, "open", refuse)  # a superuser may write everywhere
    for name in ("shared", "new"):
        with pytest.raises(RecipeError, match=f"^artifacts .*{name}: Permission denied$"):
            store.check(str(tmp_path / name))
    assert inside(tmp_path) == ["shared"] and inside(tmp_path / "shared") == []


def test_a_folder_that_loses_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "write", lambda *_: None)
    with pytest.raises(RecipeError, match="a file is lost there"):
        store.check(str(tmp_path))


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    monkeypatch.setitem(sys.modules, "boto3", None)
    for act in (store.check, store.open_store):
        with pytest.raises(RecipeError, match=r"artifacts s3://bucket/x: needs boto3: pip install .*\[s3\]"):
            act("s3://bucket/x")

"""Faulty datasets."""

from __future__ import annotations

import os
import shutil

import pytest
from bad_support import HUGE, Case, Damage, Ready, append, bomb, each, edit, put

NAMES = "names:\n  0: red\n  1: green\n"


def yaml(old: str, new: str) -> Damage:
    """Replace text in data.yaml."""
    return edit("data", old, new)


def label(row: str | bytes) -> Damage:
    """A row in every label file of train."""
    return each("labels", "train", row)


def first_label(row: str) -> Damage:
    """A row in one label file."""
    return lambda ready: ready.labels("train")[0].write_text(row)


def cut(ready: Ready) -> None:
    for image in ready.images("val"):
        image.write_bytes(image.read_bytes()[:200])


def one_image(ready: Ready) -> None:
    for image in ready.images("train")[1:]:
        image.unlink()
    yaml("test: images/test\n", "")(ready)


def no_image(ready: Ready) -> None:
    for image in ready.images("train"):
        image.unlink()


def no_labels(ready: Ready) -> None:
    for file in ready.labels():
        file.unlink()


def a_list_of_bytes(ready: Ready) -> None:
    (ready.tmp / "own" / "list.txt").write_bytes(b"\xff\xfe\x00\x01")
    yaml("images/train", "list.txt")(ready)


def a_list_of_what_is_gone(ready: Ready) -> None:
    (ready.tmp / "own" / "list.txt").write_text("./images/train/gone.png\n./images/train/lost.png\n")
    yaml("images/train", "list.txt")(ready)


def no_file(ready: Ready) -> None:
    ready.data.unlink()


def labels_that_nobody_may_read(ready: Ready) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    for file in ready.labels("train"):
        file.chmod(0)


def classes_of_one(ready: Ready) -> None:
    """A folder a class, for a model that detects."""
    shutil.rmtree(ready.data.parent)
    for split in ("train", "val"):
        (ready.data.parent / split / "red").mkdir(parents=True)


def download(line: str) -> Damage:
    """The pictures are not there, and the YAML says how it would get them."""

    def damage(ready: Ready) -> None:
        shutil.rmtree(ready.data.parent / "images")
        append("data", line)(ready)

    return damage


def tiny(ready: Ready) -> None:
    """Pictures of 8 x 8 pixels."""
    from PIL import Image

    for image in ready.images("train"):
        Image.new("RGB", (8, 8)).save(image)


SCRIPT = "download: |\n  from pathlib import Path\n  Path('ran').touch()\n"

CASES = (
    Case("data: no file", ("data.yaml",), no_file),
    Case("data: empty file", ("data.yaml", "NoneType"), put("data", "")),
    Case("data: binary", ("data.yaml", "not a YAML file"), put("data", b"\x89PNG\r\n\x00\xff")),
    Case("data: UTF-16", ("data.yaml", "UTF-8", "UTF-16"), put("data", "train: x\n".encode("utf-16"))),
    Case("data: Latin-1", ("data.yaml", "UTF-8", "0xfc"), put("data", "names: [grün]\n".encode("latin-1"))),
    Case("data: broken YAML", ("data.yaml", "not a YAML file", "line 2"), put("data", "train: [\n")),
    Case("data: tabs", ("not a YAML file", "line 8", "tab"), append("data", "x:\n\ty: 1\n")),
    Case("data: a bomb of anchors", ("aliases",), append("data", bomb("more"))),
    Case("data: an anchor that holds itself", ("holds itself",), append("data", "more: &a [*a]\n")),
    Case("data: nested without end", ("nested deeper",), append("data", f"more: {'[' * 50_000}\n")),
    Case(
        "data: a tag that runs code",
        ("not a YAML file", "constructor"),
        append("data", "more: !!python/object/apply:os.system ['touch ran']\n"),
    ),
    Case("data: a key twice", ("the key 'train' stands there twice",), append("data", "train: images/val\n")),
    Case("data: megabytes of YAML", ("bytes",), append("data", f"more: {'y' * 3_000_000}\n")),
    Case("data: no train", ("data.yaml", "'train:' key missing"), yaml("train: images/train\n", "")),
    Case("data: no val", ("data.yaml", "'val:' key missing"), yaml("val: images/val\n", "")),
    Case("data: train is a number", ("data.yaml", "train"), yaml("images/train", "3")),
    Case("data: no names", ("data.yaml", "names"), yaml(NAMES, "")),
    Case("data: names are a number", ("names",), yaml(NAMES, "names: 3\n")),
    Case("data: names and nc of another kind", ("names",), yaml(NAMES, "nc: 2\nnames: 3\n")),
    Case("data: names with words for numbers", ("names has the key 'a'", "0 to 1"), yaml("  0: red", "  a: red")),
    Case("data: nc and names disagree", ("nc says 3 classes, names lists 2",), yaml("names:", "nc: 3\nnames:")),
    Case("data: a class without a name", ("class 0 is called 'None'",), yaml("0: red", "0:")),
    Case("data: a class that is a list", ("class 0 is called", "expected a word"), yaml("0: red", "0: [red]")),
    Case("data: two classes of one name", ("classes 0 and 1 are both called 'red'",), yaml("1: green", "1: red")),
    Case("data: a name of 100,000 characters", ("class 0", "100,000 characters"), yaml("red", HUGE)),
    Case("data: a name in two lines", ("class 0", "printed"), yaml("0: red", '0: "red\\ngreen"')),
    Case("data: channels are a word", ("channels is 'many'",), append("data", "channels: many\n")),
    Case("data: missing train", ("nowhere",), yaml("images/train", "images/nowhere")),
    Case("data: missing val", ("nowhere",), yaml("images/val", "images/nowhere")),
    Case("data: a script that would download", ("is not followed", "--trust", "val"), download(SCRIPT)),
    Case(
        "data: an address that would be downloaded",
        ("is not followed", "--trust", "by hand"),
        download("download: http://127.0.0.1:9/x.zip\n"),
    ),
    Case("data: a shell script that would download", ("not followed",), download("download: bash ./get.sh\n")),
    Case("data: no image", ("train", "no image"), no_image),
    Case("data: images of no bytes", ("not one that can be opened", "empty file"), each("images", "train", b"")),
    Case("data: images that are text", ("not one that can be opened", "no image"), each("images", "val", "text")),
    Case("data: images cut off", ("val has 2 images and not one that can be opened", "cut off"), cut),
    Case("data: images of a pixel", ("8 x 8 pixels, expected at least 10",), tiny),
    Case("data: one image and no test split", ("1 images to train on", "takes 2"), one_image),
    Case("data: a list that is no text", ("list.txt", "no list of images"), a_list_of_bytes),
    Case(
        "data: a list of images that are gone", ("not one that can be opened", "no such file"), a_list_of_what_is_gone
    ),
    Case("data: no labels", ("not one box",), no_labels),
    Case("data: class out of range", ("0.txt has class 7", "(0 to 1)"), first_label("7 0.5 0.5 0.1 0.1\n")),
    Case("data: a class beyond any", ("0.txt has class 1", "(0 to 1)"), first_label("1e300 0.5 0.5 0.1 0.1\n")),
    Case("data: NaN in labels", ("not one box", "not finite"), label("0 nan 0.5 0.1 0.1\n")),
    Case("data: NaN as a class", ("not one box", "not finite"), label("nan 0.5 0.5 0.1 0.1\n")),
    Case("data: infinite boxes", ("not one box", "not finite"), label("0 0.5 0.5 inf 0.1\n")),
    Case("data: boxes outside the image", ("not one box", "coordinate 1.5"), label("0 1.5 0.5 0.1 0.1\n")),
    Case("data: boxes in pixels", ("not one box", "coordinate 300"), label("0 20 300 40 60\n")),
    Case("data: negative sizes", ("not one box", "negative value -0.1"), label("0 0.5 0.5 -0.1 0.1\n")),
    Case("data: half a class", ("not one box", "no whole number"), label("0.5 0.5 0.5 0.1 0.1\n")),
    Case("data: labels of four columns", ("not one box", "4 columns"), label("0 0.5 0.5 0.1\n")),
    Case("data: labels of six columns", ("not one box", "6 columns"), label("0 0.5 0.5 0.1 0.1 0.9\n")),
    Case("data: labels that are words", ("not one box", "not made of numbers"), label("red 0.5 0.5 0.1 0.1\n")),
    Case("data: labels that nobody may read", ("ermission denied",), labels_that_nobody_may_read),
    Case("data: labels in UTF-16", ("not one box", "not text"), label("0 0.5 0.5 0.1 0.1\n".encode("utf-16"))),
    Case(
        "data: a folder of classes for a detector",
        ("expects the dataset's YAML file",),
        classes_of_one,
        (
            "search",
            "--recipe",
            "<tmp>/good.yaml",
            "--data",
            "<tmp>/own",
        ),
    ),
)

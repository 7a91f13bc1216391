"""A real browser for tests: Debian's Chromium, watched for what it says and whom it asks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlparse

import pytest
from apt_support import install

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Watched:
    """A page, and what it did.

    Args:
        page: Playwright's.
        said: Messages in the console that are errors or warnings, and exceptions.
        outside: Addresses asked for that are neither a file nor on this machine.
    """

    page: Any
    said: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def assert_quiet(self) -> None:
        """No error, no warning, nothing from the network."""
        assert not self.said and not self.outside


def find_chromium() -> str:
    """Chromium's path; installed where this user may, else the tests are skipped and say what is missing."""
    if not any(map(shutil.which, NAMES)):
        install("chromium")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here, and no right to install it: apt-get install chromium")
    return found


@contextmanager
def opened() -> Iterator[Any]:
    """Playwright's browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=args)
        yield browser
        browser.close()


@contextmanager
def watched(browser: Any, **options: Any) -> Iterator[Watched]:
    """A new page in a context of its own."""
    context = browser.new_context(viewport=options.pop("viewport", {"width": 1280, "height": 900}), **options)
    found = Watched(context.new_page())
    found.page.on("console", lambda m: found.said.append(m.text) if m.type in ("error", "warning") else None)
    found.page.on("pageerror", lambda e: found.said.append(str(e)))

    def ask(request: Any) -> None:
        where = urlparse(request.url)
        if where.scheme not in ("file", "data", "blob", "about") and where.hostname != "127.0.0.1":
            found.outside.append(request.url)

    found.page.on("request", ask)
    yield found
    context.close()

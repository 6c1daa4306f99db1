"""A page as a browser sees it, for the tests that open one."""

import shutil
import subprocess
from pathlib import Path

import pytest

needs_browser = pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser here")
HOSTILE = '<img src=x onerror="document.title=1"><script>|a_b&amp;c%d #{$~^\\} [x](y) *z* `q`\n\x1b[31m'
"""Markup of HTML, Markdown, LaTeX and terminals, as a text or a name may hold it."""


def dom_of(page: Path, profile: Path) -> str:
    """Open a page in headless Chromium, let its scripts run, and return what the document has become."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
    command = ["chromium", *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def assert_nothing_ran(dom: str) -> None:
    """Fail where a hostile text became part of the document."""
    assert "<title>1</title>" not in dom
    assert "<img" not in dom
    assert "&lt;img src=x onerror=" in dom, "the text is not on the page"

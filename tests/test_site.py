"""The documentation site: built without warnings, docstrings and notebooks in it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("mkdocs", "material", "mkdocstrings", "mkdocs_jupyter")
missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}; make docs installs them")
def test_it_is_built_without_warnings(tmp_path):
    """`--strict` makes an error of a warning: a dead link, a page that is in no menu."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0 and "WARNING" not in built.stderr, built.stderr
    pages = {str(p.relative_to(tmp_path / "site")): p for p in (tmp_path / "site").rglob("*.html")}
    reference = pages["reference.html"].read_text()
    assert "Hears of a run" in reference and 'id="jdd.create_network"' in reference
    for page in pages.values():
        dead = re.findall(r'href="(?!https?:)([^"]*\.md(?:#[^"]*)?)"', page.read_text())
        assert not dead, f"{page}: {dead}"
    assert len(pages) > 25 and "distilled: " in pages["notebooks/distil.html"].read_text()

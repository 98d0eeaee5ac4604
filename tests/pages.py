"""The documents, and what of them is read."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
USER_PAGES = [README, *sorted(p for p in (ROOT / "docs").rglob("*.md"))]
PAGES = [
    *USER_PAGES,
    ROOT / "RESULTS.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
]
NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))


def name_of(path):
    return str(path.relative_to(ROOT))


def pages(paths):
    return pytest.mark.parametrize("page", paths, ids=name_of)


def text_of(page):
    """Of a notebook, as it were a page."""
    if page.suffix == ".md":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return "\n\n".join(
        f"```python\n{text}\n```" if kind == "code" else text for kind, text in texts
    )


def without_code_blocks(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(page):
    titles = re.findall(r"^#+ (.*)$", without_code_blocks(page.read_text()), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in titles]
    return {re.sub(r"[\s-]+", "-", slug) for slug in slugs}


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))

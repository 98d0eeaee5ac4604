"""What the documents say: links, commands and words are held against the code."""

import contextlib
import importlib
import io
import re

import pytest

from jdd.cli.parser import _RENAMED_FLAGS
from tests.pages import (
    NOTEBOOKS,
    PAGES,
    README,
    ROOT,
    USER_PAGES,
    anchors,
    name_of,
    pages,
    text_of,
    without_code,
    without_code_blocks,
)
from tests.test_imports import FLOORS

METHODS_OF_COMMANDS = (
    *("bptt", "mtt", "pad", "dc", "idc", "dm", "datadam", "ncfm", "frepo", "herding"),
)
WORDS = (  # plain errors, each with what to say instead in design's names
    r"data sets?\b",
    r"\brightly\b",
    r"\bgo(es)? on from\b",
    r"\bgo(es)? on (with|where)\b",
    r"\bbeside\b",
    r"\bis another one\b",
    r"\bdo away with\b",
    r"\bdark for much\b",
    r"\bjudged\b",
    r"\bhardly depends?\b",
)


@pages([*PAGES, *NOTEBOOKS])
def test_links_and_pictures_are_there(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code_blocks(text_of(page))):
        assert "://" not in target, f"a link to elsewhere: {target}"
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place), target


@pages([*NOTEBOOKS, *(page for page in PAGES if page.name != "CHANGELOG.md")])
def test_words(page):
    text = without_code(text_of(page))
    for word in WORDS:
        match = re.search(word, text, re.IGNORECASE)
        assert match is None, f"{match[0]!r}: see the design's names"


def test_the_site_has_every_page():
    pages = re.findall(r": (\S+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    paths = [*(ROOT / "docs").rglob("*.md"), *NOTEBOOKS]
    files = [path.relative_to(ROOT / "docs") for path in paths]
    assert sorted(pages) == sorted(str(path) for path in files if path.parts[0] != "results")


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) < 120


_HELP = {}


def help_of(script, *arguments):
    """What `--help` prints."""
    if (script, arguments) not in _HELP:
        main = importlib.import_module(f"jdd.cli.{script}").main
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*arguments, "--help"])
        _HELP[script, arguments] = printed.getvalue()
    return _HELP[script, arguments]


def flags_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def test_flags_that_are_named_alone_exist():
    flags = {"--help", "--strict", "--hidden", "--plugin", "--durations"}
    for script in sorted(p.stem for p in (ROOT / "bin").glob("*.py")):
        flags |= flags_in(help_of(script))
    for method in METHODS_OF_COMMANDS:
        flags |= flags_in(help_of("distill", "--method", method))
    for page in USER_PAGES:
        text = without_code_blocks(page.read_text())
        if page.name == "coming-from-pytorch.md":  # the other columns have other people's
            text = "\n".join(line.split("|")[-2] for line in text.splitlines() if "|" in line)
        if page.name == "comparison.md":  # so have the other rows
            text = "\n".join(line for line in text.splitlines() if line[:1] != "|")
        codes = re.findall(r"`(--[^`]*)`", text)
        for flag in sorted({flag for code in codes for flag in flags_in(code)}):
            if not flag.startswith("--xla"):
                assert flag in flags, f"{name_of(page)}: {flag}"


def test_help_names_what_datasets_of_one_s_own_begin_with():
    words, epilog = help_of("distill").split("datasets: ")
    for name in ("folder:PATH", "arrays:FILE.npz"):
        assert name in " ".join(words.split()) and name in epilog


@pytest.mark.parametrize(
    ("page", "example"),
    [
        *(("own-method", "method"), ("own-method", "network"), ("own-method", "listener")),
        ("own-data", "dataset"),
    ],
)
def test_pages_show_the_examples_as_they_are(page, example):
    code = (ROOT / f"examples/own_{example}.py").read_text()
    assert f"```python\n{code}```\n" in (ROOT / f"docs/{page}.md").read_text()


EXAMPLES = {path.read_text(): path.name for path in (ROOT / "examples").glob("*.py")}
BLOCKS = [
    pytest.param(page, block, id=f"{name_of(page)}-{i}")
    for page in PAGES
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    if block not in EXAMPLES  # which tests/test_examples.py and tests/cli/test_listeners.py run
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_python_blocks_run_as_they_are_printed(page, block, capsys):
    exec(compile(block, str(page), "exec"), {"__name__": "block"})
    if page == README:
        before, after = (float(line.split()[0]) for line in capsys.readouterr().out.splitlines())
        assert after > before + 5


@pages([ROOT / "docs/dev/architecture.md", ROOT / "docs/dev/dependencies.md"])
def test_names_in_code_exist(page):
    for name in set(re.findall(r"`(jdd(?:\.\w+)+)`", page.read_text())):
        place, parts = importlib.import_module("jdd"), name.split(".")[1:]
        for i, part in enumerate(parts):
            with contextlib.suppress(ImportError):
                importlib.import_module(".".join(["jdd", *parts[: i + 1]]))
            assert hasattr(place, part), name
            place = getattr(place, part)


def test_the_changelog_names_what_was_renamed():
    text = (ROOT / "CHANGELOG.md").read_text()
    for old, new in _RENAMED_FLAGS.items():
        assert f"| `{old}` | `{new}` |" in text


def test_the_table_of_rooms_is_the_order_that_imports_are_tested_against():
    table = (ROOT / "docs/dev/architecture.md").read_text()
    assert tuple(re.findall(r"^\|[^|]*\| `([\w.]+)` \|", table, re.MULTILINE)) == FLOORS
    rooms = {p.stem for p in (ROOT / "jdd").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert {room for room in FLOORS if "." not in room} == rooms - {"__init__", "__pycache__", "py"}

"""What the documents say: links, commands, tables and words are held against the code.

`python -m tests.test_documents` writes the tables of settings, presets and figures anew.
"""

import contextlib
import importlib
import io
import json
import re
import sys
from pathlib import Path

import pytest

from jdd.cli.parser import _RENAMED_FLAGS, flag_of, in_flags
from jdd.difficulty import DifficultySettings
from jdd.evaluation import EvaluationSettings
from jdd.experts import ExpertSettings
from jdd.methods import registry
from jdd.report import recommendation, results
from jdd.runs import RunResult
from jdd.runs.settings import LoopSettings
from jdd.settings import defaults, helps
from jdd.synthetic import StorageSettings, ready
from tests.test_imports import FLOORS

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
METHOD_PAGES = sorted((ROOT / "docs/methods").glob("*.md"))
TABLE_PAGES = [*METHOD_PAGES, ROOT / "docs/presets.md", ROOT / "docs/index.md"]
GROUPS = {
    "storage": StorageSettings,
    "loop": LoopSettings,
    "evaluation": EvaluationSettings,
    "experts": ExpertSettings,
    "difficulty": DifficultySettings,
}
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


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def anchors(page):
    titles = re.findall(r"^#+ (.*)$", without_code_blocks(page.read_text()), re.MULTILINE)
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).strip() for title in titles]
    return {re.sub(r"[\s-]+", "-", slug) for slug in slugs}


def without_code_blocks(text):
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


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


# Flags; whole command lines: tests/cli/test_documented_commands.py


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


# Settings


def kind_of(name):
    return GROUPS[name] if name in GROUPS else registry.METHODS[name].settings


def settings_table(title):
    """The rows of `<!-- settings: NAME -->`, or of `NAME beyond OTHER`: those that OTHER lacks."""
    name, _, other = title.partition(" beyond ")
    words, values = helps(kind_of(name)), defaults(kind_of(name))
    shared = defaults(kind_of(other)) if other else {}
    head = ["| setting | default | |", "| --- | --- | --- |"]
    return head + [
        f"| `{flag_of(field)}` | {_formatted(value)} | {_escaped(in_flags(words[field]))} |"
        for field, value in values.items()
        if field not in shared or shared[field] != value
    ]


def _formatted(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _escaped(text):
    text = re.sub(r"(?<!`)(--[a-z-]+)", r"`\1`", text)
    return text.replace("|", "\\|")


def presets_table():
    """The rows of `<!-- presets -->`: for what each method's presets have settings of their own."""
    lines = ["| method | `quick` | `paper` | `released` |", "| --- | --- | --- | --- |"]
    for name, entry in registry.METHODS.items():
        if not entry.is_coreset:
            cells = [_rows(entry.presets[preset].rows) for preset in ("quick", "paper", "released")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def methods_table():
    """The rows of `<!-- methods -->`: each method's best accuracy, and its minutes."""
    cells = [(dataset, ipc) for dataset in ("mnist", "cifar10") for ipc in (1, 10)]
    heads = [f"{dataset}, {ipc} per class" for dataset, ipc in cells]
    lines = [f"| method | {' | '.join(heads)} |", f"| --- |{' --- |' * len(cells)}"]
    best = {}
    for row in sorted(recommendation.stored(), key=lambda row: row["accuracy"]):
        best[row["method"], row["dataset"], row["ipc"]] = row
    for name in registry.METHODS:
        of_cells = [best.get((name, *cell)) for cell in cells]
        words = [_best_of(row) for row in of_cells]
        lines.append(f"| [{name}]({page_of(name)}) | {' | '.join(words)} |")
    return lines


def _best_of(row):
    """Such as "94.4 (1.5 min, factor 2)"."""
    if row is None:
        return "–"
    notes = [f"{row['minutes']:.1f} min"] if row["minutes"] else []
    notes += [f"factor {row['factor']}"] if row["factor"] > 1 else []
    return f"{100 * row['accuracy']:.1f}" + (f" ({', '.join(notes)})" if notes else "")


def measured_table(methods):
    """The rows of `<!-- measured: METHOD … -->`: what docs/results has of these methods."""
    columns = ["method", "images per class", "accuracy", "plain", "random", "iterations", "minutes"]
    heads = ["dataset", *columns, "network"]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    runs = [RunResult.load(path) for path in results.find([str(ROOT / "docs/results")])]
    for group in sorted(results.grouped(runs), key=lambda group: group[0].dataset):
        first = group[0]
        if first.method not in methods or first.choose != "validation":
            continue
        cells = dict(zip(results._COLUMNS, results._cells(0, group), strict=True))
        options = first.recipe.options
        sizes = ", ".join(f"{name} {options[name]}" for name in ("width", "depth"))
        row = [first.dataset, *(cells[name] for name in columns), sizes]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def ready_table():
    """The rows of `<!-- ready sets -->`: their names and accuracies, by dataset."""
    names = {}
    for name in ready.names():
        best = RunResult.load(ready.resolve(name) / "result.json").best.accuracy.mean
        names.setdefault(name.partition("/")[0], []).append(f"`{name}` {100 * best:.1f}")
    rows = [f"| {dataset} | {', '.join(sets)} |" for dataset, sets in names.items()]
    return ["| dataset | ready sets, and their test accuracy in % |", "| --- | --- |", *rows]


def page_of(method):
    """Of the methods that share one, too."""
    same = {"dsa": "dc", "random": "coresets", "herding": "coresets", "k_center": "coresets"}
    return f"{same.get(method, method)}.md"


def _rows(rows):
    same = {}
    for dataset, counts in rows.items():
        sizes = ", ".join("above 50" if count == 51 else str(count) for count in sorted(counts))
        same.setdefault(sizes, []).append(dataset)
    return "; ".join(f"{', '.join(names)}: {counts}" for counts, names in same.items())


_TABLE = re.compile(
    r"<!-- ((?:settings|measured): [a-z0-9_ ]+|presets|methods|ready sets) -->\n"
    r"((?:\n?\|[^\n]*\n)*)"
)


def table_of(mark):
    whole = {"presets": presets_table, "methods": methods_table, "ready sets": ready_table}
    if mark in whole:
        return whole[mark]()
    kind, _, names = mark.partition(": ")
    return settings_table(names) if kind == "settings" else measured_table(names.split())


@pages(TABLE_PAGES)
def test_tables_are_the_code_s(page):
    for mark, table in _TABLE.findall(page.read_text()):
        assert table.strip().splitlines() == table_of(mark), (
            f"{mark}: write it anew by python -m tests.test_documents"
        )


def test_every_method_has_a_page_with_its_settings():
    marks = [m for page in METHOD_PAGES for m, _ in _TABLE.findall(page.read_text())]
    documented = {mark.split()[1] for mark in marks if mark.startswith("settings: ")} | {
        "random",
        "k_center",
        "dsa",
    }
    assert documented == {*registry.METHODS, *GROUPS}
    assert registry.METHODS["dsa"].settings is registry.METHODS["dc"].settings
    assert registry.METHODS["k_center"].settings is registry.METHODS["herding"].settings
    assert not defaults(registry.METHODS["random"].settings)


def test_measured_figures_are_those_of_the_results():
    results = (ROOT / "RESULTS.md").read_text()
    for page in [README, *METHOD_PAGES]:
        for figure in re.findall(r"\d+\.\d ± \d+\.\d", page.read_text()):
            assert figure in results, f"{name_of(page)}: {figure} stands nowhere in RESULTS.md"


# Examples and names


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


# The house


def test_the_table_of_rooms_is_the_order_that_imports_are_tested_against():
    table = (ROOT / "docs/dev/architecture.md").read_text()
    assert tuple(re.findall(r"^\|[^|]*\| `([\w.]+)` \|", table, re.MULTILINE)) == FLOORS
    rooms = {p.stem for p in (ROOT / "jdd").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert {room for room in FLOORS if "." not in room} == rooms - {"__init__", "__pycache__", "py"}


def write_tables():
    """Writes the tables of settings, presets and figures in the documents."""
    for page in TABLE_PAGES:
        text = _TABLE.sub(
            lambda m: "\n".join([f"<!-- {m[1]} -->", "", *table_of(m[1]), ""]), page.read_text()
        )
        page.write_text(text)


if __name__ == "__main__":
    sys.exit(write_tables())

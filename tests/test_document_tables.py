"""Tables in the documents, and the figures that they take from the results, are those of the code.

`python -m tests.test_document_tables` writes them anew.
"""

import re
import sys

from jdd.cli.parser import flag_of, in_flags
from jdd.difficulty import DifficultySettings
from jdd.evaluation import EvaluationSettings
from jdd.experts import ExpertSettings
from jdd.methods import registry
from jdd.report import recommendation, results
from jdd.runs import RunResult
from jdd.runs.settings import LoopSettings
from jdd.settings import defaults, helps
from jdd.synthetic import StorageSettings, ready
from tests.pages import README, ROOT, name_of, pages

METHOD_PAGES = sorted((ROOT / "docs/methods").glob("*.md"))
TABLE_PAGES = [*METHOD_PAGES, ROOT / "docs/presets.md", ROOT / "docs/index.md"]
GROUPS = {
    "storage": StorageSettings,
    "loop": LoopSettings,
    "evaluation": EvaluationSettings,
    "experts": ExpertSettings,
    "difficulty": DifficultySettings,
}


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
            cells = [_rows(entry.presets[preset]) for preset in ("quick", "paper", "released")]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def methods_table():
    """The rows of `<!-- methods -->`: each method's best accuracy, and its minutes."""
    cells = [(dataset, ipc) for dataset in ("mnist", "cifar10") for ipc in (1, 10)]
    heads = [f"{dataset}, {ipc} per class" for dataset, ipc in cells]
    lines = [f"| method | {' | '.join(heads)} |", f"| --- |{' --- |' * len(cells)}"]
    best = {}
    quick = [row for row in recommendation.stored() if "--preset quick" in row["command"]]
    for row in sorted(quick, key=lambda row: row["accuracy"]):
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
        result = RunResult.load(ready.resolve(name) / "result.json")
        factor = int(result.storage.get("factor", 1))
        words = f"`{name}` {100 * result.best.accuracy.mean:.1f}"
        words += f" (factor {factor})" if factor > 1 else ""
        names.setdefault(name.partition("/")[0], []).append(words)
    rows = [f"| {dataset} | {', '.join(sets)} |" for dataset, sets in names.items()]
    return ["| dataset | ready sets, and their test accuracy in % |", "| --- | --- |", *rows]


def page_of(method):
    """Of the methods that share one, too."""
    same = {"dsa": "dc", "random": "coresets", "herding": "coresets", "k_center": "coresets"}
    return f"{same.get(method, method)}.md"


def _rows(preset):
    same = {}
    for dataset, counts in preset.rows.items():
        words = (str(count) for count in sorted(counts) if count < preset.any_from)
        more = [f"above {preset.any_from - 1}"] if preset.any_from in counts else []
        sizes = ", ".join([*words, *more])
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
            f"{mark}: write it anew by python -m tests.test_document_tables"
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


def write_tables():
    """Writes the tables of settings, presets and figures in the documents."""
    for page in TABLE_PAGES:
        text = _TABLE.sub(
            lambda m: "\n".join([f"<!-- {m[1]} -->", "", *table_of(m[1]), ""]), page.read_text()
        )
        page.write_text(text)


if __name__ == "__main__":
    sys.exit(write_tables())

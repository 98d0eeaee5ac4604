"""The settings that a preset selects."""

from jdd.runs import Selection


def selected(dataset, ipc, preset="paper", method="mtt", init="real"):
    return Selection(method, dataset, ipc, init, preset=preset)

"""Errors that a user causes and can mend, and the words for them.

A message names a setting by its field between backticks (`lr_img`); whoever shows the message may
replace it, as the command line does by the flag.
"""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """What the user asked for cannot be done; the message is one line that says what to do.

    Scripts turn it into that line on standard error and exit code 2; anything else is a bug and
    keeps its traceback. What a damaged file holds may stand in the message: line breaks and other
    letters that a terminal would act on are written as escapes.
    """

    def __init__(self, message: str) -> None:
        if not message.isprintable():
            escaped = (c if c.isprintable() else repr(c)[1:-1] for c in message)
            message = "".join(escaped)
        super().__init__(message)


class SettingError(UserError):
    """A setting has a value that cannot be used.

    Attributes:
      field: the setting's name.
      value: what it was set to.
      problem: what is wrong with it, or what to write instead.
    """

    def __init__(self, field: str, value: Any, problem: str) -> None:
        super().__init__(f"`{field}` {value}: {problem}")
        self.field, self.value, self.problem = field, value, problem


def shortened(value: Any) -> str:
    """A value as text, cut to a length that leaves a message one line."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


class Interrupted(Exception):
    """Work stopped because it was asked to; its state is stored, or the message says otherwise."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """What to write instead of an unknown name: "did you mean 'x'? choose from x, y"."""
    names = sorted(choices)
    lowered = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.4)
    hint = f"did you mean '{lowered[near[0]]}'? " if near else ""
    return f"{hint}choose from {', '.join(names)}"


def unknown_value(field: str, name: str, choices: Iterable[str], more: str = "") -> SettingError:
    """The error for a setting that names something unknown: the nearest name, and all of them."""
    return SettingError(field, f"'{name}'", nearest(name, choices) + more)


def unknown(kind: str, name: str, choices: Iterable[str], more: str = "") -> UserError:
    """The error for a name that is not in a registry: it names the nearest one, and all of them."""
    return UserError(f"unknown {kind} '{name}': {nearest(name, choices)}{more}")

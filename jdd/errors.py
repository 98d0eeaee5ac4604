"""The error that a user can cause and mend, and the words for it."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """What the user asked for cannot be done; the message is one line that says what to do.

    Scripts turn it into that line on standard error and exit code 2; anything else is a bug and
    keeps its traceback.
    """


class Interrupted(Exception):
    """Work stopped because it was asked to; what is needed to go on is stored, or the text says."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a registry: it names the nearest one, and all of them."""
    names = sorted(known)
    lowered = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.0)
    hint = f"did you mean '{lowered[near[0]]}'? " if near else ""
    return UserError(f"unknown {kind} '{name}': {hint}choose from {', '.join(names)}")

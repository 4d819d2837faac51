"""The one error tree of p2zoo. A message says where, what came, what is allowed and what to do.

`P2Error` is what the command line prints without a traceback; anything else is a bug.
"""

import difflib
from collections.abc import Iterable


class P2Error(ValueError):
    """Wrong input or a situation the user can mend."""

    exit_code = 2  # of the command line: 2 = what was asked cannot be done as asked


class RunFailed(P2Error):  # noqa: N818 - says what happened
    """The request was fine, but a step failed its check (a gate, a full disk, a diverged loss)."""

    exit_code = 1


class FitError(P2Error):
    """A law cannot be fitted to these rows at all. `code` is for programs."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


CLOSE = 3  # names told of a long list


def unknown_name(kind: str, got: object, known: Iterable[str], where: str, listed_by: str = "") -> P2Error:
    """The error for a name outside a closed set: the nearest name and all names.

    Of a set too long to read only the nearest are told, and the command that lists it, `listed_by`.
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(got), known, n=CLOSE if listed_by else 1)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if listed_by:
        more = f"all {len(known)}" if not near else f"{len(known) - len(near)} others"
        return P2Error(f"{where}: unknown {kind} {got!r}.{hint} `{listed_by}` lists {more}.")
    return P2Error(f"{where}: unknown {kind} {got!r}.{hint} Known: {', '.join(known) or 'none'}.")

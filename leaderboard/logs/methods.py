"""Pruning methods as a log, a card, a plot and a price must know them: a row each, without PyTorch.

How a method prunes is its row in zoo/pruning/methods.py. A log names `a+b` where b went after a, and `none` for a
control. A method without a row here may stand in an imported log: it is drawn and taken as leaving dense weights.
"""

import re
from dataclasses import dataclass

CONTROL = "none"


@dataclass(frozen=True)
class MethodFacts:
    """What is known of a method. `color` is apart from the others for the colour-blind, and so is the marker."""

    name: str
    sentence: str  # what happened to the model, for cards
    tag: str  # on the Hub
    color: str
    marker: str  # plotly's name
    masked: bool = False  # zeros that a mask keeps: training still costs dense compute
    takes_rate: bool = True  # False: the rate follows from the method
    zeros: float | None = None  # then the share of the attention and MLP weights that are zero


METHODS: dict[str, MethodFacts] = {
    row.name: row
    for row in (
        MethodFacts("depth", "whole layers were removed", "depth-pruned", "#3b6ea5", "circle"),
        MethodFacts("width", "every layer was made narrower", "width-pruned", "#b5852a", "square"),
        MethodFacts(
            "2:4",
            "of every four neighbouring weights in the attention and MLP matrices two are zero",
            "2of4-sparse",
            "#7a5195",
            "diamond",
            masked=True,
            takes_rate=False,
            zeros=0.5,
        ),
        MethodFacts(
            "unstructured",
            "single weights of the attention and MLP matrices are zero",
            "unstructured-pruned",
            "#2f7f5f",
            "cross",
            masked=True,
        ),
    )
}
OTHER_METHOD = MethodFacts("", "", "", "#5f5a51", "x")  # how one without a row is drawn


def parts_of(method: str) -> list[str]:
    """The methods that `a+b` names, in the order they were done."""
    return method.split("+")


def is_known(method: str) -> bool:
    """Whether every part of a method has a row, each part once; or it is the control."""
    parts = parts_of(method)
    return method == CONTROL or (len(set(parts)) == len(parts) and set(parts) <= set(METHODS))


def is_masked(method: str) -> bool:
    """Whether some part of a method leaves zeros that a mask keeps."""
    return any(METHODS[part].masked for part in parts_of(method) if part in METHODS)


def takes_rate(method: str) -> bool:
    """Whether a rate is asked for: not for a control, nor where the one method has only one rate."""
    return method != CONTROL and (method not in METHODS or METHODS[method].takes_rate)


def least_rate(method: str, n0: float, n0_nonembedding: float) -> float:
    """The share of all parameters that a method takes whatever is asked: what its parts of a fixed pattern zero."""
    zeros = (METHODS[part].zeros for part in parts_of(method) if part in METHODS)
    return sum(share or 0.0 for share in zeros) * n0_nonembedding / n0


def method_named(name: str) -> str:
    """A method as people write it: 2of4 is 2:4, as in the names of files."""
    return re.sub(r"(\d+)of(\d+)", r"\1:\2", name)

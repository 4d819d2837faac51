"""Progress bars of the libraries below are switched off: p2zoo shows its own. Nothing else is silenced."""

import datasets
from transformers.utils import logging


def quiet() -> None:
    """Switch off the bars of transformers and datasets; their warnings stay."""
    logging.disable_progress_bar()
    datasets.disable_progress_bars()

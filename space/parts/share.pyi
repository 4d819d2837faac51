"""A slider for a share that takes whatever a visitor leaves in its box."""

import gradio as gr

class Share(gr.Slider):
    """Gradio's slider; an emptied box is None, and a share outside the range counts as its end."""

    is_template = True  # drawn as a slider

    def preprocess(self, payload: float | None) -> float | None:
        """The share, within the slider's range; None where the box is empty."""
        return None if payload is None else min(max(payload, self.minimum), self.maximum)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

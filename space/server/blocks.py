"""Gradio's Blocks for many short visits: a session is cheap, and a call that lacks values is refused in words."""

from typing import Any

import gradio as gr
from gradio.blocks import BlocksConfig


class Refused(gr.Error):
    """A refusal whose text is the sentence itself; never printed as a traceback."""

    def __init__(self, sentence: str):
        super().__init__(sentence, print_exception=False)

    def __str__(self) -> str:
        return str(self.message)


class Blocks(gr.Blocks):
    """Gradio's, with the two differences that the module names."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.default_config = _Config(self)

    def validate_inputs(self, block_fn: Any, inputs: list[Any]) -> None:
        """Refuse fewer values than the function has parameters."""
        if len(inputs) < (most := len(block_fn.inputs)):
            by_name = f"send them by name to /gradio_api/call/v2/{block_fn.name}"
            raise Refused(f"{block_fn.name}: {most} values are expected in order, {len(inputs)} came; or {by_name}.")


class _Config(BlocksConfig):
    """What the app is made of. Its copies, one a session, describe no component: only what Gradio renders anew needs
    that, and to describe all of them takes most of the time of a short call and most of the memory of a session."""

    def __copy__(self) -> "_Config":
        own = _Config(self.root_block)
        own.__dict__.update(super().__copy__().__dict__)
        return own

    def config_for_block(self, _id: int, rendered_ids: list[int], block: Any, renderable: Any = None) -> dict[str, Any]:
        """The component as the front end is told of it at the start."""
        if renderable is None and self is not self.root_block.default_config:
            return {}
        return super().config_for_block(_id, rendered_ids, block, renderable)

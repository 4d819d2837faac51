"""Shapes of decoders, read from their config.json without weights or PyTorch, and what they count."""

from leaderboard.shapes.architectures import ARCHITECTURES, Architecture, architecture_of
from leaderboard.shapes.configs import bundled_config
from leaderboard.shapes.shape import Shape, layer_parameters, parameters, parameters_nonembedding, shape_of

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Shape",
    "architecture_of",
    "bundled_config",
    "layer_parameters",
    "parameters",
    "parameters_nonembedding",
    "shape_of",
]

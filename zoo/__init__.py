"""Prune a checkpoint, post-train it, log its loss, publish it. The light parts import no torch."""

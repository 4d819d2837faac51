"""Pruning, left to right: spec (what is asked) -> plan (arithmetic) -> scores or sums (measured) -> prune (surgery).

`depth` and `width` make the model smaller, `sparsity` leaves zeros, `obs` is SparseGPT's core; `blocks` walks text
through the model one block at a time, and `masks` keeps zeros through training. `spec` and `plan` import no
torch, so a recipe is judged before anything heavy is loaded.
"""

"""Pruning, left to right: spec (what is asked) -> plan (arithmetic) -> scores (one forward) -> prune (surgery).

`depth`, `width` and `sparsity` each hold one method; `masks` keeps 2:4 zeros through training. `spec`
and `plan` import no torch, so a recipe is judged before anything heavy is loaded.
"""

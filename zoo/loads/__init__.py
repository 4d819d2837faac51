"""Where else a model loads: tried in transformers 4, and by written rules for what reads it by other code."""

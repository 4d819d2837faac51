"""What a run reads: the base model, text, tokens."""

"""Held-out loss, straight from hidden states."""

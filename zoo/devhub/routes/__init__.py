"""The Hub's HTTP addresses, a module a kind."""

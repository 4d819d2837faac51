"""A recipe: one experiment as frozen data, its files, and those that ship."""

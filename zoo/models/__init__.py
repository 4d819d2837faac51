"""Model families and sizes as data."""

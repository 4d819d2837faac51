"""Laws as data: what a law is, the catalogue, and laws from a user's own module."""

"""Many recipes, and what they say as one page."""

"""Published recoveries at real sizes: the figures as data, those nearest to a question, and a law fitted to them.

The second tier beside run logs: other texts, other recipes, one token count each. README.md says what each table is.
"""

from leaderboard.evidence.figures import COLUMNS, Source, load_evidence, load_sources, nearest, records

__all__ = ["COLUMNS", "Source", "load_evidence", "load_sources", "nearest", "records"]

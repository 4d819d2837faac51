"""Other people's logs as run logs: read (readers.py), questioned (traps.py), put into the contract (build.py)."""

from leaderboard.importing.build import Imported, import_log, write_imported
from leaderboard.importing.facts import Facts
from leaderboard.importing.readers import read_runs

__all__ = ["Facts", "Imported", "import_log", "read_runs", "write_imported"]

"""How many post-training tokens does a pruned LLM need? Run logs, laws, ASD, ranking and budgets.

From logs to an answer:

    logs = load_logs()                       # bundled seed; or a file, a folder, a Hub dataset id
    table = rank(logs.frame)                 # a row a law
    recommend_tokens(logs.frame, family="llama-3", method="depth", rate=0.25, n0=34e6, l0=2.72).tokens
"""

from leaderboard.asd import asd, asd_doubling, noise_floor
from leaderboard.budget import Budget, recommend_tokens
from leaderboard.cells import score_cells
from leaderboard.errors import FitError, P2Error
from leaderboard.evidence.recovery import Recovery, recovery
from leaderboard.fit import Fit, fit
from leaderboard.law import Law, Linear, Nonlinear, Pin, Powers
from leaderboard.laws import LAWS
from leaderboard.logs import Logs, load_logs
from leaderboard.plan import plan
from leaderboard.rank import rank
from leaderboard.recommend import recommended_fit
from leaderboard.userlaw import load_law
from leaderboard.wanted import wanted

__all__ = [
    "LAWS",
    "Budget",
    "Fit",
    "FitError",
    "Law",
    "Linear",
    "Logs",
    "Nonlinear",
    "P2Error",
    "Pin",
    "Powers",
    "Recovery",
    "asd",
    "asd_doubling",
    "fit",
    "load_law",
    "load_logs",
    "noise_floor",
    "plan",
    "rank",
    "recommend_tokens",
    "recommended_fit",
    "recovery",
    "score_cells",
    "wanted",
]

"""How many post-training tokens does a pruned LLM need? Run logs, laws, ASD, ranking and budgets.

From logs to an answer:

    logs = load_logs()                       # bundled seed; or a file, a folder, a Hub dataset id
    table = rank(logs.frame)                 # a row a law
    recommend_tokens(logs.frame, family="llama-3", method="depth", rate=0.25, n0=34e6, l0=2.72).tokens
    forecast(logs.frame, own).predict(1e7)   # own: the rows so far of a run of yours
"""

from leaderboard.errors import FitError, P2Error
from leaderboard.evidence.recovery import Recovery, recovery
from leaderboard.fitting.fit import fit
from leaderboard.fitting.result import Fit
from leaderboard.laws.catalogue import LAWS
from leaderboard.laws.law import Law, Linear, Nonlinear, Pin, Powers
from leaderboard.laws.user import load_law
from leaderboard.logs.frame import Logs, on_yardstick
from leaderboard.logs.load import load_logs
from leaderboard.planning.budget import Budget, recommend_tokens
from leaderboard.planning.forecasting.forecast import Forecast, forecast
from leaderboard.planning.plan import plan
from leaderboard.planning.pruned_loss import pruned_loss
from leaderboard.planning.recommend import recommended_fit
from leaderboard.planning.wanted import wanted
from leaderboard.ranking.asd import asd, asd_doubling, noise_floor
from leaderboard.ranking.cells import score_cells
from leaderboard.ranking.rank import rank

VERSION = "0.1.0"  # as in pyproject.toml: where p2zoo runs without being installed, on a Space, nothing else says it

__all__ = [
    "LAWS",
    "VERSION",
    "Budget",
    "Fit",
    "FitError",
    "Forecast",
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
    "forecast",
    "load_law",
    "load_logs",
    "noise_floor",
    "on_yardstick",
    "plan",
    "pruned_loss",
    "rank",
    "recommend_tokens",
    "recommended_fit",
    "recovery",
    "score_cells",
    "wanted",
]

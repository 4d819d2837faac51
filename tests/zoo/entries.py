"""What tests have fresh processes do."""

import os
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

from leaderboard.errors import P2Error
from zoo.distributed import join

known = False  # whether somebody in this process has said so


def facts() -> None:
    """What a fresh process finds in itself."""
    print(known, torch.initial_seed() == 5, threading.active_count(), torch.cuda.is_initialized())
    print(random.random(), np.random.random(), flush=True)
    print(*sys.argv[1:], Path.cwd(), os.environ.get("P2ZOO_MINE"), sys.stdin.read() == "", sep="|")


def fail() -> None:
    """What a process does that goes wrong."""
    raise ArithmeticError("told in its last line")


def leave() -> None:
    """What a command does that refuses."""
    sys.exit(int(sys.argv[1]))


def stay() -> None:
    """What hangs."""
    Path(sys.argv[1]).touch()
    time.sleep(60)


def imported() -> None:
    """Whether PyTorch was there before anybody asked for it."""
    print("zoo.run.pipeline" in sys.modules)


def agree() -> None:
    """Whether the processes of a team see the same environment variable."""
    team = join()
    try:
        team.agree({"recipe": "the same", "GPU": os.environ[sys.argv[1]]})
    except P2Error as error:
        sys.exit(str(error))
    print("they agree")
    team.leave()


def leave_a_team() -> None:
    """What is left of a team's threads."""
    team = join()
    during = _group_threads(), team.total(1.0)
    team.leave()
    print(f"threads of groups: {during[0] > 0} and then {_group_threads()}.")


def _group_threads() -> int:
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())

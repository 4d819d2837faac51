"""A Hugging Face Hub for development and tests: the stock client, `hf`, `datasets` and `transformers` work with it.

    with serve(folder, users={"owner": token}) as url:
        subprocess.run([...], env=os.environ | client_env(url, token))

Repositories, LFS and regular uploads, commits, branches, tags, pull requests, discussions, a webhook and signing in
(OpenID Connect, for a Space's login button), durable on disk. Not here: Xet, organizations, gating, web pages, git
itself. From the data outwards: trees.py, objects.py, store.py, repos.py, pulls.py, then access.py, grants.py and the
routes, app.py and server.py. FastAPI and uvicorn come with the extra `hub` and are imported only when a hub starts.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from leaderboard.errors import P2Error

if TYPE_CHECKING:
    from zoo.devhub.webhook import Webhook


@contextlib.contextmanager
def serve(folder: str | os.PathLike[str], users: Mapping[str, str], webhook: "Webhook | None" = None) -> Iterator[str]:
    """A hub on a free port of 127.0.0.1 while the block runs, its state below `folder`.

    `users` maps names to tokens. Yields the URL. P2Error where the folder is in use or an extra is missing.
    """
    require_server()
    from zoo.devhub.server import in_thread

    with in_thread(folder, users, webhook) as url:
        yield url


def client_env(url: str, token: str) -> dict[str, str]:
    """What a client needs in its environment before it imports huggingface_hub."""
    return {
        "HF_ENDPOINT": url,
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",  # a server cannot refuse Xet
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets counts downloads on the real Hub
    }


def require_server() -> None:
    """Refuse clearly where the web server is not installed."""
    missing = [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise P2Error(f"hub: {' and '.join(missing)} not installed; run `pip install 'p2zoo[hub]'`.")

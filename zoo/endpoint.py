"""Which Hub this process talks to: `--endpoint`, else HF_ENDPOINT, else https://huggingface.co."""

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from leaderboard.errors import P2Error

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PROXIES = ("http", "https", "all")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
TIMEOUT_S = 120.0  # without any byte from the Hub; it takes its time over large commits


def use_endpoint(url: str | None) -> None:
    """Make `url` the Hub of this process. Before the first import of huggingface_hub, which reads it then."""
    if url is None:
        if "@" in urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc:
            raise P2Error("HF_ENDPOINT: expected http(s)://host[:port] without a user or password.")
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise P2Error("--endpoint: expected http(s)://host[:port] without a user or password.")
    os.environ["HF_ENDPOINT"] = url.rstrip("/")
    if not parts.hostname.endswith("huggingface.co"):
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # other servers take plain uploads


def spare_loopback() -> None:
    """Let no proxy stand between this machine and a Hub or a Space on it."""
    names = [name for name in (os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "").split(",") if name]
    if any(os.environ.get(f"{kind}_proxy") or os.environ.get(f"{kind.upper()}_PROXY") for kind in PROXIES):
        own = ",".join([*names, *(name for name in LOOPBACK if name not in names)])
        os.environ.update(no_proxy=own, NO_PROXY=own)


def hub(url: str | None) -> "HfApi":
    """The stock client for that Hub, with the user's stored token and a limit to its silence."""
    use_endpoint(url)
    import httpx2
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def client() -> httpx2.Client:
        made = default_client_factory()
        made.timeout = httpx2.Timeout(TIMEOUT_S, connect=10.0)
        return made

    set_client_factory(client)
    return HfApi(endpoint=url)

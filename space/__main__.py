"""`python -m space [--logs SOURCE]`: serve the leaderboard's web page."""

import argparse
import os
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted. On a Hugging Face Space the environment says where the logs are."""
    env = os.environ
    parser = argparse.ArgumentParser(prog="python -m space", description=main.__doc__)
    parser.add_argument("--logs", default=env.get("P2ZOO_LOGS"), help="file, folder or Hub dataset; default: seed")
    parser.add_argument("--refresh", type=float, default=600, metavar="SECONDS", help="how often to read it again")
    parser.add_argument("--host", default=env.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(env.get("GRADIO_SERVER_PORT", "7860")))
    asked = parser.parse_args(arguments)
    if not asked.refresh >= 1:
        parser.error("--refresh: a number of seconds, 1 or more")
    env.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no request to anybody
    env.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000")  # events; Gradio would sum all up after every one
    import uvicorn

    from space.app import build
    from space.server.store import Store

    store = Store.open(asked.logs, mounted=env.get("P2ZOO_MOUNTED_LOGS"))
    app = build(store, env.get("P2ZOO_WEBHOOK_SECRET"))
    store.warm()  # not before: the pages come first
    store.keep_fresh(asked.refresh)
    print(f"p2zoo: http://{asked.host}:{asked.port}", flush=True)
    uvicorn.run(app, host=asked.host, port=asked.port, log_level="warning")


if __name__ == "__main__":
    main()

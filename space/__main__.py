"""`python -m space [--logs SOURCE]`: serve the leaderboard's web page."""

import argparse
import os


def main() -> None:
    """Serve until interrupted. On a Hugging Face Space the environment says where the logs are."""
    parser = argparse.ArgumentParser(prog="python -m space", description=main.__doc__)
    parser.add_argument(
        "--logs", default=os.environ.get("P2ZOO_LOGS"), help="file, folder or Hub dataset; default: seed"
    )
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    asked = parser.parse_args()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # no request to anybody
    import uvicorn

    from space.app import build
    from space.store import Store

    store = Store.open(asked.logs)
    store.warm()
    print(f"p2zoo: http://{asked.host}:{asked.port}", flush=True)
    uvicorn.run(build(store), host=asked.host, port=asked.port, log_level="warning")


if __name__ == "__main__":
    main()

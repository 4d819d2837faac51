"""`p2zoo dataset`: set up a log dataset, and check its pull requests as they come."""

from typing import Annotated

import typer

from zoo.cli.options import Endpoint
from zoo.endpoint import hub

app = typer.Typer(help="Set up a log dataset, and check its pull requests as they come.", no_args_is_help=True)
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="Hub id of the log dataset, e.g. org/p2-logs.")]


@app.command()
def init(
    dataset: Dataset,
    seed: Annotated[bool, typer.Option("--seed", help="Also upload the 37 bundled runs.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new dataset private.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Create a log dataset, or bring its card up to date; run again it changes nothing.

    Example: `p2zoo dataset init org/p2-logs --seed`
    """
    api = hub(endpoint)
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from zoo.publish.log_dataset import init as carry_out

    disable_progress_bars()  # one for each of 37 small files says nothing
    written = carry_out(api, dataset, seed=seed, private=private)
    print(f"{dataset}: {len(written)} file(s) written" if written else f"{dataset}: up to date")


@app.command()
def webhook(
    dataset: Dataset,
    secret: Annotated[
        str, typer.Option(envvar="P2ZOO_WEBHOOK_SECRET", help="The webhook's secret; better from the environment.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=1, max=65535)] = 8124,
    merge_if_clean: Annotated[bool, typer.Option("--merge-if-clean", help="Merge what passes.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Serve POST /webhook: check and comment every pull request that the Hub tells of.

    Example: `P2ZOO_WEBHOOK_SECRET=... p2zoo dataset webhook org/p2-logs --port 8124`
    """
    from zoo.endpoint import use_endpoint

    use_endpoint(endpoint)
    from zoo.review.webhook import run

    run(dataset, secret, host=host, port=port, merge_if_clean=merge_if_clean)


def check_pull(dataset: str, num: int, comment: bool, merge_if_clean: bool, endpoint: str | None, as_json: bool) -> int:
    """`p2zoo check DATASET --pr N`: the exit code, 0 clean, 1 refused."""
    api = hub(endpoint)
    from zoo.review.check import check_pull_request, show

    verdict = check_pull_request(api, dataset, num, comment=comment, merge_if_clean=merge_if_clean)
    show(verdict, as_json)
    return 0 if verdict.ok else 1

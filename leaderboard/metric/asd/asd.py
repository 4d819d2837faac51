"""ASD as an `evaluate` metric: `evaluate.load("leaderboard/metric/asd")`. The only leaf that imports evaluate."""

import datasets
import evaluate

from leaderboard.ranking.asd import asd, asd_doubling

_DESCRIPTION = """\
Average Slope Difference between measured and predicted loss curves: the mean over runs of the mean absolute difference
of slopes between neighbouring evaluations, in nats per billion tokens; beside it the same between 8 log-spaced knots,
in nats per doubling of tokens.
"""
_CITATION = """\
@inproceedings{chen2025p2law,
  title={P2 Law: Scaling Law for Post-Training After Model Pruning},
  author={Chen, Xiaodong and Hu, Yuxuan and Zhang, Xiaokang and Wang, Yanling and Li, Cuiping and
    Chen, Hong and Zhang, Jing},
  booktitle={ACL},
  year={2025},
  url={https://arxiv.org/abs/2411.10272}
}
"""
_INPUTS = """\
predictions: predicted losses, nats per token.
references: measured losses, nats per token.
tokens: post-training tokens of each row, as counts.
run_id: which run each row belongs to.
Returns `asd` and `asd_doubling`.
"""


class Asd(evaluate.Metric):  # type: ignore[misc]
    """The metric; arithmetic is leaderboard.ranking.asd's."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.Value("float64"),
            "references": datasets.Value("float64"),
            "tokens": datasets.Value("float64"),
            "run_id": datasets.Value("string"),
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(features),
            reference_urls=["https://arxiv.org/abs/2411.10272"],
        )

    def _compute(self, predictions, references, tokens, run_id):  # type: ignore[no-untyped-def]
        curves = (tokens, references, predictions, run_id)
        return {"asd": asd(*curves), "asd_doubling": asd_doubling(*curves)}

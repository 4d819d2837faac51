"""The pages, in the order of the menu."""

from space.pages import about, budget, contribute, curves, laws, models, own
from space.parts.look import Page

PAGES = (
    Page(
        "Token budget", "", "How many post-training tokens does a pruned model need?",
        "Choose a model and how it is pruned. The answer comes from the loss curves of everybody's runs.", budget.draw,
    ),
    Page(
        "Your run", "own", "Where is your run going?",
        "Drop the log of a training run: its curve so far and the laws of everybody's runs give its loss ahead, with a "
        "band.", own.draw,
    ),
    Page(
        "Laws", "laws", "Which law predicts models it has not seen?",
        "By their error on sizes and rates that they were not fitted to. Beside it stands ASD, the mean difference "
        "between the measured and the predicted slope of a held-out curve "
        '(<a href="https://arxiv.org/abs/2411.10272">arXiv:2411.10272</a>).', laws.draw,
    ),
    Page(
        "Curves", "curves", "Every run's loss curve",
        "Held-out loss over post-training tokens, as measured and as a law predicts it.", curves.draw,
    ),
    Page(
        "Models", "models", "Pruned models, ready to load",
        "Every model here has its loss log on this board. Losses compare within one held-out text.", models.draw,
    ),
    Page(
        "Contribute", "contribute", "Send a run",
        "The laws are only as good as the runs behind them. Every method and size helps.", contribute.draw,
    ),
    Page("About", "about", "About", "What is measured, which data this is, and what it cannot tell.", about.draw),
)  # fmt: skip

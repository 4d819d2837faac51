"""About: what is measured and how, which data is shown, what was left out, and what this cannot tell."""

import gradio as gr

from leaderboard import words
from leaderboard.logs.findings import ERROR
from leaderboard.serving.board import Board
from space.parts import look
from space.parts.table import Column, facts, table
from space.server.store import Store

METHOD = """
<h2>What is asked</h2>
<p>Pruning makes a language model smaller and worse; training it on makes it good again. How much training is enough?
The P² Law (Chen et al., ACL 2025, <a href="https://arxiv.org/abs/2411.10272">arXiv:2411.10272</a>) says that the loss
after pruning and post-training follows from the size before pruning, the rate, the tokens and the loss before.
p2zoo fits that law and rivals of it to everybody's runs, and answers with several of them together.</p>
<h2>Words</h2>
<dl class="words">
<dt>Loss</dt><dd>Held-out cross-entropy in nats per token, one evaluation function for all points of a run. Losses
compare within one held-out text and tokenizer.</dd>
<dt>Rate</dt><dd>The share of <em>all</em> parameters removed or zeroed, tied ones counted once. 2:4 zeroes half of the
attention and MLP matrices: 36 to 45 % of a full-size model.</dd>
<dt>Damage</dt><dd>Loss right after pruning less the loss before. <em>Recovered</em> is the share of it won back.</dd>
<dt>ASD</dt><dd>Average Slope Difference: the mean difference between measured and predicted slope of a curve, in nats
per billion tokens; <em>per doubling</em> between eight points spaced evenly in log tokens. Laws are judged on what they
were not fitted to: the last 20 % of tokens, the largest size, the highest rate.</dd>
<dt>Intervals</dt><dd>Whole runs are resampled, because the points of one curve are not independent. An interval for a
<em>new run</em> also holds the spread of runs around the law.</dd>
<dt>Ranks</dt><dd>A law's rank is one more than the number of laws that are surely better (90 % over whole-run
draws).</dd>
</dl>
<h2>What this cannot tell</h2>
<ul><li>An answer outside the measured sizes, rates or tokens is a guess; the page says how far outside it lies.</li>
<li>Runs differ in recipe. Laws are fitted within a held-out text and objective, not within a learning rate.</li>
<li>The damage and capacity laws were found on the bundled seed, so their errors there are optimistic.</li>
<li>Wall-clock and cost assume 40 % utilisation and the price you give.</li></ul>
"""
CITE = """
<h2>Cite</h2>
<p>The law and ASD are Chen et al.'s; cite their paper. p2zoo is an independent implementation.</p>
<pre tabindex="0"><code>@inproceedings{chen-etal-2025-p2,
  title     = {P$^2$ Law: Scaling Law for Post-Training After Model Pruning},
  booktitle = {Proceedings of ACL 2025},
  year      = {2025},
  note      = {arXiv:2411.10272}
}</code></pre>
<h2>For programs</h2>
<p>Everything on these pages is also a REST call and an MCP tool: <code>rank</code>, <code>budget</code>,
<code>runs</code>, <code>models</code>, <code>predict</code>, <code>check_log</code>. <a href="gradio_api/info">Their
signatures</a>; MCP at <code>/gradio_api/mcp/</code>. Typefaces: Inter and Source Serif 4 (SIL OFL 1.1).</p>
"""


def draw(store: Store, demo: gr.Blocks) -> None:
    """The page."""
    state = gr.HTML(elem_id="state", min_height=160)
    gr.HTML(METHOD)
    gr.HTML(CITE)
    demo.load(lambda: _state(store.board, store.problem), outputs=state, **look.QUIET)


def _state(board: Board, problem: str | None) -> str:
    """The state of the data, what could not be renewed and what was left out."""
    logs = board.logs
    known = [
        ("Source", words.text(logs.source)), ("Commit", f"<code>{words.text(logs.revision)}</code>"),
        ("Newest run", words.day(logs.date)), ("Runs", f"{len(board.runs):,}"),
        ("Contributors", f"{board.runs['contributor'].nunique():,}"), ("Groups with a fit", f"{len(board.groups):,}"),
    ]  # fmt: skip
    said = "".join(f'<p class="warning" role="note">{words.text(w)}</p>' for w in (logs.note, problem) if w)
    bad = [
        {"path": report.path, **vars(next(f for f in report.findings if f.severity == ERROR))}
        for report in logs.quarantined
    ]
    columns = (
        Column("File", "path"), Column("Reason", "code"), Column("Where", "where"),
        Column("Got", "got", wrap=True), Column("Allowed", "allowed", wrap=True),
    )  # fmt: skip
    left = table(columns, bad, "Files left out", empty="Nothing was left out.")
    return f"<h2>Data</h2>{facts(known)}{said}<h3>Files left out</h3>{left}"

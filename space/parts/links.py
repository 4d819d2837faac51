"""The state of a page in its address: read when the page opens, written when something is asked.

A view is a dict of plain values; what equals its default is left out of the address, and what an address says wrongly
falls back to the default.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import gradio as gr

from leaderboard import words

Values = dict[str, Any]

_WRITE = """
const write = () => {
  const asked = props.value === '?' ? '' : props.value;
  const query = window.p2zooTables(window.location.pathname + asked); // not the base, the page
  element.querySelector('a').setAttribute('href', query);
  window.history.replaceState(window.history.state, '', query);
};
watch('value', write);
"""


def address() -> gr.HTML:
    """A link to the present view; giving it a new value also writes it into the browser's address bar."""
    return gr.HTML(
        "",
        html_template='<a class="permalink" href="${value}">Link to this view</a>',
        js_on_load=_WRITE,
        elem_classes="address",
    )


def query(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """`?name=value…` of what differs from the defaults; `?` where nothing does."""
    told = {k: v for k, v in values.items() if v is not None and v != defaults.get(k)}
    return "?" + urlencode({k: ",".join(map(str, v)) if isinstance(v, list) else v for k, v in told.items()})


def run(name: object, state: str = "?") -> str:
    """A link to the page of a run `contributor/run_id`, from any page; only the id is shown. `state` is the query of a
    list of runs, there again when the run is left.
    """
    address = f"curves{state}{'&' * (state != '?')}run={quote(str(name))}"
    return f'<a href="{words.text(address)}"><code>{words.text(str(name).rpartition("/")[2])}</code></a>'


def read(request: gr.Request | None, defaults: Mapping[str, Any]) -> Values:
    """Values of a page from its address, each in the type of its default."""
    asked = dict(request.query_params) if request is not None else {}
    return {name: _typed(asked.get(name), default) for name, default in defaults.items()}


def held(written: str | None) -> Values:
    """Values that a browser kept as JSON; none where it kept nothing that can be read."""
    try:
        values = json.loads(written or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _typed(written: str | None, default: Any) -> Any:
    if written is None:
        return default
    if isinstance(default, list):
        return [part for part in written.split(",") if part]
    if isinstance(default, float) or default is None:
        try:
            value = float(written)
        except ValueError:
            return default
        return value if abs(value) < float("inf") else default
    return written

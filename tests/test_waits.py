"""Every wait of a test has a limit, so that what hangs fails after minutes, and no child is left behind."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
WAITS = {
    "run": "subprocess",
    "communicate": None,
    "join": "thread",
    "urlopen": None,
}  # and on what, where others share the name


def unlimited(code: str) -> Iterator[int]:
    """Lines of calls that may wait for ever."""
    for call in ast.walk(ast.parse(code)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in WAITS:
            on = WAITS[call.func.attr]
            limited = any(word.arg in ("timeout", None) for word in call.keywords) or (call.args and on == "thread")
            if (on is None or ast.unparse(call.func.value) == on) and not limited:
                yield call.lineno


def test_every_wait_has_a_limit():
    files = {path: path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py") if "bench" not in path.parts}
    assert [f"{path.relative_to(TESTS)}:{line}" for path, code in files.items() for line in unlimited(code)] == []
    assert len(files) > 50


def test_a_wait_without_a_limit_is_seen():
    code = (
        "subprocess.run(['x'])\nsubprocess.run(['x'], timeout=1)\nchild.communicate()\nthread.join()\nthread.join(60)\n"
    )
    assert list(unlimited(code)) == [1, 3, 4]

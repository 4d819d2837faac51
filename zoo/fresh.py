"""Fresh processes in a tenth of a second: forks of a server that has imported PyTorch and run nothing.

A process started here knows nothing of the one that asks for it but the environment, the working folder and the files
that both can see: no weights, no settings, no random state, no GPU. Importing PyTorch and transformers takes seconds,
so a server imports them once, beside its owner's work, and forks itself for each process. It makes no tensor, starts
no thread and touches no GPU. It ends with its owner; processes below the owner find it by P2ZOO_FRESH.

Without a server (on another system than Linux; where libraries would read another environment as they are imported;
after it died) a process starts the ordinary way: only the time differs. What runs is named `module:function`: the
function is called without arguments and reads `sys.argv`.
"""

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

PRELOAD = ("zoo.run.gate", "zoo.run.pipeline", "zoo.cli")  # and all that they import
ADDRESS = "P2ZOO_FRESH"
FREE = (  # how names begin that nothing reads as it is imported, or that the server sets for itself
    "P2ZOO_", "PYTEST_", "HF_TOKEN", "CORPUS", "COLUMNS", "LINES", "PWD", "OLDPWD", "SHLVL", "_",
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_",
    "HF_HUB_DISABLE_PROGRESS_BARS", "JE_ARROW_MALLOC_CONF",
)  # fmt: skip
SERVER_ONLY = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # p2zoo shows its own
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's; the server has one thread
}
_HERE = str(Path(__file__).resolve().parent.parent)
_PYTHON = [sys.executable, "-P", "-m", "zoo.fresh"]


class Process(Protocol):
    """What `popen` gives: a subprocess.Popen, or a fork that can do the same."""

    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def popen(
    entry: str,
    words: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[Any] | None = None,
    stderr: IO[Any] | None = None,
) -> Process:
    """Start `entry` ("module:function") with `words`. Its stdin is empty; its words go where this process's go."""
    prepare()
    env = _environment(os.environ if env is None else env)
    out, err = (own if file is None else file.fileno() for own, file in ((1, stdout), (2, stderr)))
    request = {"entry": entry, "words": list(words), "env": env, "cwd": str(Path.cwd() if cwd is None else cwd)}
    sys.stdout.flush()  # what was said before comes before
    return _forked(request, out, err) or subprocess.Popen(
        [*_PYTHON, entry, *words], env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err
    )


def run(
    entry: str,
    words: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `entry` to its end, and keep what it says. After `timeout` seconds: killed, subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = popen(entry, words, env=env, cwd=cwd, stdout=out, stderr=err)
        try:
            code = process.wait(timeout)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(errors="replace"))
    return subprocess.CompletedProcess([entry, *words], code, *said)


def prepare() -> str:
    """Let the server import, if there is none yet, and return at once where it answers; "" if that is nowhere."""
    global _own
    with _lock:
        if _own is None and sys.platform == "linux" and ADDRESS not in os.environ:
            _own = _Server()
    return os.environ.get(ADDRESS) or (_own.address if _own else "")


# --- the client's side ---


class _Server:
    """A server of this process, which ends with it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="p2zoo-fresh-")  # nobody else may look into it
        self.address = str(Path(self._folder.name) / "socket")
        self._lifeline, theirs = socket.socketpair()
        with theirs, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.address)
            listener.listen(64)  # requests wait there until all is imported
            fds = listener.fileno(), theirs.fileno()
            env = _environment(os.environ) | SERVER_ONLY
            self._process = subprocess.Popen(
                [*_PYTHON, "--serve", *map(str, fds)], pass_fds=fds, env=env, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        self._owner = os.getpid()
        atexit.register(self.end)

    def end(self) -> None:
        """Let it go, and see it gone."""
        self._lifeline.close()
        if os.getpid() == self._owner:
            try:
                self._process.wait(1)  # it may be importing still
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._folder.cleanup()


_own: _Server | None = None
_lock = threading.Lock()


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a fresh process: this very code is what it imports, and it knows the server."""
    path = env.get("PYTHONPATH", "")
    if path.split(os.pathsep)[0] != _HERE:
        path = os.pathsep.join(filter(None, (_HERE, path)))
    known = {} if _own is None else {ADDRESS: _own.address}
    return {**env, **known, "PYTHONPATH": path}


def _forked(request: dict[str, Any], out: int, err: int) -> "_Fork | None":
    """The process as a fork of the server; None where there is no server, or none for this environment."""
    address = request["env"].get(ADDRESS)
    if address is None:
        return None
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
        with Path(os.devnull).open("rb") as nothing:
            socket.send_fds(connection, [b"\n"], [nothing.fileno(), out, err])
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = _line(connection)
    except OSError:
        answer = b""
    if not answer.strip():
        connection.close()
        return None
    return _Fork(int(answer), connection)


def _line(connection: socket.socket) -> bytes:
    """What comes until the end of a line, or of the connection."""
    got = b""
    while not got.endswith(b"\n") and (more := connection.recv(65_536)):
        got += more
    return got


class _Fork:
    """A process that the server forked, and that it tells the end of."""

    def __init__(self, pid: int, connection: socket.socket):
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one; subprocess.TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                code = _line(self._connection)
            except (TimeoutError, BlockingIOError) as error:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from error
            except OSError:
                code = b""
            if not code:  # the server was killed, and nobody would tell its end
                self.kill()
            self.returncode = int(code) if code else -signal.SIGKILL
            self._connection.close()
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


# --- the server's side ---


@dataclass
class _Asked:
    """A request, and the files that its process gets as stdin, stdout and stderr."""

    entry: str
    words: list[str]
    env: dict[str, str]
    cwd: str
    files: list[int]


@dataclass
class _Imported:
    """The environment in which the libraries were imported, and what they set in it."""

    before: dict[str, str]
    added: dict[str, str]

    def suits(self, env: Mapping[str, str]) -> bool:
        """Whether no library can have read anything else than it would read in `env`."""
        names = (self.before.keys() | env.keys()) - self.added.keys()
        return all(self.before.get(name) == env.get(name) for name in names if not name.startswith(FREE))


def _import_all() -> _Imported:
    """Import what forks will need."""
    before = dict(os.environ)
    for name in PRELOAD:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what was imported is not looked at, and so not copied, by the forks' collectors
    return _Imported(before, {name: value for name, value in os.environ.items() if before.get(name) != value})


def _serve(listener: socket.socket, lifeline: socket.socket, imported: "_Imported") -> _Asked | None:
    """Fork for every request until the owner is gone. Returns None then; in a forked process, what it was made for."""
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        ready.register(lifeline, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is lifeline:
                    return None
                if key.fileobj is listener:
                    connection, _ = listener.accept()
                    request = _read(connection)
                    if request is None or not imported.suits(request.env):
                        connection.close()
                        continue
                    if (pid := os.fork()) == 0:
                        _let_go(ready, connection)
                        return request
                    for file in request.files:
                        os.close(file)
                    _tell(connection, pid)
                    ready.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
                else:
                    pid, connection = key.data
                    ready.unregister(key.fileobj)
                    os.close(key.fd)
                    _tell(connection, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                    connection.close()


def _read(connection: socket.socket) -> _Asked | None:
    """A request; None where its sender is gone."""
    connection.settimeout(10)
    try:
        _, files, _, _ = socket.recv_fds(connection, 1, 3)
        request = _line(connection)
    except OSError:
        return None
    return _Asked(**json.loads(request), files=list(files)) if request else None


def _tell(connection: socket.socket, number: int) -> None:
    try:
        connection.sendall(b"%d\n" % number)
    except OSError:  # who asked is gone
        return


def _let_go(ready: selectors.BaseSelector, connection: socket.socket) -> None:
    """Close, in a fork, what only the server needs."""
    for key in list(ready.get_map().values()):
        if key.data:
            os.close(key.fd)
            key.data[1].close()
        else:
            key.fileobj.close()  # type: ignore[union-attr]
    connection.close()


def _become(request: _Asked, imported: _Imported) -> None:
    """Make of a fork the process that was asked for."""
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream is sys.stderr or os.isatty(1))  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update({**imported.added, **request.env})
    os.chdir(request.cwd)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # seeded once as it is imported; Python's own is renewed by the fork


def _call(entry: str, words: Sequence[str]) -> None:
    module, _, function = entry.partition(":")
    sys.argv = [module, *words]
    getattr(importlib.import_module(module), function)()


def _end_with(entry: str, words: Sequence[str]) -> NoReturn:
    """Call it and leave as Python does, but for taking apart what was imported: a fork would first copy all of it."""
    code: Any = 0
    try:
        _call(entry, words)
    except SystemExit as ended:
        code = ended.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing does: wait for threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else code is not None)


def _main(words: Sequence[str]) -> None:
    """`python -m zoo.fresh ENTRY WORDS`: call it. `--serve LISTENER LIFELINE`: be the server."""
    if words[0] != "--serve":
        return _call(words[0], words[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C and a stop of the whole group are for the processes that work
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    listener, lifeline = (socket.socket(fileno=int(word)) for word in words[1:])
    imported = _import_all()
    request = _serve(listener, lifeline, imported)
    if request is None:
        return None
    _become(request, imported)
    _end_with(request.entry, request.words)


if __name__ == "__main__":
    _main(sys.argv[1:])

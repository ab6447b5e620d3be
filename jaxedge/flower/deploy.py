"""A federation on one machine: a SuperLink and SuperNodes that speak TLS.

What a federation of several machines is, but for the wires: every node has its
own folder, its own key that the server knows, and the certificate of the
server's authority. All listen on the loopback interface alone, on free ports.

    with Federation(folder) as federation:
        federation.start_server()
        federation.register(key)
        federation.start_node("north", key, {"client": 0, "folder": "..."})
        federation.run(app)
"""

from collections.abc import Mapping, Sequence
import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from jaxedge import data
from jaxedge.core import checks
from jaxedge.flower import (
    bundle,
    certificates,
    examples,
    guard,
    server_app,
    task,
)
from jaxedge.run import workdir

HOST = "127.0.0.1"
# Of the connection in Flower's config.
_LINK = "loopback"
# Nothing is told to anybody, nothing is fetched.
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_COMMANDS = """
import json, sys
from flwr.cli.app import app
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
"""
_START_SECONDS = 60
_STOP_SECONDS = 5


class Federation:
    """A SuperLink and SuperNodes, which end when the `with` does.

    Args:
        folder: of certificates, keys, logs and Flower's own files.
        environment: more variables of every process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] = {}):
        self.folder = folder.resolve()
        self.files = certificates.server(self.folder / "certificates")
        self.address = f"{HOST}:{free_port()}"
        self._environment = dict(environment)
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        home = self._home("flwr")
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(
            f"[superlink]\ndefault = {json.dumps(_LINK)}\n\n"
            f"[superlink.{_LINK}]\naddress = {json.dumps(self.address)}\n"
            f"root-certificates = {json.dumps(str(self.files.authority))}\n",
            encoding="utf-8",
        )

    def __enter__(self) -> "Federation":
        return self

    def __exit__(self, *problem: Any) -> None:
        self.stop()

    def start_server(self) -> None:
        """Starts the SuperLink and waits until it listens.

        Raises:
            UsageError: if it does not, with the last line of its log.
        """
        host, port = self.address.split(":")
        self._start(
            "superlink",
            [
                "flower-superlink",
                *self._tls_flags(),
                f"--host={host}",
                f"--port={port}",
                "--enable-supernode-auth",
                "--disable-runtime-dependency-installation",
            ],
        )
        deadline = time.monotonic() + _START_SECONDS
        while not listening(host, int(port)):
            if not self.alive("superlink") or time.monotonic() > deadline:
                raise checks.UsageError(
                    "the SuperLink does not listen:"
                    f" {_last(self.log('superlink'))}; see"
                    f" {self.log('superlink')}."
                )
            time.sleep(0.1)

    def register(self, *keys: certificates.Node) -> None:
        """Lets nodes with these keys in."""
        command = ["supernode", "register"]
        self._flwr(*([*command, str(key.public), _LINK] for key in keys))

    def start_node(
        self,
        name: str,
        key: certificates.Node | None,
        config: Mapping[str, str | int],
        authority: Path | None = None,
    ) -> None:
        """Starts a SuperNode.

        Args:
            name: of the node.
            key: by which the server knows it.
            config: what its app is told: `client` and `folder`.
            authority: whose certificates it trusts; None is the server's.
        """
        told = " ".join(f"{k}={json.dumps(v)}" for k, v in config.items())
        keys = (
            []
            if key is None
            else [f"--auth-supernode-private-key={key.private}"]
        )
        self._start(
            name,
            [
                "flower-supernode",
                f"--root-certificates={authority or self.files.authority}",
                f"--superlink={self.address}",
                *self._tls_flags(),
                f"--host={HOST}",
                f"--port={free_port()}",
                f"--node-config={told}",
                *keys,
            ],
        )

    def run(self, app: Path) -> None:
        """Runs an app to its end, and shows what its server says.

        Args:
            app: its folder.

        Raises:
            UsageError: where it failed, with the reason.
        """
        last = ""
        with (
            self.log("run").open("a") as log,
            subprocess.Popen(
                [_program("flwr"), "run", str(app), _LINK, "--stream"],
                env=self._variables("flwr"),
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                if server_app.OURS in line:
                    last = line[line.index(server_app.OURS) :].rstrip()
                    print(last, flush=True)
        last = last.removeprefix(server_app.OURS)
        if last.startswith(server_app.FAILED):
            raise checks.UsageError(last.removeprefix(server_app.FAILED))
        if not last.startswith(server_app.FINISHED):
            raise checks.UsageError(
                f"the run ended before its last round; see {self.log('run')}."
            )

    def _flwr(self, *commands: Sequence[str]) -> None:
        """Runs commands of `flwr`, in one process that loads it once.

        Raises:
            UsageError: where one fails, with its last line.
        """
        done = subprocess.run(
            [sys.executable, "-c", _COMMANDS, json.dumps(commands)],
            env=self._variables("flwr"),
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise checks.UsageError(
                f"flwr {commands[0][0]} failed: {lines[-1] if lines else ''}"
            )

    def alive(self, name: str) -> bool:
        """Whether a process that was started still runs."""
        return self._started[name].poll() is None

    def process(self, name: str) -> int:
        """The id of a process that was started, and of its group."""
        return self._started[name].pid

    def log(self, name: str) -> Path:
        """The file with what a process printed."""
        return self.folder / "logs" / f"{name}.log"

    def stop(self) -> None:
        """Ends what was started here, and nothing else."""
        # Nodes first: without a server they would wait for it.
        for name in reversed(list(self._started)):
            _end(self._started.pop(name))

    def _start(self, name: str, command: Sequence[str]) -> None:
        self.log(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            self._started[name] = subprocess.Popen(
                [
                    sys.executable,
                    guard.__file__,
                    _program(command[0]),
                    *command[1:],
                ],
                env=self._variables(name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own, which is ended whole.
                start_new_session=True,
            )

    def _tls_flags(self) -> list[str]:
        return [
            f"--ssl-ca-certfile={self.files.authority}",
            f"--ssl-certfile={self.files.certificate}",
            f"--ssl-keyfile={self.files.key}",
        ]

    def _variables(self, name: str) -> dict[str, str]:
        # Flower starts programs of its own by their names.
        path = os.pathsep.join(
            [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        )
        found = {**os.environ, **_QUIET, **self._environment, "PATH": path}
        return found | {"FLWR_HOME": str(self._home(name))}

    def _home(self, name: str) -> Path:
        return self.folder / "homes" / name


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def listening(host: str, port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _program(name: str) -> str:
    """The program of this environment."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise checks.UsageError(
            f"there is no {path}; install Flower with"
            " pip install 'jaxedge[flower]'."
        )
    return str(path)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process and those that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _last(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def execute(
    found: task.Task,
    splits: Mapping[str, data.Source],
    folder: Path,
    timeout: float,
) -> Path:
    """Runs a task on a federation of this machine.

    Args:
        found: the task.
        splits: the examples of all clients, which are dealt out here: no node
            sees more than its own.
        folder: of everything; a run that was stopped there goes on.
        timeout: seconds that a round waits for its clients at most.

    Returns:
        The folder of the server, with the network and its metrics.

    Raises:
        UsageError: for a folder of another run, or a run that failed.
    """
    server = folder / "server"
    workdir.check(server, found.config, study=False)
    for client, name in enumerate(found.names):
        examples.write(splits, client, folder / "nodes" / name / "examples")
    settings = {"task": task.write(found), "folder": str(server)}
    bundle.write(folder / "app", settings | {"timeout": timeout})
    with Federation(folder / "flower") as federation:
        federation.start_server()
        keys = federation.folder / "keys"
        known = {name: certificates.node(keys, name) for name in found.names}
        federation.register(*known.values())
        for client, (name, key) in enumerate(known.items()):
            own = str(folder / "nodes" / name)
            federation.start_node(name, key, {"client": client, "folder": own})
        federation.run(folder / "app")
    return server

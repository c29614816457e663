"""Ray itself: the cluster that is there already, or one of this machine that ends with the run."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from nnunet_cascade.errors import SettingsError, one_line
from nnunet_cascade.processes import environment

_log = logging.getLogger(__name__)
_OWN_NODE = "nnunet-cascade"
_ADDRESS = "RAY_ADDRESS"
_ANSWER_SECONDS = 10.0
_LONGEST_REASON = 300
_OBJECT_STORE_BYTES = 100 << 20  # what passes is small: names, settings and outcomes, never an image
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_OWN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on any system: no cluster, only 127.0.0.1
}


class RayConnection:
    """Ray, found or started, and left as it was found.

    It is the one this process is connected to; else the one that `RAY_ADDRESS` names; else
    one started on this machine with `ray start`; else one of our own, which is bound to
    127.0.0.1, reports to nobody, and ends with the connection or with this process.
    `RAY_ADDRESS=local` asks for one of our own.

    Args:
        cpus: What a Ray of our own shares out.

    Attributes:
        ray: The package, for it is an extra.

    Raises:
        SettingsError: Ray is not installed, or cannot be reached or started.
    """

    def __init__(self, *, cpus: int) -> None:
        with _process_kept():
            self.ray: Any = _installed_ray()
            self._leave: Callable[[], None] = lambda: None
            if self.ray.is_initialized():
                return
            self._leave = self.ray.shutdown
            try:
                self._connect(cpus)
            except (OSError, RuntimeError, ValueError) as error:
                self.ray.shutdown()
                raise SettingsError(
                    f"Ray cannot be reached or started ({_reason(error)}); check {_ADDRESS}, or set {_ADDRESS}=local"
                ) from error
            except BaseException:
                self.ray.shutdown()
                raise

    def close(self) -> None:
        """Leave Ray, which ends it where it was started here."""
        leave, self._leave = self._leave, lambda: None
        leave()

    def _connect(self, cpus: int) -> None:
        asked = os.environ.get(_ADDRESS, "")
        if asked not in {"", "local"}:
            _require_answer(asked)
            self.ray.init(**_QUIET)
        elif asked == "local" or not self._joined():
            self._start(cpus)
            return
        _log.info("Ray runs already, with %d machines; it stays as it is", len(self.ray.nodes()))

    def _joined(self) -> bool:
        """Join the Ray of this machine, unless there is none, or it is that of another run, and ends with it."""
        try:
            left = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # noqa: S108 - Ray's place
            if left.is_file():  # what a Ray that was killed leaves too
                _require_answer(left.read_text().strip())
            self.ray.init(address="auto", **_QUIET)
        except OSError:
            return False
        if all(node["NodeName"] != _OWN_NODE for node in self.ray.nodes()):
            return True
        self.ray.shutdown()
        return False

    def _start(self, cpus: int) -> None:
        """Start a Ray of this machine alone, which leaves no logs behind."""
        context: Any = self.ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _node_name=_OWN_NODE,
            **_QUIET,
        )

        def end() -> None:
            self.ray.shutdown()
            shutil.rmtree(context.address_info["session_dir"], ignore_errors=True)

        self._leave = end


def _require_answer(address: str) -> None:
    """Raise an OSError where nobody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()


def _reason(error: BaseException) -> str:
    """Say in a line why Ray does not answer; what it asks for most often stands deep in what it says."""
    if any("AuthToken" in str(cause) for cause in (error, error.__cause__)):
        return "it asks for its token; set RAY_AUTH_MODE=token and have the head's ~/.ray/auth_token on every machine"
    return one_line(error, longest=_LONGEST_REASON)


def _installed_ray() -> ModuleType:
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingsError(
            f"Ray cannot be imported ({error}); install it with pip install 'nnunet-cascade[ray]', "
            "or leave --engine ray out"
        ) from error
    return ray


@contextmanager
def _process_kept() -> Generator[None, None, None]:
    """Say in the environment what Ray reads there, and undo that and its handler of SIGTERM."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    own = _OWN if os.environ.get(_ADDRESS, "") in {"", "local"} else {}
    try:
        with environment(own):
            yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

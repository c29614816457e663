"""How worker processes are started."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from nnunet_cascade.processes import interrupts_ignored

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C is heard as in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_while_a_process_is_started_is_heard_when_it_has_been():
    started = []

    def start():
        with interrupts_ignored():
            os.kill(os.getpid(), signal.SIGINT)
            started.append(True)

    with pytest.raises(KeyboardInterrupt):
        start()
    assert started
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_ctrl_c_that_another_thread_got_is_heard_too():
    begun = threading.Event()
    thread = threading.Thread(target=lambda: (begun.wait(), signal.raise_signal(signal.SIGINT)))
    thread.start()

    def start():
        with interrupts_ignored():
            begun.set()
            thread.join()

    with pytest.raises(KeyboardInterrupt):
        start()


def test_a_process_started_so_never_hears_of_it():
    program = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('lives')"
    with interrupts_ignored():
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "lives\n")

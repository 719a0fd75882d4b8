"""The end of a process that a test started as the first of its group."""

import os
import signal
import subprocess


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; its whole group is killed where it has not in a minute, as on a busy machine."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

"""Run a piece of a test in a forked child, for what a process can do only once."""

import gc
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from typing import Any


def in_child(function: Callable[[], Any]) -> Any:
    """What `function` returns when called in a child process; its failure is ours."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        gc.freeze()     # nothing of the parent's is finalised in the child
        try:
            os.close(read_end)
            data = pickle.dumps(function())
            with open(write_end, "wb") as answer:
                answer.write(data)
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(write_end)
    with open(read_end, "rb") as answer:
        data = answer.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, "failed in the child process: see standard error"
    return pickle.loads(data)

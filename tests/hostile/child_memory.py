"""The peak memory of a piece of Python, measured in a process of its own, which the allocators of this one do not disturb."""

import subprocess
import sys

PROGRAM = """
import resource, sys
from recog.core.errors import RecogError
{setup}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    answer = {call}
except RecogError as error:
    answer = f"{{type(error).__name__}}: {{error}}"
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, answer)
"""


def peak_of(call: str, *arguments: object, setup: str) -> tuple[int, str]:
    """(bytes above what `setup` takes, the answer as text, or the error as text). `sys.argv` holds `arguments`."""
    command = [sys.executable, "-c", PROGRAM.format(setup=setup, call=call), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    num_bytes, _, answer = done.stdout.strip().partition(" ")
    return int(num_bytes), answer

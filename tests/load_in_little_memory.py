"""Loads files, each with no more memory than its own size and 64 MB; prints a line of JSON for each.

A program of its own because a limit of memory holds for a whole process.
"""

import json
import os
import resource
import sys
import time

import t7compat

SPARE = 64 << 20


def used() -> int:
    """The size of the address space: it grows with every allocation, whether the memory is touched or not."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


t7compat.loads(t7compat.dumps([t7compat.nn.Linear(2, 2), "warm"]))
for path in sys.argv[1:]:
    verdict = {"outcome": "value"}
    limit = used() + os.path.getsize(path) + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    start = time.process_time()
    try:
        t7compat.load(path)
    except t7compat.T7FormatError as error:
        verdict = {"outcome": "error", "message": str(error), "offset": error.offset}
    except Exception as error:
        verdict = {"outcome": f"{type(error).__name__}: {error}"}
    verdict["seconds"] = time.process_time() - start
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(json.dumps(verdict))

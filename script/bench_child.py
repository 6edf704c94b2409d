"""Runs a command and prints as JSON what it took: `bench_child.py COMMAND …`.

A small process of its own, since the kernel counts a parent's memory for the child that it starts.
"""

import json
import os
import subprocess
import sys
import time

began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
took = {
    "code": os.waitstatus_to_exitcode(status),
    "wall_s": time.perf_counter() - began,
    "cpu_s": used.ru_utime + used.ru_stime,  # with that of its own children
    "peak_mb": used.ru_maxrss / 1024,
}
print(json.dumps(took))

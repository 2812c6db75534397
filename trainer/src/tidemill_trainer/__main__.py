"""python -m tidemill_trainer TASK.json [--attempt N] [--memory-mb M], or `describe`."""

import argparse
import json
import sys

from . import environment
from .contract import CodeError


def main() -> int:
    parser = argparse.ArgumentParser(prog="tidemill_trainer", description=__doc__)
    parser.add_argument("task", help="the task.json of a task; or `describe`")
    parser.add_argument("--attempt", type=int, help="which attempt; a new one if not given")
    parser.add_argument("--memory-mb", type=int, help="instead of what the task may take")
    given = parser.parse_args()
    if given.task == "describe":
        print(json.dumps({"identity": environment.identity(), **environment.describe()}, indent=2))
        return 0
    from . import runner

    try:
        return runner.main(given.task, given.attempt, given.memory_mb)
    except (OSError, ValueError, KeyError, CodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

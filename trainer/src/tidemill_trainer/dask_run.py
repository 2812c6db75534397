"""Has a command run by a worker of a Dask cluster, and ends as it ended.

    python -m tidemill_trainer.dask_run --scheduler tcp://HOST:8786 -- COMMAND...
    python -m tidemill_trainer.dask_run --scheduler tcp://HOST:8786 TASK.json --attempt 1

The second form runs this package's trainers: what the executor `subprocess` starts with
`python = ["python3", "-m", "tidemill_trainer.dask_run", "--scheduler", "..."]`.

The worker runs the command as a process in a group of its own. No code of the user's is sent: only a command
line, and the name of a function that is installed there.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import uuid

from distributed import CancelledError, Client, KilledWorker, Variable, get_client

LOG = 20_000


def execute(command: list[str], stop: str) -> tuple[int, str]:
    """On the worker: exit code and the end of the output. The command ends when the variable `stop` is set."""
    if command[0] == "python":
        command = [sys.executable, *command[1:]]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    os.set_blocking(process.stdout.fileno(), False)
    said, looked = b"", 0.0
    told = Variable(stop, client=get_client())
    try:
        while True:
            code = process.poll()
            said = (said + (process.stdout.read() or b""))[-LOG:]
            if code is not None:
                return code, said.decode(errors="replace")
            if time.monotonic() - looked > 1.0:
                looked = time.monotonic()
                try:
                    told.get(timeout=0.2)
                    return -int(signal.SIGTERM), "stopped"
                except TimeoutError:
                    pass
            time.sleep(0.05)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheduler", default=os.environ.get("DASK_SCHEDULER_ADDRESS"))
    parser.add_argument("--name", default=None, help="of the task; its own if not given")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not given.scheduler or not command:
        parser.error("a scheduler and a command are required")
    if command[0].endswith(".json"):
        command = ["python", "-m", "tidemill_trainer", *command]
    name = given.name or uuid.uuid4().hex
    stop = f"tidemill-stop-{name}"
    # Names of our own: the worker imports them, nothing is sent by value.
    from tidemill_trainer import dask_run

    with Client(given.scheduler, timeout="10s", set_as_default=True, name=f"tidemill-{name}") as client:

        def ended(*_) -> None:
            Variable(stop, client=client).set(True)
            os._exit(128 + signal.SIGTERM)

        signal.signal(signal.SIGTERM, ended)
        # A worker that dies may run it again: the lease lets only one answer. `retries` is ours to do.
        future = client.submit(
            dask_run.execute, command, stop, key=f"tidemill-{name}", pure=False, retries=0
        )
        code, said = future.result()
        sys.stdout.write(said)
        return code if code >= 0 else 128 - code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, TimeoutError, KilledWorker, CancelledError) as error:
        # The cluster is to blame, not the command: EX_UNAVAILABLE of sysexits.
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(69)

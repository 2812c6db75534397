"""Trainers that misbehave, each by its `params`."""

import os
import signal
import subprocess
import time

from tidemill_trainer import template


def train(data, parameters, seed, threads):
    given = parameters.get("params", {})
    once = given.get("once")
    first = once is None or not os.path.exists(once)
    if once is not None:
        with open(once, "a") as file:
            file.write(f"{os.getpid()}\n")
    if first:
        if given.get("child"):
            child = subprocess.Popen(["sleep", "600"])
            with open(once, "a") as file:
                file.write(f"{child.pid}\n")
        time.sleep(float(given.get("sleep", 0)))
        if given.get("fill"):
            block = bytearray(os.urandom(1 << 20)) * int(given["fill"])
            time.sleep(5)
            del block
        if given.get("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if given.get("raise"):
            raise ValueError("the trainer is broken")
    return template.train(data, parameters, seed, threads)

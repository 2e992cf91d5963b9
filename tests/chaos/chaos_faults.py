"""A degradation step of the user's that goes wrong when the environment says so: FAULT=kind:number.

It is named in the recipe like any class of a user; workers find it on PYTHONPATH. The draw is a number between 0 and
1, so that a test can choose the samples to be hit: those with a number up to the one in FAULT.
"""

import os
import signal
import time


class Fault:
    def draw(self, rng):
        return {"dice": float(rng.random())}

    def apply(self, image, params):
        kind, _, number = os.environ.get("FAULT", "").partition(":")
        if kind == "slow":
            time.sleep(float(number))
        elif kind == "slow_between":  # and that plus three seconds, as the sample's own number has it
            time.sleep(float(number) + 3 * params["dice"])
        elif kind and params["dice"] <= float(number):
            return strike(kind, image)
        return image * 0.9


def strike(kind, image):
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "abort":
        os.abort()
    if kind == "exit":
        os._exit(7)
    if kind == "hang":
        time.sleep(1e6)
    if kind == "memory":
        raise MemoryError
    if kind == "raise":
        raise ZeroDivisionError(f"no light in {image!r} at {object()}")
    if kind == "nan":
        return image * float("nan")
    if kind == "black":
        return image * 0
    return image  # "same": not degraded at all

"""What a tick took is what it computed, whatever else the machine was busy with."""

import time

import torch

from tintype.engine.devices import Device
from tintype.engine.pace import Pace

CPU = Device(name="cpu", dtype=torch.float32, label="cpu")


def test_time_in_which_a_tick_could_not_run_does_not_count():
    with Pace(CPU).measuring(is_exact=True) as took:
        time.sleep(0.3)  # as a neighbour that has the core
    assert took.seconds < 0.1


def test_time_in_which_a_tick_computes_counts():
    with Pace(CPU).measuring(is_exact=True) as took:
        until_s = time.thread_time() + 0.2
        while time.thread_time() < until_s:
            pass
    assert took.seconds >= 0.2

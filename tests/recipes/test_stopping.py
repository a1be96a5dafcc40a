import os
import signal
import threading

import pytest

from recog.recipes.resume import EXIT_CODES, StopAsked, StopSignal


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_handlers_are_given_back(number):
    before = {n: signal.getsignal(n) for n in EXIT_CODES}
    with StopSignal() as stop:
        assert stop.asked is None
        send(number)
        assert stop.asked == number
    assert {n: signal.getsignal(n) for n in EXIT_CODES} == before
    assert EXIT_CODES[stop.asked] == 128 + number


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_ends_at_once(first):
    before = signal.getsignal(signal.SIGINT)
    with StopSignal() as stop:
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert stop.asked == first
    assert signal.getsignal(signal.SIGINT) == before


def test_a_second_terminate_changes_nothing():
    with StopSignal() as stop:
        send(signal.SIGINT)
        send(signal.SIGTERM)
        assert stop.asked == signal.SIGINT


def test_what_may_be_cut_short_is():
    reached = []
    with StopSignal() as stop:
        with pytest.raises(StopAsked), stop.at_once():
            send(signal.SIGTERM)
        with pytest.raises(StopAsked), stop.at_once():  # asked for before the block began
            reached.append("the block")
        send(signal.SIGTERM)  # outside the block it is only noted
    assert reached == []


def test_another_thread_trains_without_signals():
    asked = []

    def train():
        with StopSignal() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert asked == [None]

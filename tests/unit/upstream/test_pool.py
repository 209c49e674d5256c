from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.kit.pool import IDLE_TIMEOUT, MAX_LIFETIME, REFUSED, WAIT_TIMEOUT, PoolStage


@pytest.fixture
def make():
    made = []

    def run(**options):
        made.append(PoolStage(**options))
        return made[-1]

    yield run
    for each in made:
        each.close()


# -- leases ------------------------------------------------------------------------------------------------------------------------


def test_a_connection_is_made_for_who_comes_first_and_lent_again_to_who_comes_next(make):
    f = make()
    [first] = f.serve()
    connection = first.connection
    first.leave()
    assert f.lessee().connection is connection
    assert f.made == [connection]


def test_nobody_gets_more_connections_than_the_size(make):
    f = make(size=2)
    lessees = [f.lessee() for _ in range(5)]
    assert len(f.dials) == 2
    f.connected()
    f.connected()
    assert f.dials == []
    assert [lessee.connection is not None for lessee in lessees] == [True, True, False, False, False]
    assert f.counts == (0, 2, 3)


def test_who_waits_longest_is_served_first_and_a_newcomer_does_not_overtake(make):
    f = make(size=1)
    [holder] = f.serve()
    second, third = f.lessee(), f.lessee()
    holder.leave()
    assert second.connection is not None
    newcomer = f.lessee()
    second.leave()
    assert (third.connection is not None, newcomer.connection) == (True, None)


def test_everybody_is_served_when_each_leaves_at_once(make):
    f = make(size=1)
    for _ in range(50):
        f.lessee(leaves_at_once=True)
    f.connected()
    assert not f.queue
    assert f.counts == (1, 0, 0)


def test_who_stops_waiting_is_not_served(make):
    f = make(size=1)
    [holder] = f.serve()
    gone, next_one = f.lessee(), f.lessee()
    gone.stop_waiting()
    holder.leave()
    assert gone.connection is None
    assert next_one.connection is not None
    gone.stage.pool.cancel_wait(gone)  # no harm


def test_a_connection_that_was_made_for_who_left_is_kept_for_the_next(make):
    f = make()
    f.lessee().stop_waiting()
    connection = f.connected()
    assert f.counts == (1, 0, 0)
    assert f.lessee().connection is connection


def test_a_connection_given_back_in_the_middle_of_something_is_closed(make):
    f = make(size=1)
    [holder] = f.serve()
    connection = holder.connection
    waiting = f.lessee()
    connection.write(b"Q")
    holder.leave()
    assert connection not in f.open
    assert waiting.connection is None
    replacement = f.connected()
    assert waiting.connection is replacement


def test_a_connection_that_died_while_idle_is_not_lent(make):
    f = make()
    [holder] = f.serve()
    dead = holder.connection
    holder.leave()
    dead.transport.is_closed = True  # its loss has not been told yet
    assert f.lessee().connection is None
    assert len(f.dials) == 1


def test_a_connection_lost_while_lent_is_replaced_for_who_waits(make):
    f = make(size=1)
    [holder] = f.serve()
    waiting = f.lessee()
    holder.connection.transport.is_closed = True
    holder.connection.connection_lost(None)
    assert f.counts == (0, 0, 1)
    f.connected()
    assert waiting.connection is not None


def test_an_idle_connection_that_speaks_out_of_turn_is_closed(make):
    f = make()
    [holder] = f.serve()
    connection = holder.connection
    holder.leave()
    connection.data_received(b"D\0\0\0\4")
    assert connection not in f.open
    assert f.counts == (0, 0, 0)


def test_a_discarded_connection_cannot_come_back(make):
    f = make()
    [holder] = f.serve()
    connection = holder.connection
    holder.give_up()
    f.pool.release(connection)
    f.pool.discard(connection, "again")
    assert f.counts == (0, 0, 0)
    assert f.open == []


# -- failures ----------------------------------------------------------------------------------------------------------------------


def test_who_waits_is_told_why_there_is_no_connection(make):
    f = make()
    waiting = f.lessee()
    f.refused()
    assert waiting.error is REFUSED


def test_a_failed_connect_is_nobodys_failure_while_others_are_in_use(make):
    f = make(size=2)
    [holder] = f.serve()
    waiting = f.lessee()
    f.refused()
    assert waiting.error is None
    holder.leave()
    assert waiting.connection is not None


def test_a_failed_connect_is_tried_again_for_who_still_waits(make):
    f = make(size=2)
    f.serve()
    waiting = f.lessee()
    f.refused()
    assert f.dials == []
    f.wait(0.25)
    f.connected()
    assert waiting.connection is not None


def test_the_pool_recovers_after_every_connect_failed(make):
    f = make()
    f.lessee()
    f.refused()
    [later] = f.serve()
    assert later.connection is not None


def test_a_connect_that_crashes_leaves_room_for_another(make):
    f = make(size=1)
    f.lessee()
    with pytest.raises(RuntimeError):
        f.refused(RuntimeError("a defect"))
    f.wait(0.25)
    assert len(f.dials) == 1


# -- time --------------------------------------------------------------------------------------------------------------------------


def test_who_waits_too_long_is_told_so_and_not_before(make):
    f = make(size=1)
    f.serve()
    early = f.lessee()
    f.wait(WAIT_TIMEOUT - 1)
    late = f.lessee()
    assert early.error is None
    f.wait(2)
    assert early.error.sqlstate == "57P03"
    assert "10 seconds" in early.error.message
    assert late.error is None


def test_who_waits_in_vain_for_a_server_that_refuses_is_told_that(make):
    f = make(size=2)
    f.serve()
    waiting = f.lessee()
    f.wait(WAIT_TIMEOUT)
    f.refused()
    f.wait(0.5)
    assert waiting.error is REFUSED


def test_a_connection_that_is_idle_for_too_long_is_closed(make):
    f = make()
    [holder] = f.serve()
    holder.leave()
    f.wait(IDLE_TIMEOUT - 1)
    assert len(f.open) == 1
    f.wait(2)
    assert f.open == []
    assert f.counts == (0, 0, 0)


def test_a_busy_connection_is_not_idle(make):
    f = make()
    f.serve()
    f.wait(IDLE_TIMEOUT + 1)
    assert len(f.open) == 1


def test_the_minimum_is_kept_though_idle(make):
    f = make(size=3, min_size=1)
    for lessee in f.serve(3):
        lessee.leave()
    f.wait(IDLE_TIMEOUT + 1)
    assert len(f.open) == 1


def test_the_minimum_is_there_before_anybody_comes(make):
    f = make(size=3, min_size=2)
    f.pool.tend()
    assert len(f.dials) == 2
    f.pool.tend()
    assert len(f.dials) == 2


def test_a_connection_that_is_too_old_is_replaced(make):
    f = make(min_size=1)
    [holder] = f.serve()
    holder.leave()
    f.wait(MAX_LIFETIME + 1)
    assert f.open == []
    assert len(f.dials) == 1


def test_an_old_connection_in_use_is_closed_when_it_comes_back(make):
    f = make()
    [holder] = f.serve()
    f.wait(MAX_LIFETIME + 1)
    assert holder.connection in f.open
    holder.leave()
    assert f.open == []


def test_the_time_spent_waiting_is_counted(make):
    f = make(size=1)
    [holder] = f.serve()
    f.lessee()
    f.now += 3
    holder.leave()
    assert f.pool.counts().wait_seconds == pytest.approx(3)


# -- the end -----------------------------------------------------------------------------------------------------------------------


def test_closing_ends_every_connection_and_every_wait(make):
    f = make(size=2)
    f.serve(2)
    waiting = f.lessee()
    f.pool.close()
    assert waiting.error.sqlstate == "57P01"
    assert f.open == []
    assert f.dials == []


def test_a_connection_that_comes_after_the_end_is_closed(make):
    f = make()
    f.lessee()
    f.pool.close()
    f.connected()
    assert f.open == []


# -- whatever happens --------------------------------------------------------------------------------------------------------------


class PoolInUse(RuleBasedStateMachine):
    """Sessions come, wait and go, the server does as it likes, time passes. Lessee checks order and sole use."""

    def __init__(self) -> None:
        super().__init__()
        self.f = PoolStage(size=3, min_size=1)

    def one_of(self, data, items):
        return data.draw(st.sampled_from(list(items)))

    @rule(leaves_at_once=st.booleans())
    def arrive(self, leaves_at_once):
        self.f.lessee(leaves_at_once=leaves_at_once)

    @precondition(lambda self: self.f.dials)
    @rule(data=st.data())
    def connect(self, data):
        self.f.connected(data.draw(st.integers(0, len(self.f.dials) - 1)))

    @precondition(lambda self: self.f.dials)
    @rule(data=st.data())
    def fail_to_connect(self, data):
        self.f.refused(which=data.draw(st.integers(0, len(self.f.dials) - 1)))

    @precondition(lambda self: self.f.leases)
    @rule(data=st.data())
    def leave(self, data):
        self.one_of(data, self.f.leases.values()).leave()

    @precondition(lambda self: self.f.leases)
    @rule(data=st.data())
    def leave_in_the_middle(self, data):
        lessee = self.one_of(data, self.f.leases.values())
        connection = lessee.connection
        connection.write(b"Q")
        lessee.leave()
        assert connection not in self.f.open

    @precondition(lambda self: self.f.leases)
    @rule(data=st.data())
    def give_up(self, data):
        self.one_of(data, self.f.leases.values()).give_up()

    @precondition(lambda self: self.f.queue)
    @rule(data=st.data())
    def stop_waiting(self, data):
        self.one_of(data, self.f.queue).stop_waiting()

    @precondition(lambda self: self.f.open)
    @rule(data=st.data())
    def lose(self, data):
        connection = self.one_of(data, self.f.open)
        connection.transport.is_closed = True
        connection.connection_lost(None)

    @rule(seconds=st.sampled_from([0.25, 3.0, 11.0, 61.0, 501.0]))
    def wait(self, seconds):
        self.f.wait(seconds)
        counts = self.f.pool.counts()
        under_way = len(self.f.open) + len(self.f.dials)
        assert under_way >= self.f.min_size
        assert not counts.waiting or self.f.dials or under_way == self.f.size, "somebody waits and nothing is done"
        if seconds > WAIT_TIMEOUT:
            assert not self.f.queue
        if seconds > IDLE_TIMEOUT:
            assert not counts.idle or len(self.f.open) <= self.f.min_size
        if seconds > MAX_LIFETIME:
            assert not counts.idle

    @invariant()
    def never_more_than_the_size(self):
        assert len(self.f.open) + len(self.f.dials) <= self.f.size

    @invariant()
    def every_connection_is_accounted_for(self):
        idle, active, waiting = self.f.counts
        assert (active, waiting) == (len(self.f.leases), len(self.f.queue))
        assert idle + active == len(self.f.open)

    @invariant()
    def nobody_waits_beside_an_idle_connection(self):
        idle, _, waiting = self.f.counts
        assert not (idle and waiting)

    @invariant()
    def every_lease_is_known_to_both_sides(self):
        for connection, lessee in self.f.leases.items():
            assert connection.lessee is lessee
            assert lessee.connection is connection

    def teardown(self):
        self.f.pool.close()
        while self.f.dials:
            self.f.connected()
        assert self.f.open == []
        assert not self.f.queue


PoolInUse.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPoolInUse = PoolInUse.TestCase

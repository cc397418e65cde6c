"""The states of a generation, and the cursor of a page."""

import uuid
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.generations import queries, states


def test_nothing_follows_a_final_state_and_everything_ends_in_one():
    for status in states.STATUSES:
        assert states.is_final(status) == (not states.NEXT[status])
        assert states.NEXT[status] <= set(states.STATUSES)
    assert states.NEXT["processing"] >= states.FINAL
    assert not states.is_final("queued")


def test_the_last_event_of_a_generation_is_named_as_its_final_state():
    assert states.FINAL | {"deleted"} == states.LAST_EVENTS


@given(st.uuids())
def test_a_cursor_is_read_back_as_the_id_it_was_made_from(last: uuid.UUID):
    cursor = queries.make_cursor(last)
    assert queries.parse_cursor(cursor) == last
    assert cursor.isascii()
    assert not set(cursor) & set("=+/&?#")


@pytest.mark.parametrize("bad", ["", "zz", "A" * 21, "A" * 23, "é" * 22, "\0" * 22, "=" * 22])
def test_what_is_no_cursor_is_refused(bad):
    with pytest.raises(queries.CursorInvalidError):
        queries.parse_cursor(bad)


@given(st.text(max_size=100))
def test_no_text_breaks_the_cursor_in_another_way(text):
    with suppress(queries.CursorInvalidError):
        assert isinstance(queries.parse_cursor(text), uuid.UUID)

"""Which failures are tried again, how often, and how long that waits."""

from itertools import pairwise

from tests.faults.ledger import Ledger


def run_times(studio, generation_id: str) -> list[float]:
    return [note["at"] for note in studio.notes(generation_id) if note["what"] == "run"]


async def test_a_failure_worth_trying_again_is_tried_again_after_a_pause_and_completes(calm_studio):
    book = Ledger(calm_studio)
    job = await book.ask(options={"fail_times": 1})
    row = (await book.check())[job]
    first, second = run_times(calm_studio, job)
    assert second - first > 0.7
    assert (row["attempt"], row["failures"], row["error_code"]) == (2, 1, None)


async def test_it_fails_with_its_code_after_three_runs_with_growing_pauses(calm_studio):
    book = Ledger(calm_studio)
    job = await book.ask(ends=["failed"], options={"fail_times": 9})
    row = (await book.check())[job]
    first, second = (after - before for before, after in pairwise(run_times(calm_studio, job)))
    assert 0.7 < first < second
    assert second > 3.7
    assert row["error_code"] == "scripted_busy"
    read = await calm_studio.read(job)
    assert read["error"] == {"code": "scripted_busy", "message": "asked to fail for now"}
    assert read["output_paths"] == []


async def test_a_failure_for_good_is_not_tried_again(calm_studio):
    book = Ledger(calm_studio)
    job = await book.ask(ends=["failed"], options={"fail_code": "cannot_be_drawn"})
    row = (await book.check())[job]
    assert len(run_times(calm_studio, job)) == 1
    assert row["error_code"] == "cannot_be_drawn"


async def test_a_retry_by_hand_is_a_new_generation_with_the_same_seed(calm_studio):
    book = Ledger(calm_studio)
    old = await book.ask(ends=["failed"], options={"fail_code": "cannot_be_drawn"})
    await calm_studio.wait(old)
    answer = await calm_studio.http.post(f"/api/generate/{old}/retry")
    assert answer.status_code == 202
    again = answer.json()
    book.expect(again["id"], ends=["failed"])
    rows = await book.check()
    assert str(rows[again["id"]]["retry_of"]) == old
    assert again["parameters"]["seeds"] == (await calm_studio.read(old))["parameters"]["seeds"]

"""A plan follows from its seed."""

from collections import Counter

from tests.chaos.load import _CODING
from tests.chaos.plan import (
    ROUNDS_PER_DECK,
    ExpectedEnd,
    Flaw,
    deck,
    draw,
    extra,
    killer,
    never_answered,
    skipped_highlight,
)


def test_the_same_seed_gives_the_same_plan() -> None:
    assert draw(7) == draw(7)
    assert str(draw(7)) == str(draw(7))
    assert draw(7) != draw(8)


def test_consecutive_seeds_see_every_fault_once() -> None:
    rounds = range(3 * ROUNDS_PER_DECK, 4 * ROUNDS_PER_DECK)
    faults = Counter((fault.kind, fault.target) for seed in rounds for fault in draw(seed).faults)
    wanted = Counter((fault.kind, fault.target) for fault in deck())
    assert faults == wanted


def test_another_deck_is_dealt_otherwise() -> None:
    hands = [{(fault.kind, fault.target) for fault in draw(seed).faults} for seed in (0, ROUNDS_PER_DECK)]
    assert hands[0] != hands[1]


def test_events_and_highlights_are_no_other_rounds() -> None:
    ids = [
        each.event
        for seed in range(20)
        for each in (*draw(seed).sends, killer(seed), never_answered(seed), skipped_highlight(seed, 0))
    ]
    assert len(ids) == len(set(ids))


def test_accounts_ask_for_clips_of_their_own() -> None:
    plan = draw(3)
    owners = {each.highlight: each.account for each in plan.sends if each.expected is ExpectedEnd.CLIP}
    assert plan.requests
    assert all(owners[each.highlight] == each.account for each in plan.requests)


def test_some_highlights_are_detected_twice_and_some_are_flawed() -> None:
    sends = draw(0).sends
    assert any(each.detected for each in sends)
    assert {each.expected for each in sends} == set(ExpectedEnd)


def test_every_codec_and_every_flaw_is_in_every_round() -> None:
    sends = draw(1).sends
    assert {each.codec for each in sends} == {"", "gzip", "snappy", "lz4", "zstd"}
    assert {each.flaw for each in sends} == set(Flaw) - {Flaw.KILLER, Flaw.NEVER_ANSWERED}


def test_every_recording_is_in_every_round_and_the_unusual_ones_come_until_the_end() -> None:
    plan = draw(1)
    assert {each.vod for each in plan.sends} == {"vod.mp4", *_CODING}
    assert {extra(plan, number).vod for number in range(3)} == {"vod.mp4", "deep.mp4", "large.mp4"}

from uuid import UUID

import pytest

from clip_shared.contracts.clip_keys import account_of, clip_of, is_clip_key, poster_key, video_key
from clip_shared.contracts.events import clip_id_for

CLIP = clip_id_for("highlight-1")


def test_the_keys_of_a_clip_are_recognised() -> None:
    for key in (video_key("account_1", CLIP, "event-1"), poster_key("account_1", CLIP, "event-1")):
        assert is_clip_key(key)
        assert account_of(key) == "account_1"
        assert clip_of(key) == CLIP


@pytest.mark.parametrize(
    "key",
    [
        "",
        "vods/account_1/recording.mp4",
        f"clips/account_1/{CLIP}/event-1.mp4/",
        f"/clips/account_1/{CLIP}/event-1.mp4",
        f"clips/../{CLIP}/event-1.mp4",
        f"clips/account_1/{CLIP}/event-1.mkv",
        f"clips/account_1/{CLIP}/event-1.mp4\n",
        f"clips/account_1/{CLIP}/../event-1.mp4",
        "clips/account_1/not-a-uuid/event-1.mp4",
        f"clips/account_1/{UUID(int=0).hex}/event-1.mp4",
        f"clips/{'a' * 65}/{CLIP}/event-1.mp4",
    ],
)
def test_nothing_else_is_a_clip(key: str) -> None:
    assert not is_clip_key(key)
    assert account_of(key) is None
    assert clip_of(key) is None


def test_keys_are_what_the_contract_says() -> None:
    assert video_key("a", CLIP, "e") == f"clips/a/{CLIP}/e.mp4"
    assert poster_key("a", CLIP, "e") == f"clips/a/{CLIP}/e.jpg"

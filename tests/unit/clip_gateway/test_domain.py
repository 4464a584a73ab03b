"""The rules of the gateway."""

from email.message import EmailMessage
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_gateway.domain import (
    LONGEST_NAME_BYTES,
    Refusal,
    Refused,
    Rendition,
    actions_of,
    attachment,
    days_left,
    file_name,
    is_expired,
    is_watchable,
    owned,
    owned_or_none,
    present,
    presign_seconds,
    split_owned,
    watchable,
)
from clip_shared.contracts.registry_api import (
    Actor,
    ClipAction,
    ClipRecord,
    ClipStatus,
    PublishRequest,
    RenameRequest,
)
from tests.unit.clip_gateway.fakes import DAY, InMemoryRegistry, a_clip

LIVING = [ClipStatus.AVAILABLE, ClipStatus.KEPT, ClipStatus.PUBLISHED]
THEIRS = a_clip("bob")


@pytest.mark.parametrize("status", LIVING)
def test_owners_see_and_watch_their_living_clips(status: ClipStatus) -> None:
    clip = a_clip(status=status)
    assert owned(clip, "ann") is clip
    assert watchable(clip, "ann") is clip
    assert is_watchable(clip)
    assert not is_expired(clip)


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        (None, Refusal.UNKNOWN),
        (a_clip(status=ClipStatus.PURGED), Refusal.PURGED),
        (a_clip("bob", status=ClipStatus.PURGED), Refusal.PURGED),
        (THEIRS, Refusal.NOT_OWNER),
        (a_clip("ANN"), Refusal.NOT_OWNER),
        (a_clip("bob", seconds_left=-1), Refusal.NOT_OWNER),
        (a_clip("bob", status=ClipStatus.DELETED), Refusal.NOT_OWNER),
    ],
)
def test_clips_of_other_accounts_are_neither_seen_nor_watched(
    clip: ClipRecord | None, reason: Refusal
) -> None:
    for rule in (owned, watchable):
        with pytest.raises(Refused) as refused:
            rule(clip, "ann")
        assert refused.value.reason is reason
    assert owned_or_none(clip, "ann") is None


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        (a_clip(seconds_left=0), Refusal.EXPIRED),
        (a_clip(seconds_left=-DAY), Refusal.EXPIRED),
        (a_clip(status=ClipStatus.DELETED), Refusal.DELETED),
        (a_clip(status=ClipStatus.DELETED, seconds_left=-1), Refusal.DELETED),
    ],
)
def test_an_expired_or_deleted_clip_is_seen_and_not_watched(clip: ClipRecord, reason: Refusal) -> None:
    assert owned(clip, "ann") is clip
    assert owned_or_none(clip, "ann") is clip
    assert not is_watchable(clip)
    with pytest.raises(Refused) as refused:
        watchable(clip, "ann")
    assert refused.value.reason is reason


def test_only_available_clips_expire() -> None:
    assert is_expired(a_clip(seconds_left=0))
    assert not is_expired(a_clip(seconds_left=0.1))
    assert not is_expired(a_clip(status=ClipStatus.DELETED, seconds_left=-1))


def test_clips_of_other_accounts_are_split_from_a_list() -> None:
    mine = a_clip(seconds_left=-1)
    assert split_owned([mine, THEIRS], "ann") == ([mine], [THEIRS])


@pytest.mark.parametrize("status", ClipStatus)
async def test_what_can_be_done_is_what_the_registry_does(status: ClipStatus) -> None:
    """Every action that is offered is allowed, and changes more than the publication's options."""
    clip = a_clip(status=status)
    for action in ClipAction:
        registry = InMemoryRegistry(clip)
        try:
            changed = await registry.act(action, clip.clip_id, _REQUESTS.get(action, Actor(account_id="ann")))
        except Refused:
            assert action not in actions_of(clip)
        else:
            assert (action in actions_of(clip)) == (changed != clip)


_REQUESTS = {
    ClipAction.PUBLISH: PublishRequest(account_id="ann", indexable=True),
    ClipAction.RENAME: RenameRequest(account_id="ann", title="Another"),
}


@pytest.mark.parametrize(
    ("seconds", "days"),
    [
        *((None, None), (0.5, 1), (DAY, 1), (DAY + 0.001, 2), (7 * DAY, 7), (6.99 * DAY, 7)),
        *((0.0, 0), (-1, 0), (-2.5 * DAY, 0)),
    ],
)
def test_days_are_rounded_up_and_never_negative(seconds: float | None, days: int | None) -> None:
    assert days_left(seconds) == days


@pytest.mark.parametrize(
    ("left", "lives"), [(None, 900), (DAY, 900), (900.9, 900), (899.9, 899), (1.5, 1), (0.01, 1)]
)
def test_a_url_lives_no_longer_than_its_clip(left: float | None, lives: int) -> None:
    assert presign_seconds(900, left) == lives


def test_renditions_have_their_response_headers() -> None:
    clip = a_clip(title="Größte Momente")
    assert present(Rendition.WATCH, clip).content_disposition == "inline"
    assert present(Rendition.WATCH, clip).content_type == "video/mp4"
    assert present(Rendition.WATCH, clip).key == clip.object_key
    assert present(Rendition.DOWNLOAD, clip).content_disposition.startswith("attachment; ")
    assert present(Rendition.POSTER, clip).content_type == "image/jpeg"
    assert present(Rendition.POSTER, clip).key == clip.poster_key


def test_only_media_types_are_shown() -> None:
    assert (
        present(Rendition.WATCH, a_clip(content_type="text/html")).content_type == "application/octet-stream"
    )


def test_a_clip_without_a_poster_has_none_to_show() -> None:
    with pytest.raises(Refused) as refused:
        present(Rendition.POSTER, a_clip(poster_key=None))
    assert refused.value.reason is Refusal.NO_POSTER


@pytest.mark.parametrize(
    "key",
    [
        *("clips/../../vods/bob.mp4", "/clips/a.mp4", "clips/./a.mp4", "clips//a.mp4", ".."),
        *("vods/ann/recording.mp4", "clips/ann/recording.mp4"),
        a_clip("bob", clip_id=UUID(int=1)).object_key,
        a_clip(clip_id=UUID(int=1)).object_key + "/../x",
    ],
)
def test_only_keys_of_the_clips_own_account_are_signed(key: str) -> None:
    poster = key.replace(".mp4", ".jpg")
    for view, clip in (
        (Rendition.WATCH, a_clip(object_key=key)),
        (Rendition.DOWNLOAD, a_clip(object_key=key)),
        (Rendition.POSTER, a_clip(poster_key=poster)),
    ):
        with pytest.raises(Refused) as refused:
            present(view, clip)
        assert refused.value.reason is Refusal.MISPLACED


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("A fine moment", "A fine moment.mp4"),
        ("Ünïcödé 日本 🎉", "Ünïcödé 日本 🎉.mp4"),
        ("e\u0301", "é.mp4"),
        ("../../etc/passwd", "etc passwd.mp4"),
        ('a\\b/c:d*e?f"g<h>i|j', "a b c d e f g h i j.mp4"),
        ("line\r\nbreak\ttab\x00null", "line break tabnull.mp4"),
        ("evil\u202egpj.exe", "evilgpj.exe.mp4"),
        ("👩\u200d🚀 in space", "👩\u200d🚀 in space.mp4"),
        ("  .hidden.  ", "hidden.mp4"),
        ("con", "_con.mp4"),
        ("LPT1.txt", "_LPT1.txt.mp4"),
        ("", "clip.mp4"),
        ("...", "clip.mp4"),
        ("\u200d\u200d", "clip.mp4"),
        ("\ud800", "clip.mp4"),
    ],
)
def test_file_names(title: str, name: str) -> None:
    assert file_name(title) == name


def test_long_names_are_cut_between_characters() -> None:
    name = file_name("ü" * 200)
    assert name == "ü" * (LONGEST_NAME_BYTES // 2) + ".mp4"
    assert file_name("🎉" * 200).startswith("🎉" * (LONGEST_NAME_BYTES // 4))


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("plain.mp4", "attachment; filename=\"plain.mp4\"; filename*=UTF-8''plain.mp4"),
        ("日本.mp4", "attachment; filename=\"clip.mp4\"; filename*=UTF-8''%E6%97%A5%E6%9C%AC.mp4"),
        ("é 100%.mp4", "attachment; filename=\"e 100 .mp4\"; filename*=UTF-8''%C3%A9%20100%25.mp4"),
        ("it's (1).mp4", "attachment; filename=\"it's (1).mp4\"; filename*=UTF-8''it%27s%20%281%29.mp4"),
        (
            "a\uff0fb\uff02.mp4",
            "attachment; filename=\"a b .mp4\"; filename*=UTF-8''a%EF%BC%8Fb%EF%BC%82.mp4",
        ),
    ],
)
def test_attachments(name: str, header: str) -> None:
    assert attachment(name) == header


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_any_title_makes_a_name_that_is_safe_and_survives_the_header(title: str) -> None:
    name = file_name(title)
    assert name.endswith(".mp4")
    assert len(name.encode()) <= LONGEST_NAME_BYTES + len("_.mp4")
    assert name[0] not in ". "
    assert not set(name) & set('/\\:*?"<>|\r\n\t\0\u202e')
    header = attachment(name)
    assert header.isascii()
    assert header.isprintable()
    assert unquote(header.rpartition("''")[2]) == name
    message = EmailMessage()
    message["Content-Disposition"] = header.partition("; filename*=")[0]
    assert (message.get_filename() or "").isascii()

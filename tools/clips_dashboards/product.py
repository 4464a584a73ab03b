"""The dashboard of the product: the clips that were made, kept, published and purged, and their storage."""

from grafana_foundation_sdk.builders import dashboard

from clips_dashboards.panels import Bars, Lines, Number, Panel, Unit, board

NEW_CLIPS = 'clips_transitions_total{kind="cut", outcome=~"created|recut"}'
TIME_TO_CLIP = "clips_highlight_to_available_seconds_bucket"


def _done(kind: str) -> str:
    return f'clips_transitions_total{{kind="{kind}", outcome="done"}}'


def _within(counter: str, window: str) -> str:
    return f"sum(increase({counter}[{window}]))"


def _quantile(share: str, window: str) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({TIME_TO_CLIP}[{window}])))"


TODAY: tuple[Panel, ...] = (
    Number(
        "Clips made, 24 h",
        "Highlights that became a clip in the last 24 hours. New cuts of an existing clip do not count.",
        "ClipsNoProgress",
        {"clips": _within(NEW_CLIPS, "24h")},
    ),
    Number(
        "Kept, 24 h",
        "Clips that their owners kept in the last 24 hours.",
        "ClipsGatewayErrorBurn",
        {"clips": _within(_done("keep"), "24h")},
    ),
    Number(
        "Published, 24 h",
        "Clips that their owners published in the last 24 hours.",
        "ClipsGatewayErrorBurn",
        {"clips": _within(_done("publish"), "24h")},
    ),
    Number(
        "Deleted by owners, 24 h",
        "Clips that their owners deleted in the last 24 hours. They can be restored for some minutes.",
        "ClipsReleasedObjectsAgeing",
        {"clips": _within(_done("delete"), "24h")},
    ),
    Number(
        "Purged, 24 h",
        "Clips purged in the last 24 hours: they expired, or their owners deleted them.",
        "ClipsTickMissed",
        {"clips": _within(_done("purge"), "24h")},
    ),
    Number(
        "Storage held",
        "Bytes of all clips that are not purged. The platform pays for this storage.",
        "ClipsPurgeLagBurn",
        {"bytes": "sum(max by (status) (clips_storage_bytes))"},
        Unit.BYTES,
    ),
    Number(
        "Leaves within 7 days",
        "Bytes of the clips that expire within the next seven days, unless their owners keep them.",
        "ClipsPurgeLagBurn",
        {"bytes": "sum(max by (day) (clips_leaving_bytes))"},
        Unit.BYTES,
    ),
    Number(
        "Time to clip, 24 h",
        "95 of 100 clips of the last 24 hours were available within this time after their highlight.",
        "ClipsHighlightToAvailableSlow",
        {"p95": _quantile("0.95", "24h")},
        Unit.SECONDS,
        warn=300,
        alarm=600,
    ),
)

COURSE: tuple[Panel, ...] = (
    Lines(
        "Clips by event, per hour",
        "Clips made, kept, published, deleted and purged, in the hour before each point.",
        "ClipsNoProgress",
        {
            "made": _within(NEW_CLIPS, "1h"),
            "kept": _within(_done("keep"), "1h"),
            "published": _within(_done("publish"), "1h"),
            "deleted": _within(_done("delete"), "1h"),
            "purged": _within(_done("purge"), "1h"),
        },
        width=12,
        height=7,
    ),
    Lines(
        "Time from highlight to clip",
        "Time from the highlight until the clip is available, of the clips of the hour before each point."
        " The objective: 99 of 100 within ten minutes.",
        "ClipsHighlightToAvailableSlow",
        {
            "median": _quantile("0.5", "1h"),
            "95 of 100": _quantile("0.95", "1h"),
            "99 of 100": _quantile("0.99", "1h"),
        },
        Unit.SECONDS,
        width=12,
        height=7,
    ),
    Lines(
        "Skipped highlights, per hour",
        "Highlights that became no clip, by reason. source_missing and source_unreadable: the VOD is"
        " missing or broken. The other reasons follow from the rules for highlights.",
        "ClipsSkipsSurge",
        {"{{reason}}": "sum by (reason) (increase(clips_skipped_total[1h]))"},
        height=7,
        stacked=True,
    ),
    Lines(
        "Clips by status",
        "Clips that are not purged. available: not kept yet. deleted: can still be restored.",
        "ClipsFiguresStale",
        {"{{status}}": "max by (status) (clips_by_status)"},
        height=7,
        stacked=True,
    ),
    Lines(
        "Storage held, by status",
        "Bytes of the clips that are not purged. Kept and published clips do not expire.",
        "ClipsPurgeLagBurn",
        {"{{status}}": "max by (status) (clips_storage_bytes)"},
        Unit.BYTES,
        height=7,
        stacked=True,
    ),
    Bars(
        "Clips that leave, by days from now",
        "Clips that expire on each of the next seven days, unless they are kept. 0: within 24 hours.",
        "ClipsPurgeLagBurn",
        {"{{day}}": "max by (day) (clips_leaving)"},
        height=7,
    ),
    Lines(
        "Presigned URLs, per hour",
        "URLs that were presigned for owners and viewers: to watch, to download, and for posters.",
        "ClipsGatewayErrorBurn",
        {"{{view}}": "sum by (view) (increase(clips_presigns_total[1h]))"},
        height=7,
    ),
    Lines(
        "Actions of owners, per hour",
        "Actions of owners on their clips, on the pages and through the API.",
        "ClipsGatewayErrorBurn",
        {"{{action}}": "sum by (action) (increase(clips_owner_actions_total[1h]))"},
        height=7,
    ),
    Lines(
        "How clips are cut, per hour",
        "copy: the VOD's video is copied. exact: it is re-encoded, with many times the CPU. fallbacks:"
        " re-encoded because a copy failed its checks.",
        "ClipsConsumerLagGrowing",
        {
            "{{mode}}": "sum by (mode) (increase(clips_cut_seconds_count[1h]))",
            "fallbacks": "sum(increase(clips_cut_fallbacks_total[1h]))",
        },
        height=7,
    ),
    Lines(
        "Bytes read and stored, per hour",
        "Bytes read from VODs (paid as transfer) and bytes of the clips (paid as storage).",
        "ClipsSkipsSurge",
        {
            "read from VODs": _within("clips_pulled_bytes_total", "1h"),
            "stored": _within("clips_stored_bytes_total", "1h"),
        },
        Unit.BYTES,
        height=7,
    ),
)


def build() -> dashboard.Dashboard:
    """Build the dashboard for product owners."""
    about = "Highlights and their clips, the actions of owners, and the storage of the clips."
    return board("clips-product", "Clips: product", about, TODAY + COURSE, hours=24)

"""What becomes of highlights: clips made, kept, published, purged; what they weigh, and what leaves next."""

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
        "Highlights that became a clip within the last 24 hours. Newer cuts of a clip do not count.",
        "ClipsNoProgress",
        {"clips": _within(NEW_CLIPS, "24h")},
    ),
    Number(
        "Kept, 24 h",
        "Clips that their owners decided to keep within the last 24 hours.",
        "ClipsGatewayErrorBurn",
        {"clips": _within(_done("keep"), "24h")},
    ),
    Number(
        "Published, 24 h",
        "Clips that got a public page within the last 24 hours.",
        "ClipsGatewayErrorBurn",
        {"clips": _within(_done("publish"), "24h")},
    ),
    Number(
        "Deleted by owners, 24 h",
        "Clips that their owners deleted within the last 24 hours. They can be restored for a while.",
        "ClipsReleasedObjectsAgeing",
        {"clips": _within(_done("delete"), "24h")},
    ),
    Number(
        "Purged, 24 h",
        "Clips that are gone for good since 24 hours: nobody kept them, or their owners deleted them.",
        "ClipsTickMissed",
        {"clips": _within(_done("purge"), "24h")},
    ),
    Number(
        "Storage held",
        "Bytes of all clips that are not purged. The platform pays for them.",
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
        "95 of 100 clips of the last 24 hours could be watched within this time of their highlight.",
        "ClipsHighlightToAvailableSlow",
        {"p95": _quantile("0.95", "24h")},
        Unit.SECONDS,
        warn=300,
        alarm=600,
    ),
)

COURSE: tuple[Panel, ...] = (
    Lines(
        "What becomes of clips, per hour",
        "Clips made, and what was decided about clips, in the hour before each point.",
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
        "How long after its highlight a clip could be watched, of the clips of the hour before each point."
        " The objective: 99 of 100 within ten minutes.",
        "ClipsHighlightToAvailableSlow",
        {
            "half of them": _quantile("0.5", "1h"),
            "95 of 100": _quantile("0.95", "1h"),
            "99 of 100": _quantile("0.99", "1h"),
        },
        Unit.SECONDS,
        width=12,
        height=7,
    ),
    Lines(
        "Skipped highlights, per hour",
        "Highlights that became no clip, by reason. source_missing and source_unreadable speak of VODs that"
        " are gone or broken; the others follow from the rules.",
        "ClipsSkipsSurge",
        {"{{reason}}": "sum by (reason) (increase(clips_skipped_total[1h]))"},
        height=7,
        stacked=True,
    ),
    Lines(
        "Clips by status",
        "Clips that are not purged. available: nobody has decided yet. deleted: can still be restored.",
        "ClipsFiguresStale",
        {"{{status}}": "max by (status) (clips_by_status)"},
        height=7,
        stacked=True,
    ),
    Lines(
        "Storage held, by status",
        "Bytes of the clips that are not purged. What is kept and published stays until its"
        " owner decides otherwise.",
        "ClipsPurgeLagBurn",
        {"{{status}}": "max by (status) (clips_storage_bytes)"},
        Unit.BYTES,
        height=7,
        stacked=True,
    ),
    Bars(
        "Clips that leave, by days from now",
        "Clips that expire in each of the next seven days, unless they are kept. 0: within 24 hours.",
        "ClipsPurgeLagBurn",
        {"{{day}}": "max by (day) (clips_leaving)"},
        height=7,
    ),
    Lines(
        "Videos and posters handed out, per hour",
        "URLs that were signed for owners and viewers: to watch, to download, and posters.",
        "ClipsGatewayErrorBurn",
        {"{{view}}": "sum by (view) (increase(clips_presigns_total[1h]))"},
        height=7,
    ),
    Lines(
        "What owners do, per hour",
        "What owners did to their clips, on pages and by the API.",
        "ClipsGatewayErrorBurn",
        {"{{action}}": "sum by (action) (increase(clips_owner_actions_total[1h]))"},
        height=7,
    ),
    Lines(
        "How clips are cut, per hour",
        "copy: the VOD's own video, taken over. exact: re-encoded, which costs many times the CPU. fallbacks:"
        " a copy was not good enough.",
        "ClipsConsumerLagGrowing",
        {
            "{{mode}}": "sum by (mode) (increase(clips_cut_seconds_count[1h]))",
            "fallbacks": "sum(increase(clips_cut_fallbacks_total[1h]))",
        },
        height=7,
    ),
    Lines(
        "Bytes read and stored, per hour",
        "Bytes that were read from VODs to make clips, and bytes of the clips: what is paid for as transfer"
        " and as storage.",
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
    """Build the dashboard for whoever answers for the product."""
    about = "What becomes of highlights, what owners do with their clips, and what the clips weigh."
    return board("clips-product", "Clips: product", about, TODAY + COURSE, hours=24)

"""Whether the system does its work: backlog, failures, the gateway's answers, and what runs out."""

from grafana_foundation_sdk.builders import dashboard

from clips_dashboards.panels import Lines, Number, Panel, Unit, board

SERVICES = 'job=~"clip-cutter|clip-registry|clip-gateway|janitor"'
RECENT = "$__rate_interval"


def _quantile(share: str, histogram: str, *by: str) -> str:
    labels = ", ".join(["le", *by])
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket[{RECENT}])))"


NOW: tuple[Panel, ...] = (
    Number(
        "Alerts firing",
        "Alerts that fire now. Alertmanager says which.",
        "ClipsTargetDown",
        {"alerts": 'count(ALERTS{alertname=~"Clips.*", alertstate="firing"}) or vector(0)'},
        warn=1,
    ),
    Number(
        "Processes down",
        "Processes that Prometheus knows of and gets no metrics from.",
        "ClipsTargetDown",
        {"processes": f"count(up{{{SERVICES}}} == 0) or vector(0)"},
        alarm=1,
    ),
    Number(
        "Messages waiting",
        "Messages that wait in all topics.",
        "ClipsConsumerLagGrowing",
        {"messages": "sum(clips_consumer_lag)"},
        warn=100,
    ),
    Number(
        "Oldest waiting message",
        "Age of the oldest message that is not handled, in any topic.",
        "ClipsNoProgress",
        {"age": "max(clips_oldest_waiting_seconds)"},
        Unit.SECONDS,
        warn=300,
        alarm=900,
    ),
    Number(
        "Dead letters, 24 h",
        "Messages that could not be handled within the last 24 hours. They wait in <topic>.dlq.",
        "ClipsDeadLetters",
        {"messages": "sum(increase(clips_dead_letters_total[24h]))"},
        warn=1,
    ),
    Number(
        "Oldest event in the outbox",
        "Age of the oldest event of the registry that Kafka does not have yet.",
        "ClipsOutboxAgeing",
        {"age": "max(clips_outbox_age_seconds)"},
        Unit.SECONDS,
        warn=30,
        alarm=120,
    ),
    Number(
        "Purge lag",
        "How long the oldest clip that is due has been due. Up to a day is normal: a tick comes once a day.",
        "ClipsPurgeLagBurn",
        {"lag": "max(clips_purge_lag_seconds)"},
        Unit.SECONDS,
        warn=86400,
        alarm=93600,
    ),
    Number(
        "Requests to the gateway",
        "Requests a second that the gateway answers.",
        "ClipsGatewayErrorBurn",
        {"requests": f"sum(rate(clips_gateway_request_seconds_count[{RECENT}]))"},
        Unit.PER_SECOND,
    ),
)

MESSAGES: tuple[Panel, ...] = (
    Lines(
        "Error budgets: how fast they are spent",
        "Of each objective, over the last hour. At 1, the budget of 30 days lasts 30 days; from 14.4 on,"
        " somebody is paged. The objectives are in deploy/prometheus/rules/recording.yml.",
        "ClipsHighlightToAvailableSlow",
        {"{{slo}}": "clips:burn_rate1h"},
    ),
    Lines(
        "Messages waiting",
        "Messages behind the end of each topic (the lag of its consumer group).",
        "ClipsConsumerLagGrowing",
        {"{{topic}}": "sum by (topic) (clips_consumer_lag)"},
    ),
    Lines(
        "Age of the oldest waiting message",
        "By topic. It grows where nothing is handled, and stays high where a message fails again and again.",
        "ClipsNoProgress",
        {
            "{{topic}}": "max by (topic) (clips_oldest_waiting_seconds)",
            "longest retry": "max(clips_oldest_retry_seconds)",
        },
        Unit.SECONDS,
    ),
    Lines(
        "Time to handle a message",
        "95 of 100 attempts at a message (or a batch) of the topic took no longer.",
        "ClipsRetriesOld",
        {"{{topic}}": _quantile("0.95", "clips_event_seconds", "topic")},
        Unit.SECONDS,
    ),
    Lines(
        "Messages by outcome",
        "handled, retried (tried again after a pause) and dead_lettered, per second.",
        "ClipsRetriesOld",
        {"{{outcome}}": f"sum by (outcome) (rate(clips_events_total[{RECENT}]))"},
        Unit.PER_SECOND,
    ),
    Lines(
        "Dead letters and refused connections, per hour",
        "Messages put into <topic>.dlq, and calls refused for a password, key, token or certificate.",
        "ClipsDeadLetters",
        {
            "{{topic}}: {{reason}}": "sum by (topic, reason) (increase(clips_dead_letters_total[1h])) > 0",
            "refused: {{system}}": "sum by (system) (increase(clips_connection_refused_total[1h]))",
        },
    ),
)

GATEWAY: tuple[Panel, ...] = (
    Lines(
        "Answers of the gateway",
        "By class of status. 5xx is the gateway's own fault, or the registry's.",
        "ClipsGatewayErrorBurn",
        {
            "{{class}}": "sum by (class) (label_replace("
            f'rate(clips_gateway_request_seconds_count[{RECENT}]), "class", "${{1}}xx", "status", "(.).."))'
        },
        Unit.PER_SECOND,
        stacked=True,
    ),
    Lines(
        "Time of an answer",
        "All routes of the gateway. The objective: 99 of 100 within 0.25 s. Signing a URL takes no request.",
        "ClipsGatewayLatencyBurn",
        {
            "half of them": _quantile("0.5", "clips_gateway_request_seconds"),
            "99 of 100": _quantile("0.99", "clips_gateway_request_seconds"),
            "signing, 99 of 100": _quantile("0.99", "clips_presign_seconds"),
        },
        Unit.SECONDS,
    ),
    Lines(
        "Signed URLs and refusals",
        "URLs handed out, and requests refused by reason, per second. Many refusals of one kind are a broken"
        " client, a broken sign-in, or somebody who tries doors.",
        "ClipsJwksFailing",
        {
            "signed": f"sum(rate(clips_presigns_total[{RECENT}]))",
            "refused: {{reason}}": f"sum by (reason) (rate(clips_refusals_total[{RECENT}])) > 0",
        },
        Unit.PER_SECOND,
    ),
    Lines(
        "Calls to the registry",
        "95 of 100 calls took no longer, by call.",
        "ClipsDatabasePoolExhausted",
        {"{{call}}": _quantile("0.95", "clips_registry_call_seconds", "call")},
        Unit.SECONDS,
    ),
    Lines(
        "Outbox",
        "Events of the registry that wait for Kafka, and those that Kafka refuses for good.",
        "ClipsOutboxAgeing",
        {"waiting": "max(clips_outbox_depth)", "dead": "max(clips_outbox_dead)"},
    ),
    Lines(
        "Purge lag and objects to delete",
        "How long the oldest clip has been due, and the oldest object past its time. A tick a day purges"
        " what is due.",
        "ClipsPurgeLagBurn",
        {
            "clip not purged": "max(clips_purge_lag_seconds)",
            "object not deleted": "max(clips_released_oldest_seconds)",
        },
        Unit.SECONDS,
    ),
)

SATURATION: tuple[Panel, ...] = (
    Lines(
        "CPU",
        "Seconds of CPU a second, of all processes of a service: 1 is one core. The cutter's programs"
        " (ffmpeg) are processes of their own and do not count.",
        "ClipsConsumerLagGrowing",
        {"{{job}}": f"sum by (job) (rate(process_cpu_seconds_total{{{SERVICES}}}[{RECENT}]))"},
    ),
    Lines(
        "Memory",
        "Resident memory of the largest process of a service.",
        "ClipsTargetDown",
        {"{{job}}": f"max by (job) (process_resident_memory_bytes{{{SERVICES}}})"},
        Unit.BYTES,
    ),
    Lines(
        "Scratch disk of the cutters",
        "Used share of the fullest scratch disk, as the latest job found it. Without room a job waits.",
        "ClipsJobsWaitForDisk",
        {"used": "max(1 - clips_scratch_free_bytes / clips_scratch_size_bytes)"},
        Unit.SHARE,
    ),
    Lines(
        "Database connections",
        "Connections of the registry's pools: in use, idle, and how many there may be.",
        "ClipsDatabasePoolExhausted",
        {"{{state}}": "sum by (state) (clips_database_connections)"},
    ),
)


def build() -> dashboard.Dashboard:
    """Build the dashboard for whoever keeps the system running."""
    about = "Whether the system does its work, and what stands in the way when it does not."
    panels = NOW + MESSAGES + GATEWAY + SATURATION
    return board("clips-operation", "Clips: operation", about, panels, hours=3)

"""The dashboard of operation: backlog, failures, the gateway's answers, and resources."""

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
        "Alerts that fire now. Alertmanager lists them.",
        "ClipsTargetDown",
        {"alerts": 'count(ALERTS{alertname=~"Clips.*", alertstate="firing"}) or vector(0)'},
        warn=1,
    ),
    Number(
        "Processes down",
        "Processes whose metrics Prometheus cannot read.",
        "ClipsTargetDown",
        {"processes": f"count(up{{{SERVICES}}} == 0) or vector(0)"},
        alarm=1,
    ),
    Number(
        "Messages waiting",
        "Messages of all topics that no service has handled yet.",
        "ClipsConsumerLagGrowing",
        {"messages": "sum(clips_consumer_lag)"},
        warn=100,
    ),
    Number(
        "Oldest waiting message",
        "Age of the oldest message of all topics that no service has handled yet.",
        "ClipsNoProgress",
        {"age": "max(clips_oldest_waiting_seconds)"},
        Unit.SECONDS,
        warn=300,
        alarm=900,
    ),
    Number(
        "Dead letters, 24 h",
        "Messages that became dead letters in the last 24 hours. They wait in <topic>.dlq.",
        "ClipsDeadLetters",
        {"messages": "sum(increase(clips_dead_letters_total[24h]))"},
        warn=1,
    ),
    Number(
        "Oldest event in the outbox",
        "Age of the oldest event that the registry has not sent to Kafka yet.",
        "ClipsOutboxAgeing",
        {"age": "max(clips_outbox_age_seconds)"},
        Unit.SECONDS,
        warn=30,
        alarm=120,
    ),
    Number(
        "Purge lag",
        "Time since the oldest due clip became due. Up to a day is normal: the tick is sent once a day.",
        "ClipsPurgeLagBurn",
        {"lag": "max(clips_purge_lag_seconds)"},
        Unit.SECONDS,
        warn=86400,
        alarm=93600,
    ),
    Number(
        "Requests to the gateway",
        "Requests that the gateway answers, per second.",
        "ClipsGatewayErrorBurn",
        {"requests": f"sum(rate(clips_gateway_request_seconds_count[{RECENT}]))"},
        Unit.PER_SECOND,
    ),
)

MESSAGES: tuple[Panel, ...] = (
    Lines(
        "Error budgets: how fast they are spent",
        "Burn rate of each objective over the last hour. At 1, a budget of 30 days lasts 30 days; from 14.4,"
        " an alert pages. The objectives are in deploy/prometheus/rules/recording.yml.",
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
        "By topic. It grows while no message is handled, and stays high while a message fails repeatedly.",
        "ClipsNoProgress",
        {
            "{{topic}}": "max by (topic) (clips_oldest_waiting_seconds)",
            "longest retry": "max(clips_oldest_retry_seconds)",
        },
        Unit.SECONDS,
    ),
    Lines(
        "Time to handle a message",
        "95th percentile of the time of an attempt to handle a message, or a batch, of the topic.",
        "ClipsRetriesOld",
        {"{{topic}}": _quantile("0.95", "clips_event_seconds", "topic")},
        Unit.SECONDS,
    ),
    Lines(
        "Messages by outcome",
        "Messages per second: handled, retried (failed, and redelivered after a pause), dead_lettered.",
        "ClipsRetriesOld",
        {"{{outcome}}": f"sum by (outcome) (rate(clips_events_total[{RECENT}]))"},
        Unit.PER_SECOND,
    ),
    Lines(
        "Dead letters and refused connections, per hour",
        "Messages sent to <topic>.dlq, and calls refused because of a password, key, token or certificate.",
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
        "Answers per second by class of status. 5xx: an error of the gateway or of the registry.",
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
        "All routes of the gateway. The objective: 99 of 100 within 0.25 s. signing: the time to sign a URL.",
        "ClipsGatewayLatencyBurn",
        {
            "median": _quantile("0.5", "clips_gateway_request_seconds"),
            "99 of 100": _quantile("0.99", "clips_gateway_request_seconds"),
            "signing, 99 of 100": _quantile("0.99", "clips_presign_seconds"),
        },
        Unit.SECONDS,
    ),
    Lines(
        "Presigned URLs and refusals",
        "Presigned URLs, and refused requests by reason, per second. Many refusals of one reason point to a"
        " broken client, a broken sign-in, or an attack.",
        "ClipsJwksFailing",
        {
            "signed": f"sum(rate(clips_presigns_total[{RECENT}]))",
            "refused: {{reason}}": f"sum by (reason) (rate(clips_refusals_total[{RECENT}])) > 0",
        },
        Unit.PER_SECOND,
    ),
    Lines(
        "Calls to the registry",
        "95th percentile of the time of a call, by call.",
        "ClipsDatabasePoolExhausted",
        {"{{call}}": _quantile("0.95", "clips_registry_call_seconds", "call")},
        Unit.SECONDS,
    ),
    Lines(
        "Outbox",
        "Events that the registry has not sent to Kafka yet, and events that Kafka refuses permanently.",
        "ClipsOutboxAgeing",
        {"waiting": "max(clips_outbox_depth)", "dead": "max(clips_outbox_dead)"},
    ),
    Lines(
        "Purge lag and objects to delete",
        "Time since the oldest due clip became due, and since the oldest released object should have been"
        " deleted. The tick is sent once a day.",
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
        "CPU seconds per second of all processes of a service: 1 is one core. The ffmpeg processes of the"
        " cutter are not included.",
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
        "Used share of the fullest scratch disk, as the latest job measured it. A job without space waits.",
        "ClipsJobsWaitForDisk",
        {"used": "max(1 - clips_scratch_free_bytes / clips_scratch_size_bytes)"},
        Unit.SHARE,
    ),
    Lines(
        "Database connections",
        "Connections of the registry's pools: in use, idle, and the maximum.",
        "ClipsDatabasePoolExhausted",
        {"{{state}}": "sum by (state) (clips_database_connections)"},
    ),
)


def build() -> dashboard.Dashboard:
    """Build the dashboard for operators."""
    about = "The state of the system, and the causes when it does not work."
    panels = NOW + MESSAGES + GATEWAY + SATURATION
    return board("clips-operation", "Clips: operation", about, panels, hours=3)

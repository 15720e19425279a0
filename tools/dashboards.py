"""What Haulyard's Grafana dashboards show."""

from grafana import Dashboard, Panel, Query, Row

_TAG = ("haulyard",)
_QUANTILES = (0.5, 0.95, 0.99)
_API = 'job="haulyard-gateway",route=~"/v1/.*"'
# Their answers begin when there is something to tell, up to 25 s later: that is no slowness.
_PATIENT = 'route!~"/v1/jobs/[^/]+/(status|archive)|/v1/download/start"'


def _rate(series: str, by: str = "") -> str:
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping}(rate({series}[$__rate_interval]))"


def _quantile(quantile: float, histogram: str, matchers: str = "", by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    selector = f"{histogram}_bucket{{{matchers}}}" if matchers else f"{histogram}_bucket"
    return f"histogram_quantile({quantile}, {_rate(selector, labels)})"


def _quantiles(histogram: str, matchers: str = "", *, exemplars: bool = False) -> list[Query]:
    return [Query(_quantile(each, histogram, matchers), f"p{each * 100:g}", exemplars=exemplars) for each in _QUANTILES]


def _share(part: str, whole: str) -> str:
    """Over the time that is shown; what never happened has no series, and is 0."""
    return f"(sum(increase({part}[$__range])) or vector(0)) / sum(increase({whole}[$__range]))"


def _share_now(part: str, whole: str) -> str:
    return f"({_rate(part)} or vector(0)) / {_rate(whole)}"


def _fullest(series: str, by: str) -> str:
    """Every orchestrator tells the same of the broker and the cache: the largest, not the sum."""
    return f"max by ({by})({series})" if by else f"max({series})"


def _processes(service: str) -> Row:
    job = f'job="haulyard-{service}"'
    return Row(
        "Processes",
        [
            Panel(
                title="Processor of each process",
                about="Cores. One process uses one core at most: near 1, more replicas are needed.",
                queries=[Query(f"rate(process_cpu_seconds_total{{{job}}}[$__rate_interval])", "{{instance}}")],
                most=1.5,
                red_above=0.9,
            ),
            Panel(
                title="Memory of each process",
                about="Resident set. It grows with slots and connections, and not with the size of archives.",
                queries=[Query(f"process_resident_memory_bytes{{{job}}}", "{{instance}}")],
                unit="bytes",
            ),
            Panel(
                title="Open files of each process",
                about="Sockets and files, of as many as the system allows.",
                queries=[Query(f"process_open_fds{{{job}}} / process_max_fds{{{job}}}", "{{instance}}")],
                unit="percentunit",
                most=1,
            ),
        ],
    )


_PROMISES = Row(
    "What was promised, over the time that is shown",
    [
        Panel(
            title="Jobs that succeed",
            about="Completed, of all that did not fail because of their files. Promised: 99.9 %.",
            queries=[
                Query(
                    "1 - "
                    + _share(
                        'haulyard_jobs_total{status="failed",code=~"INTERNAL|STORE_UNAVAILABLE|JOB_TIMEOUT|UPLOAD_GONE"}',
                        'haulyard_jobs_total{status=~"completed|failed"}',
                    )
                )
            ],
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
            red_below=0.999,
        ),
        Panel(
            title="Requests without our errors",
            about="Of the API, not answered 5xx. Promised: 99.9 %.",
            queries=[
                Query(
                    "1 - "
                    + _share(
                        f'haulyard_http_requests_total{{{_API},status="5xx"}}',
                        f"haulyard_http_requests_total{{{_API}}}",
                    )
                )
            ],
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
            red_below=0.999,
        ),
        Panel(
            title="Answers within 0.1 s",
            about="Of the API, without requests that wait for news. Promised: 95 %.",
            queries=[
                Query(
                    _share(
                        f'haulyard_http_request_duration_seconds_bucket{{{_API},{_PATIENT},le="0.1"}}',
                        f"haulyard_http_request_duration_seconds_count{{{_API},{_PATIENT}}}",
                    )
                )
            ],
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
            red_below=0.95,
        ),
        Panel(
            title="News within 1 s",
            about="Changes of jobs that the notifiers heard of within a second. Promised: 99 %.",
            queries=[
                Query(_share('haulyard_live_delay_seconds_bucket{le="1.0"}', "haulyard_live_delay_seconds_count"))
            ],
            unit="percentunit",
            kind="stat",
            width=4,
            height=4,
            red_below=0.99,
        ),
        Panel(
            title="Archives a day",
            about="Jobs that were completed in the last 24 hours.",
            queries=[Query('sum(increase(haulyard_jobs_total{status="completed"}[1d]))')],
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            title="Average archive",
            about="Mean size of the archives of completed jobs.",
            queries=[Query(_share("haulyard_archive_size_bytes_sum", "haulyard_archive_size_bytes_count"))],
            unit="bytes",
            kind="stat",
            width=4,
            height=4,
        ),
    ],
)

_ENDPOINTS = Row(
    "API: rate, errors, duration",
    [
        Panel(
            title="Requests by endpoint",
            about="Requests that were answered, a second.",
            queries=[Query(_rate(f"haulyard_http_requests_total{{{_API}}}", "method, route"), "{{method}} {{route}}")],
            unit="reqps",
        ),
        Panel(
            title="Errors by endpoint",
            about="Share of the requests of an endpoint that were answered 5xx.",
            queries=[
                Query(
                    _rate(f'haulyard_http_requests_total{{{_API},status="5xx"}}', "method, route")
                    + " / "
                    + _rate(f"haulyard_http_requests_total{{{_API}}}", "method, route"),
                    "{{method}} {{route}}",
                )
            ],
            unit="percentunit",
        ),
        Panel(
            title="Duration by endpoint, p95",
            about="Time until the answer begins. What waits for news (status, archive, start) takes that long.",
            queries=[
                Query(
                    _quantile(0.95, "haulyard_http_request_duration_seconds", _API, "method, route"),
                    "{{method}} {{route}}",
                )
            ],
            unit="s",
        ),
        Panel(
            title="Duration of all that does not wait",
            about="The goal is p95 below 0.1 s.",
            queries=_quantiles("haulyard_http_request_duration_seconds", f"{_API},{_PATIENT}", exemplars=True),
            unit="s",
            red_above=0.1,
        ),
        Panel(
            title="Answers by class",
            about="4xx is what clients do wrong, 429 among it; 5xx is what we do wrong.",
            queries=[Query(_rate(f"haulyard_http_requests_total{{{_API}}}", "status"), "{{status}}")],
            unit="reqps",
            stacked=True,
        ),
        Panel(
            title="Archives that are streamed",
            about="Downloads that go through the gateways because the archive is not in the store yet.",
            queries=[Query("sum(haulyard_archive_streams)", "streams")],
        ),
    ],
)

_JOBS = Row(
    "Jobs",
    [
        Panel(
            title="Jobs that end, by state",
            about="A job that is completed, failed or cancelled expires later, and is counted here again then.",
            queries=[Query(_rate("haulyard_jobs_total", "status"), "{{status}}")],
            unit="ops",
        ),
        Panel(
            title="Failed jobs by reason",
            about="The codes are those of the API.",
            queries=[Query(_rate('haulyard_jobs_total{status="failed"}', "code"), "{{code}}")],
            unit="ops",
            stacked=True,
        ),
        Panel(
            title="Share of jobs that fail",
            about="For whatever reason, also those that are in the users' files.",
            queries=[
                Query(
                    _share_now(
                        'haulyard_jobs_total{status="failed"}', 'haulyard_jobs_total{status=~"completed|failed"}'
                    ),
                    "failed",
                )
            ],
            unit="percentunit",
            red_above=0.1,
        ),
        Panel(
            title="Duration of completed jobs",
            about="From the request until the archive is in the store.",
            queries=_quantiles("haulyard_job_duration_seconds", 'status="completed"', exemplars=True),
            unit="s",
        ),
        Panel(
            title="Phases of completed jobs, p95",
            about="Plan: from the request until it is known what to do, the wait in the queue included. "
            "Prepare: only deflated jobs and sources of unknown length. Finish: the last call to the store.",
            queries=[Query(_quantile(0.95, "haulyard_job_phase_seconds", by="phase"), "{{phase}}")],
            unit="s",
        ),
        Panel(
            title="Mean of each phase",
            about="Stacked: where the time of a job goes.",
            queries=[
                Query(
                    _rate("haulyard_job_phase_seconds_sum", "phase")
                    + " / "
                    + _rate("haulyard_job_phase_seconds_count", "phase"),
                    "{{phase}}",
                )
            ],
            unit="s",
            stacked=True,
        ),
        Panel(
            title="Jobs that found their archive",
            about="Finished: it was there. In flight: it was being built for another job.",
            queries=[Query(_rate("haulyard_archives_reused_total", "how"), "{{how}}")],
            unit="ops",
        ),
        Panel(
            title="Files by type that were left out",
            about="Share of the files of each type that their jobs had to do without.",
            queries=[
                Query(
                    _rate('haulyard_files_total{outcome="failed"}', "type")
                    + " / "
                    + _rate("haulyard_files_total", "type"),
                    "{{type}}",
                )
            ],
            unit="percentunit",
        ),
        Panel(
            title="Size of archives",
            about="Of completed jobs.",
            queries=_quantiles("haulyard_archive_size_bytes"),
            unit="bytes",
        ),
    ],
)

_QUEUES = Row(
    "Queues",
    [
        Panel(
            title="Waiting, by queue",
            about="Messages that nobody has taken: requests and wishes wait for orchestrators, lanes for archivers.",
            queries=[Query(_fullest('haulyard_queue_messages{state="waiting"}', "queue"), "{{queue}}")],
            red_above=100,
        ),
        Panel(
            title="Taken and not done, by queue",
            about="In somebody's hands. More than there are hands: somebody died with them, and they come again.",
            queries=[Query(_fullest('haulyard_queue_messages{state="taken"}', "queue"), "{{queue}}")],
        ),
        Panel(
            title="Age of the oldest that waits, by queue",
            about="Requests should never wait. A low lane that waits while high ones are busy is what priorities mean.",
            queries=[Query(_fullest("haulyard_queue_oldest_seconds", "queue"), "{{queue}}")],
            unit="s",
        ),
        Panel(
            title="Dead letters",
            about="Messages that were given up; see `haulyard admin dead-letters list`. No line: the broker is away.",
            queries=[Query("max(haulyard_dead_letters)", "dead letters")],
            red_above=1,
        ),
    ],
)

_BYTES = Row(
    "Bytes",
    [
        Panel(
            title="Source bytes by way",
            about="Copied by the store itself, or through archivers to build parts or to prepare them.",
            queries=[
                Query(_rate("haulyard_copied_bytes_total"), "copied by the store"),
                Query(_rate("haulyard_streamed_bytes_total", "phase"), "through archivers: {{phase}}"),
            ],
            unit="Bps",
            stacked=True,
        ),
        Panel(
            title="Share through the service",
            about="Of all source bytes. It rises when the store cannot copy, and with small or deflated files.",
            queries=[
                Query(
                    f"{_rate('haulyard_streamed_bytes_total')} / "
                    f"({_rate('haulyard_streamed_bytes_total')} + {_rate('haulyard_copied_bytes_total')})",
                    "of bytes",
                ),
                Query(_quantile(0.5, "haulyard_through_service_ratio"), "of the median job"),
            ],
            unit="percentunit",
        ),
        Panel(
            title="Bytes laid out",
            about="Source bytes of the archives that were planned.",
            queries=[Query(_rate("haulyard_planned_bytes_total"), "planned")],
            unit="Bps",
        ),
    ],
)

_SERVICES = Row(
    "Services and servers",
    [
        Panel(
            title="Processes that answer",
            about="Of each service.",
            queries=[Query('sum by (job)(up{job=~"haulyard-.+"})', "{{job}}")],
        ),
        Panel(
            title="Not ready",
            about="Readiness probes that were answered 503: something is away without which the service cannot serve.",
            queries=[
                Query(_rate('haulyard_http_requests_total{route="/health/ready",status="5xx"}', "job"), "{{job}}"),
            ],
            unit="reqps",
        ),
        Panel(
            title="Connections to PostgreSQL in use",
            about="Share of the pools of each service. At 1, requests and messages wait for a connection.",
            queries=[
                Query(
                    'sum by (job)(haulyard_postgres_connections{state="used"})'
                    ' / sum by (job)(haulyard_postgres_connections{state="most"})',
                    "{{job}}",
                )
            ],
            unit="percentunit",
            most=1,
        ),
        Panel(
            title="Memory of Valkey",
            about="What it uses for its data. No line: it is away.",
            queries=[Query("max(haulyard_cache_memory_bytes)", "used")],
            unit="bytes",
        ),
        Panel(
            title="Processor by service",
            about="Cores that all processes of a service use.",
            queries=[Query(_rate('process_cpu_seconds_total{job=~"haulyard-.+"}', "job"), "{{job}}")],
            stacked=True,
        ),
        Panel(
            title="Spans that were lost",
            about="Traces for the collector that could not be sent.",
            queries=[Query(_rate('haulyard_trace_spans_total{outcome="failed"}', "job"), "{{job}}")],
            unit="ops",
        ),
    ],
)

OVERVIEW = Dashboard(
    uid="haulyard-overview",
    title="Haulyard: overview",
    about="Does it keep its promises, and if not, where is it stuck?",
    rows=[_PROMISES, _ENDPOINTS, _JOBS, _QUEUES, _BYTES, _SERVICES],
    links=_TAG,
)

_TASKS = Row(
    "Tasks",
    [
        Panel(
            title="Tasks done, by kind",
            about="Put: a whole archive. Part: bytes through the archiver. Copy: the store's own work. "
            "Prepare: before the archive can be laid out.",
            queries=[Query(_rate('haulyard_tasks_total{outcome="done"}', "kind"), "{{kind}}")],
            unit="ops",
        ),
        Panel(
            title="Tasks that could not be done, by reason",
            about="The orchestrator has them tried again, three times in all, if the reason may pass.",
            queries=[Query(_rate('haulyard_tasks_total{outcome!="done"}', "outcome"), "{{outcome}}")],
            unit="ops",
            stacked=True,
        ),
        Panel(
            title="Share of tasks that could not be done",
            about="Of all tasks.",
            queries=[Query(_share_now('haulyard_tasks_total{outcome!="done"}', "haulyard_tasks_total"), "not done")],
            unit="percentunit",
            red_above=0.05,
        ),
        Panel(
            title="Slots at work",
            about="Mean number of tasks under way: the time that tasks took, a second. "
            "As many as all slots (HAULYARD_ARCHIVER_SLOTS of each process): more archivers are needed.",
            queries=[
                Query(_rate("haulyard_task_duration_seconds_sum"), "all"),
                Query(_rate("haulyard_task_duration_seconds_sum", "instance"), "{{instance}}"),
            ],
        ),
        Panel(
            title="Duration of tasks, p95, by kind",
            about="Copies depend on the store alone.",
            queries=[Query(_quantile(0.95, "haulyard_task_duration_seconds", by="kind"), "{{kind}}", exemplars=True)],
            unit="s",
        ),
        Panel(
            title="Mean duration of tasks, by kind",
            about="A change without a change of sizes is the store's.",
            queries=[
                Query(
                    _rate("haulyard_task_duration_seconds_sum", "kind")
                    + " / "
                    + _rate("haulyard_task_duration_seconds_count", "kind"),
                    "{{kind}}",
                )
            ],
            unit="s",
        ),
    ],
)

_THROUGH = Row(
    "Bytes through archivers",
    [
        Panel(
            title="By kind of task",
            about="Source bytes that were read.",
            queries=[Query(_rate("haulyard_archiver_bytes_total", "kind"), "{{kind}}")],
            unit="Bps",
            stacked=True,
        ),
        Panel(
            title="By process",
            about="All should have about the same.",
            queries=[Query(_rate("haulyard_archiver_bytes_total", "instance"), "{{instance}}")],
            unit="Bps",
        ),
        Panel(
            title="Parts planned, by kind",
            about="What orchestrators ask archivers for.",
            queries=[Query(_rate("haulyard_parts_total", "kind"), "{{kind}}")],
            unit="ops",
        ),
    ],
)

_LANES = Row(
    "Lanes",
    [
        Panel(
            title="Tasks that wait, by lane",
            about="Lane 10 is served first. KEDA scales the archivers by their sum.",
            queries=[
                Query(
                    _fullest('haulyard_queue_messages{queue=~"archiver-lane-.+",state="waiting"}', "queue"), "{{queue}}"
                )
            ],
            width=12,
            stacked=True,
        ),
        Panel(
            title="Age of the oldest task, by lane",
            about="How long a task waits before an archiver takes it.",
            queries=[Query(_fullest('haulyard_queue_oldest_seconds{queue=~"archiver-lane-.+"}', "queue"), "{{queue}}")],
            unit="s",
            width=12,
        ),
    ],
)

ARCHIVERS = Dashboard(
    uid="haulyard-archivers",
    title="Haulyard: archivers",
    about="Are there enough of them, and what do they wait for?",
    rows=[_TASKS, _LANES, _THROUGH, _processes("archiver")],
    links=_TAG,
)

_LIVE = Row(
    "Live updates",
    [
        Panel(
            title="Clients that follow a job",
            about="Open WebSockets and event streams.",
            queries=[Query("sum by (kind)(haulyard_live_connections)", "{{kind}}")],
            stacked=True,
        ),
        Panel(
            title="Messages to clients",
            about="At most five changes a second for each client.",
            queries=[Query(_rate("haulyard_live_messages_total", "kind"), "{{kind}}")],
            unit="ops",
        ),
        Panel(
            title="From a change until the notifier knows",
            about="The goal is p99 below 1 s.",
            queries=_quantiles("haulyard_live_delay_seconds"),
            unit="s",
            red_above=1,
        ),
        Panel(
            title="Clients that were not let in, by reason",
            about="Bad tickets, too many connections of one user, or a server that is away.",
            queries=[Query(_rate("haulyard_live_refused_total", "reason"), "{{reason}}")],
            unit="ops",
        ),
        Panel(
            title="Clients that were dropped",
            about="They did not read for too long; they come back by themselves.",
            queries=[Query(_rate("haulyard_live_dropped_total", "kind"), "{{kind}}")],
            unit="ops",
        ),
        Panel(
            title="Clients of each notifier",
            about="Uneven after a restart, because clients stay where they are.",
            queries=[Query("sum by (instance)(haulyard_live_connections)", "{{instance}}")],
        ),
    ],
)

_WEBHOOKS = Row(
    "Webhooks",
    [
        Panel(
            title="Requests, by what became of the delivery",
            about="Retry: it is tried again later. Dead: given up after ten tries in three days, or refused for good.",
            queries=[Query(_rate("haulyard_webhook_attempts_total", "outcome"), "{{outcome}}")],
            unit="reqps",
            stacked=True,
        ),
        Panel(
            title="Share of requests that deliver",
            about="One receiver that is away for long lowers it for all.",
            queries=[
                Query(
                    _share_now(
                        'haulyard_webhook_attempts_total{outcome="delivered"}', "haulyard_webhook_attempts_total"
                    ),
                    "delivered",
                )
            ],
            unit="percentunit",
            most=1,
        ),
        Panel(
            title="Duration of requests",
            about="The receivers' time, up to HAULYARD_WEBHOOK_TIMEOUT.",
            queries=_quantiles("haulyard_webhook_duration_seconds"),
            unit="s",
        ),
        Panel(
            title="Receivers that are left alone",
            about="Hosts that failed five times in a row, and get nothing for a while.",
            queries=[Query("sum(increase(haulyard_webhook_hosts_left_alone_total[1h]))", "in the last hour")],
        ),
        Panel(
            title="Ends of jobs that wait for a notifier",
            about="Events of which it was not looked up yet whether a webhook wants them.",
            queries=[
                Query(
                    _fullest('haulyard_queue_messages{queue="notifier-webhooks",state="waiting"}', ""),
                    "waiting",
                )
            ],
        ),
    ],
)

_STREAMS = Row(
    "Archives through the gateway",
    [
        Panel(
            title="Bytes by where they come from",
            about="Sources: while the archive is built. Archive: once it is in the store, for who began before.",
            queries=[Query(_rate("haulyard_archive_streamed_bytes_total", "origin"), "{{origin}}")],
            unit="Bps",
            stacked=True,
        ),
        Panel(
            title="Open streams of each gateway",
            about="At most HAULYARD_ARCHIVE_STREAMS; more are answered 503.",
            queries=[Query("haulyard_archive_streams", "{{instance}}")],
        ),
        Panel(
            title="Time until a download begins",
            about="The goal is p99 below 5 s.",
            queries=_quantiles(
                "haulyard_http_request_duration_seconds",
                'job="haulyard-gateway",method="GET",route="/v1/jobs/{job_id}/archive"',
            ),
            unit="s",
            red_above=5,
        ),
    ],
)

DELIVERY = Dashboard(
    uid="haulyard-delivery",
    title="Haulyard: delivery",
    about="Do people and programs hear of their jobs, and get their archives?",
    rows=[_LIVE, _WEBHOOKS, _STREAMS, _processes("notifier")],
    links=_TAG,
)

DASHBOARDS = {"overview": OVERVIEW, "archivers": ARCHIVERS, "delivery": DELIVERY}
"""By the name of their file."""

"""What the notifier counts."""

from haulyard_chassis.metrics import LONG_SECONDS, counter, gauge, histogram

CONNECTIONS = gauge("live_connections", "Clients that follow a job.", ["kind"])
MESSAGES = counter("live_messages_total", "Messages that were sent to clients.", ["kind"])
REFUSED = counter("live_refused_total", "Clients that were not let in.", ["reason"])
DROPPED = counter("live_dropped_total", "Clients that were dropped because they did not read.", ["kind"])
DELAY = histogram("live_delay_seconds", "Time from a change of a job until the notifier has heard of it.")

ATTEMPTS = counter("webhook_attempts_total", "Requests to webhooks, by what became of the delivery.", ["outcome"])
ATTEMPT_SECONDS = histogram("webhook_duration_seconds", "Time that a request to a webhook took.", buckets=LONG_SECONDS)
LEFT_ALONE = counter("webhook_hosts_left_alone_total", "Times that a failing receiver was left alone for a while.")

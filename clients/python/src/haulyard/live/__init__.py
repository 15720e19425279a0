"""Following a job: WebSocket, else server-sent events, else polling.

`timeline` (what is news), `ladder` (which way next) and `sse` (the event stream's grammar) are pure; `transports` are
the three ways, each as thin as it can be; `follow` puts them together.
"""

"""Tells clients and webhooks what happens to jobs.

Two halves that share nothing but their connections: `live` relays events to WebSocket and SSE clients, and keeps no
state that a restart could lose; `webhooks` hands the end of a job to the URL that its request named, and keeps every
delivery in the record until it is made.
"""

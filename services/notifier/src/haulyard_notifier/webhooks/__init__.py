"""Webhooks: the end of a job is handed to the URL that its request named.

`intake` turns events into rows of the record, `sender` turns due rows into requests. Between the two there is only the
record, so a delivery survives whatever happens to this process. Receivers are told at least once, always with the
same ``webhook-id``; how requests look follows the Standard Webhooks specification.
"""

"""Live updates: what happens to a job, as it happens, to whoever watches it.

A client first gets the job's state as it is (the snapshot), then each change. Every event holds the whole state, so
what a client needs is never a history, only the newest state it has not seen: one per client, whatever its speed.
"""

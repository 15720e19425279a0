"""Bytes from and to the object store: archives to disk, files up.

`ranges` (what is left to fetch) and `naming` are pure; `partial` keeps on disk what has arrived; `remote` reads ranges
and bears faults; `download` and `upload` put them together.
"""

"""The command line. `main` is the entry; each command is a thin function over `haulyard.AsyncClient`."""

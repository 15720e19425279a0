"""The gateway: Haulyard's HTTP API. It takes requests for archives, tells how they are, and signs links to them."""

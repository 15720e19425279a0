"""A stand-in for a service: answers its health path, and ends when told to at `/end`."""

import http.server
import os
import sys
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()
        self.wfile.write(os.environ.get("HAULYARD_NATS_URL", "").encode())
        if self.path == "/end":
            sys.stdout.write("told to end\n")
            sys.stdout.flush()
            threading.Thread(target=lambda: os._exit(9)).start()


address = (os.environ["HAULYARD_HTTP_HOST"], int(os.environ["HAULYARD_HTTP_PORT"]))
http.server.ThreadingHTTPServer(address, Handler).serve_forever()

"""A server of files on this machine, for tests of downloads."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """What is served: ``bodies["/name"]``; a path in ``cut`` loses its end; ``asked`` counts."""

    def __init__(self):
        self.bodies, self.cut, self.asked = {}, {}, 0
        self.base = ""  # the address, without a slash at its end


@contextmanager
def serving():
    """A running :class:`LocalServer`; answers 404 where there is no body."""
    served = LocalServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            served.asked += 1
            body = served.bodies.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: served.cut.get(self.path, len(body))])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    served.base = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()

"""HAProxy: one thread, connections to the upstreams always reused."""

import os
import shutil
import signal

from job import UPSTREAMS, USER_HEADER
from peer import Peer, first_line

CONFIGURATION = """
global
  nbthread 1
  maxconn 11000
  no strict-limits
{settings}
defaults
  mode http
  timeout connect 1s
  timeout client 600s
  timeout server 30s
  timeout http-keep-alive 600s
  option forwardfor
  http-reuse always
{log}
frontend in
  bind 127.0.0.1:{port}{tls}
  http-request set-var(txn.position) req.hdr({header}),xxh32,mod(100)
  http-request set-header X-Forwarded-Proto {scheme}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Request-Id %[uuid]
  use_backend canary if {{ var(txn.position) -m int lt {canary} }}
  use_backend green if {{ var(txn.position) -m int ge {green} }}
  default_backend blue
{backends}
"""


class Haproxy(Peer):
    """The Debian package, with its default buffer size."""

    name = "haproxy"
    reloads_by = "master-worker mode, SIGUSR2 to the master"
    settings = ""

    def version(self):
        return first_line("haproxy", "-v")

    def missing(self):
        return None if shutil.which("haproxy") else "haproxy is not installed: apt-get install haproxy"

    def files(self, setting):
        backends = "\n".join(
            f"backend {name}\n  http-request set-header X-Weir-Variant {name}\n"
            f"  server one 127.0.0.1:{setting.upstreams[name]}" for name in UPSTREAMS
        )
        # It writes to a descriptor, not to a path: its standard output is the access log.
        log = "  log stdout format raw local0 info\n  option httplog" if setting.access_log else ""
        files = setting.certificates
        tls = f" ssl crt {files.both} alpn h2,http/1.1 ssl-min-ver TLSv1.3" if files else ""
        return {"haproxy.cfg": CONFIGURATION.format(
            port=setting.port, tls=tls, scheme="https" if files else "http", settings=self.settings, log=log, backends=backends, header=USER_HEADER,
            canary=setting.weights["canary"], green=100 - setting.weights["green"],
        )}

    def command(self, setting):
        command = ["haproxy", "-W", "-f", str(setting.folder / "haproxy.cfg")]
        return ["sh", "-c", 'log=$1; shift; exec "$@" >>"$log"', "sh", str(setting.log), *command]

    def reload(self, process):
        os.kill(process.pid, signal.SIGUSR2)


class HaproxyLargeBuffers(Haproxy):
    """The same with buffers of 64 KiB: dearer for each connection, cheaper for large bodies."""

    name = "haproxy-64k"
    settings = "  tune.bufsize 65536"
    large_bodies_only = True

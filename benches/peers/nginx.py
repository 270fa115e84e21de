"""nginx: one worker, buffers as its documentation tunes them for proxying."""

import os
import shutil
import signal

from job import UPSTREAMS
from peer import Peer, first_line

CONFIGURATION = """
worker_processes 1; worker_rlimit_nofile 40000; daemon off; pid {aside}/nginx.pid; error_log stderr warn;
events {{ worker_connections 32000; }}
http {{
  {log}
  client_body_temp_path {aside}/t1; proxy_temp_path {aside}/t2; fastcgi_temp_path {aside}/t3;
  uwsgi_temp_path {aside}/t4; scgi_temp_path {aside}/t5;
  keepalive_requests 100000000; keepalive_timeout 600s;
  proxy_buffers 8 64k; proxy_buffer_size 64k; proxy_busy_buffers_size 384k; proxy_max_temp_file_size 0;
  split_clients "$http_x_user_id" $variant {{ {canary}% canary; {green}% green; * blue; }}
{upstreams}
  server {{
    listen 127.0.0.1:{port}{kind} reuseport backlog=4096;{tls}
    location / {{
      proxy_pass http://$variant; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Request-Id $request_id; proxy_set_header X-Weir-Variant $variant;
    }}
  }}
}}
"""

TLS = " ssl_protocols TLSv1.3; ssl_certificate {0.certificate}; ssl_certificate_key {0.key};"

# Its buffers come from the C library, which by default gives them back after each large response and fetches them anew.
KEEP_MEMORY = ("MALLOC_TRIM_THRESHOLD_=1073741824", "MALLOC_MMAP_THRESHOLD_=1073741824")


class Nginx(Peer):
    """The Debian package."""

    name = "nginx"
    reloads_by = "nginx -s reload (a SIGHUP to the master)"

    def version(self):
        return first_line("nginx", "-v")

    def missing(self):
        return None if shutil.which("nginx") else "nginx is not installed: apt-get install nginx"

    def files(self, setting):
        upstreams = "\n".join(
            f"  upstream {name} {{ server 127.0.0.1:{setting.upstreams[name]}; keepalive 256; "
            "keepalive_requests 100000000; }" for name in UPSTREAMS
        )
        log = f"access_log {setting.log} combined buffer=64k flush=1s;" if setting.access_log else "access_log off;"
        weights = setting.weights
        return {"nginx.conf": CONFIGURATION.format(
            aside=setting.aside, port=setting.port, log=log, upstreams=upstreams, canary=weights["canary"],
            green=weights["green"], kind=" ssl http2" if setting.certificates else "",
            tls=TLS.format(setting.certificates) if setting.certificates else "",
        )}

    def command(self, setting):
        return ["env", *KEEP_MEMORY, "nginx", "-p", str(setting.aside), "-c", str(setting.folder / "nginx.conf")]

    def reload(self, process):
        os.kill(process.pid, signal.SIGHUP)

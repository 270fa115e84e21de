"""weir: one worker, as it comes; its metrics are always on."""

import os

from job import USER_HEADER
from peer import Peer, first_line

CONFIGURATION = """
workers: 1
listeners: [{{ bind: 127.0.0.1:{port}{tls} }}]
{log}
upstreams:
{upstreams}
splits:
{splits}
routes:
{routes}
"""

MANY_ROUTES = 10_000
MANY_SPLITS = 1_000


class Weir(Peer):
    """A build of weir; with `many`, the job is one among 10 000 routes and 1 000 splits."""

    reloads_by = "a rename over the watched file"

    def __init__(self, binary, name="weir", many=False):
        self.binary, self.name, self.many = str(binary), name, many

    def missing(self):
        return None if os.access(self.binary, os.X_OK) else "not built; `make release` builds it"

    def version(self):
        return first_line(self.binary, "--version")

    def files(self, setting):
        log = f"access_log: {{ path: {setting.log} }}" if setting.access_log else ""
        upstreams = [f"  {name}: {{ endpoints: ['127.0.0.1:{port}'] }}" for name, port in setting.upstreams.items()]
        variants = (
            f"{{ key: [header:{USER_HEADER}], variants: [{{ name: blue }}, "
            f"{{ name: green, weight: {setting.weights['green']}% }}, "
            f"{{ name: canary, weight: {setting.weights['canary']}% }}] }}"
        )
        splits, routes = [f"  checkout: {variants}"], ["  - split: checkout"]
        if self.many:
            splits += [f"  split-{number}: {variants}" for number in range(1, MANY_SPLITS)]
            routes = [
                f"  - {{ hosts: [shop-{number}.example], paths: [/shelf-{number}/*], split: split-"
                f"{number % (MANY_SPLITS - 1) + 1} }}" for number in range(1, MANY_ROUTES)
            ] + routes
        files = setting.certificates
        tls = (
            f', tls: {{ certificates: [{{ cert: {files.certificate}, key: {files.key} }}], min_version: "1.3" }}'
            if files else ""
        )
        return {"weir.yaml": CONFIGURATION.format(
            port=setting.port, tls=tls, log=log, upstreams="\n".join(upstreams), splits="\n".join(splits),
            routes="\n".join(routes),
        )}

    def command(self, setting):
        return [self.binary, "run", "--config", str(setting.folder / "weir.yaml")]

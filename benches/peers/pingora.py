"""Pingora: a minimal proxy of the job on the library, one worker thread."""

from peer import Peer


class Pingora(Peer):
    """The crate below `pingora/`, built by this run."""

    name = "pingora"
    tls = False  # it would need another build, with another TLS library

    def __init__(self, binary, why_not):
        self.binary, self.why_not = str(binary), why_not

    def missing(self):
        return self.why_not

    def version(self):
        return "the library as pinned in pingora/Cargo.lock"

    def files(self, setting):
        return {}

    def command(self, setting):
        upstreams = [f"{name}={setting.upstreams[name]}={weight}" for name, weight in setting.weights.items()]
        return [self.binary, str(setting.port), str(setting.log) if setting.access_log else "-", *upstreams]

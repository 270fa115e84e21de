//! The closed sets from which every label value comes: names of the configuration, and the enums below. Nothing that a
//! client sends ever becomes a label, so a stranger cannot grow the number of series.

use std::sync::Arc;

/// Where a request goes: the label set of one destination. Empty text means that there is no such thing, for instance
/// no split on a route that names its upstream, or no upstream on a redirect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The route's name.
    pub route: Arc<str>,
    /// The split's name, or empty.
    pub split: Arc<str>,
    /// The variant's name, or empty.
    pub variant: Arc<str>,
    /// The upstream's name, or empty.
    pub upstream: Arc<str>,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u32);

        impl $name {
            pub(super) fn new(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }

            pub(super) const fn index(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// A [`Target`] that [`super::Metrics::target`] knows. It stays valid for ever, over every reload.
    TargetId;
    /// An upstream that [`super::Metrics::upstream`] knows.
    UpstreamId;
    /// A listener that [`super::Metrics::listener`] knows.
    ListenerId;
    /// A rate limit that [`super::Metrics::limit`] knows.
    LimitId;
    /// A split and variant, whatever the route and the upstream.
    ArmId;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// The label's text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    )*};
}

labels! {
    /// Why an upstream did not give a response; the label `cause`.
    Cause {
        /// The connection was not made.
        Connect = "connect",
        /// The upstream took too long.
        Timeout = "timeout",
        /// The connection broke, or the stream was reset.
        Reset = "reset",
        /// What came back is not HTTP.
        Protocol = "protocol",
        /// The TLS handshake failed.
        Tls = "tls",
        /// Its response was one after which the request was sent again.
        Status = "status",
        /// There was no endpoint to try.
        NoEndpoint = "no_endpoint",
    }

    /// Who is the cause of an error; the label `blame`.
    Blame {
        /// The request was at fault, or the client went away.
        Client = "client",
        /// The upstream failed.
        Upstream = "upstream",
        /// This proxy failed, or refused because of its own configuration or limits.
        Us = "us",
    }

    /// Why a client's connection was closed for what it is or did, and not in its course; the label `cause`.
    Refused {
        /// It did not say in time what it is.
        Timeout = "timeout",
        /// The TLS handshake failed.
        Tls = "tls",
        /// It asked for a server name that no certificate has.
        ServerName = "server_name",
        /// Its client certificate is missing, or not one that we take.
        ClientCertificate = "client_certificate",
        /// It did not begin with a valid PROXY header.
        ProxyHeader = "proxy_header",
        /// Its peer is not one that may send a PROXY header.
        Untrusted = "untrusted",
        /// It sent more frames without a use than anybody needs.
        Flood = "flood",
        /// There were as many connections as there may be, in all or of its listener.
        Limit = "limit",
        /// There were as many connections of its client as there may be.
        ClientLimit = "client_limit",
    }

    /// Whether an upstream did well; the label `outcome`.
    Outcome {
        /// It answered what it was asked.
        Success = "success",
        /// It was at fault.
        Failure = "failure",
    }

    /// What became of a further attempt; the label `outcome`.
    RetryOutcome {
        /// It gave a response.
        Success = "success",
        /// It failed as well.
        Failure = "failure",
        /// It was not made: the budget had none left.
        Denied = "denied",
    }

    /// Why a request was sent again; the label `reason` of retries.
    RetryReason {
        /// No connection was made, or the endpoint had not looked at the request.
        Connect = "connect",
        /// The connection broke, or the stream was reset.
        Reset = "reset",
        /// There was no response in time.
        Timeout = "timeout",
        /// The response was one to try again after.
        Status = "status",
        /// The first attempt took long: the second one was made beside it.
        Hedge = "hedge",
    }
}

/// What happens to a connection to an upstream. An open connection is at each moment either in use or idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionEvent {
    /// It was made, and is in use.
    Connected,
    /// It was in use and now waits for a request.
    Idle,
    /// It waited and now is in use.
    Busy,
    /// It was in use and is closed.
    Closed,
    /// It waited and is closed.
    IdleClosed,
}

/// What happens to a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DownstreamEvent {
    /// It was accepted.
    Accepted,
    /// It is closed.
    Closed,
}

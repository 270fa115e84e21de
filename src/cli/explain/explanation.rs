//! What is explained of a request. The fields are the JSON of `weir explain --output json`: names stay. Who fills them:
//! [`super::way`].

use std::net::IpAddr;

use serde::Serialize;

use super::choice::Choice;
use super::obstacle::Obstacle;

/// A request's way. What is `None` or empty was not reached.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    /// What is asked.
    pub(super) request: Asking,
    /// Who asks.
    pub(super) client: Client,
    /// Headers that do not count and are removed.
    pub(super) removed: Vec<Removed>,
    /// The route that takes the request.
    pub(super) route: Option<Taken>,
    /// Why each route does not take it, in the order of the file; only where none does.
    pub(super) obstacles: Vec<Obstacle>,
    /// How many such requests may come, where the route limits that.
    pub(super) rate_limit: Option<Limited>,
    /// What the split of the route decides.
    pub(super) split: Option<Choice>,
    /// Where the request goes; `None` where chance decides (then [`Choice::shares`] tells), or it goes nowhere.
    pub(super) upstream: Option<Destination>,
    /// What the upstream is sent.
    pub(super) sent: Option<Sent>,
    /// The answer, where it is the proxy's own.
    pub(super) answer: Option<Answer>,
}

/// What is asked.
#[derive(Debug, Serialize)]
pub(super) struct Asking {
    /// The method.
    pub(super) method: String,
    /// The path and the query.
    pub(super) target: String,
    /// The path and the query that routes read and the upstream gets, where the listener's `paths` make another of it.
    pub(super) read_as: Option<String>,
    /// The host; `None` without one, or with one that is none.
    pub(super) host: Option<String>,
}

/// Who asks.
#[derive(Debug, Serialize)]
pub(super) struct Client {
    /// Who is connected.
    pub(super) peer: IpAddr,
    /// The listener.
    pub(super) listener: String,
    /// Whether the listener trusts the peer; `None` where it names nobody, so that everybody's identity headers count.
    pub(super) trusted: Option<bool>,
    /// The client's address: the peer's, or what a trusted peer says of it.
    pub(super) address: IpAddr,
}

/// A header that is removed before anything reads it.
#[derive(Debug, Serialize)]
pub(super) struct Removed {
    /// Its name.
    pub(super) header: String,
    /// Why.
    pub(super) why: Why,
}

/// Why a header is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// It is between two hops, or `connection` says so.
    HopByHop,
    /// It is another spelling of a header that routing reads.
    Alias,
    /// Only the proxy may set it.
    Ours,
    /// Its name has `_`, and the listener removes such.
    Underscore,
    /// Routing reads it, and the peer is not trusted.
    Untrusted,
}

/// The route that takes a request.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    /// Its name.
    pub(super) name: String,
    /// Its place in the file, from 1.
    pub(super) place: usize,
    /// How many routes there are.
    pub(super) of: usize,
    /// The host that matched; `None` where it names none.
    pub(super) host: Option<String>,
    /// The path that matched; `None` where it names none.
    pub(super) path: Option<String>,
    /// `split`, `upstream`, `redirect` or `respond`.
    pub(super) action: &'static str,
}

/// How many requests may come.
#[derive(Debug, Serialize)]
pub(super) struct Limited {
    /// The rate, as in the file.
    pub(super) requests: String,
    /// In so many seconds.
    pub(super) seconds: u64,
    /// How many may come at once.
    pub(super) burst: u64,
    /// Where the unit is read; `None` where all requests are one unit, or those that have none.
    pub(super) source: Option<String>,
    /// The unit.
    pub(super) unit: Option<String>,
}

/// Where a request goes.
#[derive(Debug, Serialize)]
pub(super) struct Destination {
    /// The upstream.
    pub(super) name: String,
    /// What is spoken to it: `http1` or `http2`.
    pub(super) protocol: &'static str,
    /// Its endpoints, as configured.
    pub(super) endpoints: Vec<String>,
    /// How many of them are tried at most.
    pub(super) attempts: usize,
    /// What happens when none takes the request: `baseline` or `error` (503).
    pub(super) on_unavailable: &'static str,
}

/// What the upstream is sent.
#[derive(Debug, Serialize)]
pub(super) struct Sent {
    /// The path and the query.
    pub(super) target: String,
    /// The host; `None` where it is that of the endpoint, and there are several.
    pub(super) host: Option<String>,
    /// All headers but the host.
    pub(super) headers: Vec<Field>,
}

/// A header field.
#[derive(Debug, Serialize)]
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// Its value; `None` where it is made for each request.
    pub(super) value: Option<String>,
    /// Whether the client sent it so.
    pub(super) from_client: bool,
}

/// An answer of the proxy itself.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The code in `x-weir-error`, where the request is refused.
    pub(super) error: Option<&'static str>,
    /// What is wrong.
    pub(super) why: Option<String>,
    /// The headers that the client gets.
    pub(super) headers: Vec<Field>,
}

//! Whether an upstream did well: the one place that says what counts as its failure. Metrics count by it, and whoever
//! compares variants asks nobody else.

use super::labels::Outcome;
use crate::wire::grpc::Status;

/// Whether a response with this HTTP status, and this gRPC status where the request was gRPC, is a success of the
/// upstream's.
///
/// A failure is what the server is at fault for: an HTTP status from 500 on, and of gRPC `UNKNOWN`, `DEADLINE_EXCEEDED`,
/// `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`, or no status at all. These are the statuses that Google's
/// mapping to HTTP puts from 500 on; `NOT_FOUND`, `PERMISSION_DENIED` and the like are what a server in good health
/// answers, as 404 and 403 are.
pub const fn is_success(status: u16, grpc: Option<Status>) -> bool {
    let is_grpc_fault = match grpc {
        Some(status) => status.is_fault(),
        None => false,
    };
    status < 500 && !is_grpc_fault
}

impl Outcome {
    /// What a response that ended by itself comes to.
    pub const fn of(status: u16, grpc: Option<Status>) -> Self {
        if is_success(status, grpc) { Self::Success } else { Self::Failure }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_what_the_server_is_at_fault_for() {
        for (status, success) in
            [(200, true), (302, true), (404, true), (499, true), (500, false), (599, false)]
        {
            assert_eq!(is_success(status, None), success, "{status}");
        }
        let faults: Vec<_> = Status::ALL
            .into_iter()
            .filter(|grpc| !is_success(200, Some(*grpc)))
            .map(Status::as_str)
            .collect();
        let expected = [
            "UNKNOWN",
            "DEADLINE_EXCEEDED",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "MISSING",
        ];
        assert_eq!(faults, expected);
        assert!(!is_success(503, Some(Status::Ok)), "a failure of either is one");
    }
}

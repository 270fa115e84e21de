//! What a response still lacks when it reaches its protocol.

use http::StatusCode;

use super::date;
use crate::proxy::Outbound;
use crate::wire::grpc::STATUS;
use crate::wire::{Known, ResponseHead};

/// Adds the length of a body of our own, the date, and where else the same is to be had.
pub(super) fn complete(head: &mut ResponseHead, body: &Outbound, is_head: bool, alt_svc: Option<&str>) {
    // A response of gRPC that is trailers alone has no body that could have a length.
    let bodiless = head.fields.contains(STATUS)
        || matches!(
            head.status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    if !bodiless
        && !head.fields.contains(Known::ContentLength)
        && let Outbound::Full(_) = body
        && !(is_head && body.is_empty())
        && let Some(length) = body.length()
    {
        head.fields.append(Known::ContentLength, length.to_string().as_bytes());
    }
    if !head.fields.contains(Known::Date) {
        head.fields.append(Known::Date, &date::now());
    }
    if let Some(alt_svc) = alt_svc
        && !head.fields.contains("alt-svc")
    {
        head.fields.append("alt-svc", alt_svc.as_bytes());
    }
}

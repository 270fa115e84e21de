//! A check by gRPC's health protocol: `Health/Check`, a unary call over HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::target::Call;
use super::{Failure, http2};
use crate::wire::Fields;
use crate::wire::grpc::{self, Status};
use crate::wire::grpc_health::{self, Serving};

/// Asks for the health of `call`'s service.
pub(super) async fn ask<T>(io: T, call: &Call<'_>) -> Result<(), Failure>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut fields = HeaderMap::new();
    for (name, value) in call.fields() {
        fields.append(name, value.clone());
    }
    fields.insert(header::TE, HeaderValue::from_static("trailers"));
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    if let Ok(timeout) = HeaderValue::try_from(timeout(call.timeout)) {
        fields.insert(HeaderName::from_static(grpc::TIMEOUT), timeout);
    }
    let path = PathAndQuery::from_static(grpc_health::PATH);
    let head = http2::head(&Method::POST, call.scheme, call.host, &path, fields)?;
    let body = Bytes::from(grpc_health::request(call.service));
    http2::exchange(io, head, Some(body), answered).await
}

async fn answered(response: Response<RecvStream>) -> Result<(), Failure> {
    if response.status() != StatusCode::OK {
        return Err(Failure::Status(response.status()));
    }
    let content_type = response.headers().get(header::CONTENT_TYPE);
    if !content_type.is_some_and(|value| grpc::is_grpc(value.as_bytes())) {
        return Err(Failure::NotGrpc);
    }
    let (head, body) = response.into_parts();
    if body.is_end_stream() {
        // A head that is the whole answer: an error, always.
        return Err(Failure::Grpc(Status::of(&Fields::from(&head.headers))));
    }
    let (mut body, is_whole, bytes) = http2::read(body, grpc_health::MAX_ANSWER).await?;
    if !is_whole {
        return Err(Failure::TooLarge);
    }
    let trailers = body.trailers().await.map_err(Failure::of_http2)?;
    match trailers.map_or(Status::Missing, |trailers| Status::of(&Fields::from(&trailers))) {
        Status::Ok => {}
        status => return Err(Failure::Grpc(status)),
    }
    match grpc_health::answer(&bytes)? {
        Serving::Serving => Ok(()),
        other => Err(Failure::Serving(other)),
    }
}

/// A time as gRPC writes it: at most eight digits and a unit.
fn timeout(limit: Duration) -> String {
    const MOST: u128 = 99_999_999;
    if limit.as_millis() <= MOST {
        return format!("{}m", limit.as_millis().max(1));
    }
    format!("{}S", u128::from(limit.as_secs()).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_has_at_most_eight_digits() {
        for (limit, expected) in [
            (Duration::from_millis(250), "250m"),
            (Duration::from_secs(1), "1000m"),
            (Duration::from_hours(27), "97200000m"),
            (Duration::from_hours(48), "172800S"),
        ] {
            let text = timeout(limit);
            assert_eq!(text, expected);
            let fields = Fields::from_iter([(grpc::TIMEOUT, text.as_str())]);
            assert_eq!(grpc::timeout(&fields), Some(limit));
        }
    }
}

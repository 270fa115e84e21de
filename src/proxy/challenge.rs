//! The pages that an authority asks for while it makes sure that a name is ours (RFC 8555 §8.3): before any route, on every
//! plain listener, and only those that it is to ask for now. What else stands at such paths is the routes'.

use bytes::Bytes;
use http::{Method, StatusCode};

use super::{Outbound, Response};
use crate::acme::Shelf;
use crate::wire::{Known, RequestHead};

/// Where the pages stand.
const FOLDER: &str = "/.well-known/acme-challenge/";

/// The page that `head` asks for, where it is one.
pub(super) fn page(head: &RequestHead, shelf: &Shelf) -> Option<Response> {
    let token = head.path().strip_prefix(FOLDER)?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return None;
    }
    let text = shelf.page(token)?;
    let body = Outbound::full(Bytes::copy_from_slice(text.as_bytes()));
    let mut response = Response::new(StatusCode::OK, body);
    response.head.fields.append(Known::ContentType, b"application/octet-stream");
    Some(response)
}

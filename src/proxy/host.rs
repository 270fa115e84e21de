//! The host that an upstream is told.

use std::borrow::Cow;

use http::HeaderValue;

use super::Failure;
use super::authority::Authority;
use crate::config::model::HostRewrite;
use crate::wire::{Known, RequestHead};

/// The host that an upstream is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host<'a> {
    /// That of the `Host` field, which stays as the client sent it.
    Kept,
    /// This one; an empty one where an HTTP/1.0 client named none.
    Named(Cow<'a, HeaderValue>),
    /// That of the endpoint.
    Endpoint,
}

impl<'a> Host<'a> {
    /// The host for the request `head`, which is for `authority`.
    ///
    /// # Errors
    /// [`Failure::BadHost`] when the target's own authority is no field value.
    pub fn of(head: &RequestHead, authority: &Authority, rewrite: &'a HostRewrite) -> Result<Self, Failure> {
        let client = match (rewrite, head.authority()) {
            (HostRewrite::Endpoint, _) => return Ok(Self::Endpoint),
            (HostRewrite::Name(name), _) => return Ok(Self::Named(Cow::Borrowed(name))),
            (HostRewrite::Preserve, Some(target)) => target,
            (HostRewrite::Preserve, None) if head.fields.contains(Known::Host) => return Ok(Self::Kept),
            (HostRewrite::Preserve, None) => authority.as_str(),
        };
        let client = HeaderValue::from_str(client).map_err(|_| Failure::BadHost)?;
        Ok(Self::Named(Cow::Owned(client)))
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri, Version};

    use super::*;
    use crate::wire::Fields;

    #[test]
    fn host_is_kept_where_the_client_named_it_in_its_field_alone() {
        let named = |host| Host::Named(Cow::Owned(HeaderValue::from_static(host)));
        let other = HostRewrite::Name(HeaderValue::from_static("c"));
        let rows = [
            ("/", Some("A:80"), HostRewrite::Preserve, Host::Kept),
            ("http://B/", Some("a"), HostRewrite::Preserve, named("B")),
            ("/", None, HostRewrite::Preserve, named("")),
            ("/", Some("a"), HostRewrite::Endpoint, Host::Endpoint),
            ("http://b/", Some("a"), other, named("c")),
        ];
        for (uri, host, rewrite, expected) in rows {
            let fields: Fields = host.map(|host| (Known::Host, host)).into_iter().collect();
            let head = RequestHead::new(Method::GET, &Uri::from_static(uri), Version::HTTP_10, fields);
            let authority = Authority::of(&head).unwrap();
            assert_eq!(Host::of(&head, &authority, &rewrite), Ok(expected), "{uri} {host:?} {rewrite:?}");
        }
    }
}

//! `Expect: 100-continue` on its way through (RFC 9110 §10.1.1): the client's body is not asked for before the endpoint
//! asks for it, so that a refusal costs no upload.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{StatusCode, Version};
use tokio::time::Sleep;

use super::Interim;
use crate::wire::{Fields, ResponseHead};

/// How long an endpoint may take to ask; those that know no 100 wait for the body without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the endpoint has asked for the body; set by whoever reads its 1xx responses.
#[derive(Debug, Default)]
pub(super) struct Asked {
    is_set: AtomicBool,
    waker: AtomicWaker,
}

/// A body that is held back until it is asked for.
#[derive(Debug)]
pub(super) struct Expectation {
    asked: Arc<Asked>,
    /// Armed when the body is first wanted: once the request's head is on its way.
    patience: Option<Pin<Box<Sleep>>>,
    /// Where the client's 100 goes, where its protocol does not give it by itself.
    interim: Option<Interim>,
}

impl Asked {
    pub(super) fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Expectation {
    pub(super) fn new(interim: Option<Interim>) -> Self {
        Self { asked: Arc::default(), patience: None, interim }
    }

    pub(super) fn asked(&self) -> Arc<Asked> {
        Arc::clone(&self.asked)
    }

    /// Waits until the endpoint has asked, or has had its time, and asks the client.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.asked.waker.register(cx.waker());
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        if !self.asked.is_set.load(Ordering::Acquire) && patience.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        if let Some(interim) = self.interim.take() {
            let go_on = ResponseHead::new(StatusCode::CONTINUE, Version::HTTP_11, Fields::default());
            interim.send(go_on);
        }
        Poll::Ready(())
    }
}

//! What the last change came to: read by `/status`, `/readyz` and the metrics, written by the writer alone.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::types::Generation;

/// What the last reload came to.
#[derive(Debug, Clone)]
pub struct ReloadStatus {
    /// When it ended.
    pub at: SystemTime,
    /// The generation that serves since then.
    pub generation: Generation,
    /// The hash of the texts that serve.
    pub hash: String,
    /// What was wrong, when it was refused: one entry an error, each with its place.
    pub errors: Vec<ReloadError>,
}

/// One error of a refused reload.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ReloadError {
    /// The stable code.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// The file, where one is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

/// The status, shared between the writer and the admin pages.
#[derive(Debug)]
pub struct Status {
    last: Mutex<ReloadStatus>,
}

impl Status {
    /// The status after a start.
    pub fn new(first: ReloadStatus) -> Self {
        Self { last: Mutex::new(first) }
    }

    /// What the last reload came to.
    pub fn last(&self) -> ReloadStatus {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, status: ReloadStatus) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

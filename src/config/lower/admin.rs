//! `telemetry`, `admin` and `access_log`.

use super::super::field::Field;
use super::super::model::{AccessLog, Admin, LogPath, Telemetry};
use super::super::source::resolve;
use super::super::{diagnostic::Code, raw};
use super::Lower;

/// The section `telemetry`.
pub(super) fn telemetry(cx: &mut Lower<'_, '_>, field: &Field<raw::Telemetry>) -> Option<Telemetry> {
    let raw = field.get()?;
    cx.require(&raw.bind, field.span, "bind")?;
    Some(Telemetry { bind: cx.bind(&raw.bind)? })
}

/// The section `admin`.
pub(super) fn admin(cx: &mut Lower<'_, '_>, field: &Field<raw::Admin>) -> Option<Admin> {
    Some(Admin { bind: cx.bind(&field.get()?.bind)? })
}

/// The section `access_log`.
pub(super) fn access_log(cx: &mut Lower<'_, '_>, field: &Field<raw::AccessLog>) -> Option<AccessLog> {
    let raw = field.get()?;
    let path = match cx.require(&raw.path, field.span, "path")?.as_ref() {
        "" => {
            cx.report
                .error(Code::InvalidPath, raw.path.span, "the path is empty")
                .hint("write `stdout` or the path of a file");
            return None;
        }
        "stdout" => LogPath::Stdout,
        path => LogPath::File(resolve(cx.report.sources, raw.path.span, path)),
    };
    Some(AccessLog { path, unit_key: *raw.unit_key.get()? })
}

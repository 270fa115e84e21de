//! c
use super::Exit;
pub fn run(_a: &super::args::TokenArgs, _out: &mut impl std::io::Write) -> anyhow::Result<Exit> {
    Ok(Exit::Ok)
}

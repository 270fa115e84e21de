//! c
use super::Exit;
pub fn run(_a: &super::args::DemoArgs) -> anyhow::Result<Exit> {
    Ok(Exit::Ok)
}

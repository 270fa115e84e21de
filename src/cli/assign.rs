//! c
use super::Exit;
pub fn run(
    _a: &super::args::AssignArgs,
    _i: &mut impl std::io::BufRead,
    _out: &mut impl std::io::Write,
) -> anyhow::Result<Exit> {
    Ok(Exit::Ok)
}

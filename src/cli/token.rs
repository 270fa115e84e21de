//! `weir token`: a signed override for a tester. The token alone goes to the standard output. What it is made of:
//! `logic/split/token`.

use std::io::Write;

use anyhow::{Context, bail};

use super::args::TokenArgs;
use super::{Exit, configuration};
use crate::logic::split::token::{Claim, sign};
use crate::proxy::handle::seconds_now;
use crate::types::UnitKey;

/// The unit that stands for everybody.
const EVERYBODY: &str = "*";

/// Signs a token with the first key of the split's key file and prints it.
///
/// # Errors
/// When the configuration is refused, has no such split or variant, or the split has no key; when the unit could not
/// be one; when the token cannot be written.
pub fn run(args: &TokenArgs, out: &mut impl Write) -> anyhow::Result<Exit> {
    let config = configuration::load(&args.config)?;
    let split = &configuration::split(&config, &args.split)?.split;
    if split.variant(&args.variant).is_none() {
        let known = split.variants.iter().map(|variant| variant.name.as_str());
        return Err(configuration::unknown("variant", &args.variant, known));
    }
    let Some(force) = &split.force else {
        bail!("the split `{}` has no `override`, so no token counts", split.name);
    };
    let Some(key) = force.keys.first() else {
        bail!("the `override` of the split `{}` has no `key_file`, so no token counts", split.name);
    };
    if args.unit != EVERYBODY {
        UnitKey::new(args.unit.as_bytes()).context("no request has this unit")?;
    }
    let claim = Claim {
        split: args.split.clone(),
        variant: args.variant.clone(),
        unit: args.unit.clone(),
        expires: seconds_now().saturating_add(args.expires.as_secs().max(1)),
    };
    writeln!(out, "{}", sign(key, &claim))?;
    Ok(Exit::Ok)
}

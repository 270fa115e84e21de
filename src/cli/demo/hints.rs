//! What a person may try next, with what it will do: computed on the same users by the same functions, before the edit.

use std::path::Path;

use http::header::HeaderValue;

use super::division::{Division, Edit};
use super::moves::Moves;
use super::users::Users;
use crate::logic::split::Layout;
use crate::state::Snapshot;
use crate::types::Share;

/// The steps of a ramp, in percent.
const RAMP: [&str; 5] = ["1%", "5%", "25%", "50%", "75%"];

/// What may be tried while `division` serves `users`, who ask as `host`; one sentence each.
pub(super) fn hints(
    snapshot: &Snapshot,
    users: Users,
    host: &HeaderValue,
    division: &Division,
    file: &Path,
) -> Vec<String> {
    let mut hints = vec![format!("curl -H 'x-user-id: ann' http://{}/", host.to_str().unwrap_or_default())];
    let name = division.split.as_deref();
    let split = snapshot
        .config
        .splits
        .iter()
        .map(|split| &split.split)
        .find(|split| Some(split.name.as_str()) == name);
    let Some(split) = split else { return hints };
    let others = split.layout.shares().get(1..).unwrap_or_default();
    let Some((last, before)) = others.split_last() else { return hints };
    let Some(variant) = split.variants.last().map(|variant| variant.name.as_str()) else { return hints };
    let ramp = RAMP.iter().filter_map(|text| Share::parse(text).ok());
    let free = Share::WHOLE - before.iter().map(|share| share.ppm()).sum::<u32>().min(Share::WHOLE);
    let next = ramp.clone().find(|share| share > last && share.ppm() <= free).or_else(|| ramp.clone().next());
    for share in next.into_iter().chain((*last != Share::NONE).then_some(Share::NONE)) {
        let shares: Vec<Share> = before.iter().copied().chain([share]).collect();
        let Ok(layout) = Layout::new(&shares) else { continue };
        let edit = Edit { split: split.name.as_str(), layout: &layout };
        let moves = division.moves_to(&Division::of(snapshot, users, host, Some(edit)));
        hints.push(format!("{variant} {last} → {share}: {}", forecast(&moves, variant)));
    }
    hints.push(format!(
        "{variant} {last} → 500%: refused with its line in {}; nothing changes",
        file.display()
    ));
    hints
}

fn forecast(moves: &Moves, variant: &str) -> String {
    if moves.flows.is_empty() {
        return "nobody moves".to_owned();
    }
    let flows: Vec<_> = moves.flows.iter().map(ToString::to_string).collect();
    let leaves = moves.flows.iter().any(|flow| flow.from == variant);
    let stay = if leaves { String::new() } else { format!("; nobody leaves {variant}") };
    format!("{} users move, {}{stay}", moves.moved, flows.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::division::{snapshot, three};
    use super::*;

    #[tokio::test]
    async fn next_step_of_the_ramp_is_told_with_who_will_move() {
        let host = HeaderValue::from_static("127.0.0.1:8080");
        // The weights of green and canary, and what is told of canary.
        let rows: [(&str, &str, &[&str]); 4] = [
            (
                "9%",
                "1%",
                &[
                    "canary 1% → 5%: 196 users move, blue → canary 196; nobody leaves canary",
                    "canary 1% → 0%: 50 users move, canary → blue 50",
                    "canary 1% → 500%: refused with its line in weir-demo.yaml; nothing changes",
                ],
            ),
            ("9%", "0%", &["canary 0% → 1%: 50 users move, blue → canary 50; nobody leaves canary"]),
            ("9%", "75%", &["canary 75% → 1%: ", "canary 75% → 0%: "]),
            ("60%", "40%", &["canary 40% → 1%: ", "canary 40% → 0%: "]),
        ];
        for (green, canary, expected) in rows {
            let text = three("", "")
                .replace("weight: 9%", &format!("weight: {green}"))
                .replace("canary, weight: 1%", &format!("canary, weight: {canary}"));
            let snapshot = snapshot(&text).await;
            let users = Users::new(5000);
            let division = Division::of(&snapshot, users, &host, None);
            let told = hints(&snapshot, users, &host, &division, Path::new("weir-demo.yaml"));
            assert_eq!(told[0], "curl -H 'x-user-id: ann' http://127.0.0.1:8080/");
            for (hint, expected) in told[1..].iter().zip(expected) {
                assert!(hint.starts_with(expected), "{green} {canary}: {hint}");
            }
            assert_eq!(told.len(), if canary == "0%" { 3 } else { 4 }, "{told:?}");
        }
    }
}

//! `make soak`: a real process between clients of every kind and endpoints that come and go, for as long as is asked for.
//! In the end everything that was taken is given back: memory, descriptors, threads, connections, requests.
//!
//! `SOAK=3m` says for how long; without it nothing is done, so that the other tests are not waited for. `WEIR=PATH` names
//! another binary than that of this build. Reading order: [`site`] (the processes and the configuration), [`endpoint`],
//! [`clients`] with [`turns`] and `http3` (what they ask), [`trouble`] (what disturbs them), [`figures`] (what is measured).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test says what it expects by panicking, prints what it measured, and works on files and clocks"
)]

mod clients;
mod endpoint;
mod figures;
#[cfg(feature = "http3")]
mod http3;
mod process;
mod site;
mod trouble;
mod turns;

use std::time::{Duration, Instant};

use clients::Clients;
use figures::Figures;
use site::Site;

/// How long all may take to settle when the load is over: longer than an unused thread of the runtime's lives.
const SETTLING: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // One thread: whoever it starts ends with it, whatever happens to it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match arguments.as_slice() {
        [what, address] if what == "endpoint" => runtime.block_on(endpoint::serve(address.parse().unwrap())),
        _ => match std::env::var("SOAK") {
            Ok(time) => runtime.block_on(soak(duration(&time))),
            Err(_) => println!("soak: not asked for; `make soak`, or SOAK=3m"),
        },
    }
}

/// `90s`, `3m` or `2h`.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("SOAK={text} is no time, as 90s, 3m or 2h"),
    };
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("SOAK={text} is no time, as 90s, 3m or 2h"));
    Duration::from_secs(number * seconds)
}

async fn soak(time: Duration) {
    let mut site = Site::start().await;
    // What is made once, at the first use, is no leak.
    let warm_up = (time / 8).clamp(Duration::from_secs(5), Duration::from_mins(1));
    println!("soak: {warm_up:?} to warm up, then {time:?}; {}", site.weir.name);
    run(&mut site, warm_up).await;
    let begin = settled(&site, None).await;
    println!("soak: in the beginning {begin}");
    let (clients, disturbed) = run(&mut site, time).await;
    let end = settled(&site, Some(&begin)).await;
    println!("soak: in the end       {end}");
    println!("soak: {disturbed}\n{clients}");

    let mut wrong = clients.unexpected(disturbed.most_in_flight());
    wrong.extend(disturbed.complaints.clone());
    wrong.extend(end.complaints(&begin));
    wrong.extend(site.end().await);
    println!("soak: {}", json(time, &begin, &end, &clients, &disturbed, &wrong));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    println!("soak: ok");
}

/// A load, and what disturbs it, for this long.
async fn run(site: &mut Site, time: Duration) -> (clients::Report, trouble::Report) {
    let clients = Clients::start(site);
    let disturbed = trouble::disturb(site, time, &clients).await;
    (clients.stop().await, disturbed)
}

/// The figures, once nothing is under way any more and, where there are `former` ones, once they are as those; or as they
/// are when that has taken too long.
async fn settled(site: &Site, former: Option<&Figures>) -> Figures {
    let began = Instant::now();
    loop {
        let now = Figures::read(site).await;
        let is_calm = now.is_calm() && former.is_none_or(|former| now.complaints(former).is_empty());
        if is_calm && (former.is_some() || began.elapsed() > SETTLING / 2) || began.elapsed() > SETTLING {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn json(
    time: Duration,
    begin: &Figures,
    end: &Figures,
    clients: &clients::Report,
    disturbed: &trouble::Report,
    wrong: &[String],
) -> serde_json::Value {
    serde_json::json!({
        "seconds": time.as_secs(),
        "begin": begin.json(),
        "end": end.json(),
        "clients": clients.json(),
        "disturbed": disturbed.json(),
        "wrong": wrong,
    })
}

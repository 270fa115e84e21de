//! The loop: takes in answers, follows reloads, shows, and ends in order.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until};

use super::division::Division;
use super::figures::{Figures, Refusal, describe};
use super::hints::hints;
use super::ledger::Ledger;
use super::load::{Answer, Load, Target};
use super::paint::Palette;
use super::plain;
use super::screen::{Press, Screen};
use super::stage::Stage;
use super::users::Users;
use crate::cli::Exit;
use crate::cli::args::DemoArgs;
use crate::state::status::ReloadError;
use crate::types::Generation;

/// How often reloads are looked for and the view is drawn.
const TICK: Duration = Duration::from_millis(100);
/// How many answers may wait, and how many are taken at once.
const QUEUE: usize = 4096;

/// The signals that end the demo.
#[derive(Debug)]
pub(super) struct Signals([Signal; 3]);

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn new() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self([terminate?, interrupt?, hangup?]))
    }

    async fn any(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Shows `stage` under load until it is told to end, then sums up.
///
/// # Errors
/// When the output is gone.
pub(super) async fn show(args: &DemoArgs, stage: Stage, mut signals: Signals) -> anyhow::Result<Exit> {
    let (mut director, target) = Director::new(args, stage)?;
    let (sender, mut answers) = mpsc::channel(QUEUE);
    let (settled, current) = (Arc::clone(&director.settled), Arc::clone(director.stage.app.current()));
    let load = Load::start(director.users, args.rate, &target, settled, current, &sender);
    // The load alone keeps the channel open.
    drop(sender);
    director.run(args, &mut answers, &mut signals).await?;

    let stopping = load.stop();
    tokio::pin!(stopping);
    let broken = loop {
        tokio::select! {
            broken = &mut stopping => break broken,
            Some(answer) = answers.recv() => director.take(&answer),
        }
    };
    while let Ok(answer) = answers.try_recv() {
        director.take(&answer);
    }
    director.follow();
    let mut figures = director.figures();
    director.stage.end().await;
    if broken > 0 {
        figures.totals.failed += 1;
        figures.totals.first_failure.get_or_insert_with(|| "the load broke down".to_owned());
    }
    say(&plain::summary(&figures))?;
    Ok(if figures.totals.failed == 0 { Exit::Ok } else { Exit::Failed })
}

/// What has happened since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Applied,
    Refused,
}

/// Who holds the threads together.
struct Director {
    stage: Stage,
    users: Users,
    rate: u32,
    file: std::path::PathBuf,
    ledger: Ledger,
    began: Instant,
    target: watch::Sender<Target>,
    /// The generation whose division is known and whose upstreams run.
    settled: Arc<AtomicU64>,
    hints: Vec<String>,
    last_status: SystemTime,
    refusals: u64,
    refusal: Option<(Vec<ReloadError>, Instant)>,
    news: Vec<News>,
}

impl Director {
    fn new(args: &DemoArgs, stage: Stage) -> anyhow::Result<(Self, watch::Receiver<Target>)> {
        let target = stage.target().ok_or_else(|| anyhow::anyhow!("the proxy listens nowhere"))?;
        let users = Users::new(args.users);
        let snapshot = stage.app.current().load();
        let division = Division::of(&snapshot, users, &target.host, None);
        let (target, watched) = watch::channel(target);
        let mut director = Self {
            users,
            rate: args.rate,
            file: args.config.clone(),
            settled: Arc::new(AtomicU64::new(division.generation.0)),
            ledger: Ledger::new(division),
            began: Instant::now(),
            target,
            hints: Vec::new(),
            last_status: stage.app.status().last().at,
            stage,
            refusals: 0,
            refusal: None,
            news: Vec::new(),
        };
        director.foresee();
        Ok((director, watched))
    }

    /// Shows until it is told to end.
    async fn run(
        &mut self,
        args: &DemoArgs,
        answers: &mut mpsc::Receiver<Answer>,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let (keyboard, mut presses) = mpsc::channel(16);
        let wants_view = !args.plain && io::stdout().is_terminal();
        let mut screen = wants_view.then(|| Screen::take(palette(), keyboard.clone()).ok()).flatten();
        if screen.is_none() {
            say(&plain::intro(&self.figures()))?;
        }
        let mut tick = interval(TICK);
        let mut second = interval_at(self.began + Duration::from_secs(1), Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = args.duration.map(|duration| self.began + duration);
        let mut batch = Vec::with_capacity(QUEUE);
        loop {
            let draws = tokio::select! {
                _ = answers.recv_many(&mut batch, QUEUE) => {
                    batch.drain(..).for_each(|answer| self.take(&answer));
                    false
                }
                _ = tick.tick() => true,
                Some(press) = presses.recv() => match press {
                    Press::Quit => return Ok(()),
                    Press::Resize => true,
                },
                _ = second.tick(), if screen.is_none() => {
                    self.ledger.advance(self.began.elapsed());
                    say(&plain::second(&self.figures()))?;
                    false
                }
                () = until(end) => return Ok(()),
                () = signals.any() => return Ok(()),
            };
            if draws {
                self.follow();
            }
            match &mut screen {
                Some(screen) if draws => screen.draw(&self.figures())?,
                Some(_) => {}
                None => {
                    for news in std::mem::take(&mut self.news) {
                        say(&match news {
                            News::Applied => plain::applied(&self.figures()),
                            News::Refused => plain::refused(&self.figures()),
                        })?;
                    }
                }
            }
        }
    }

    /// Takes in an answer; the configuration that it may have been served by is known first.
    fn take(&mut self, answer: &Answer) {
        if answer.after > self.ledger.generation() {
            self.follow();
        }
        self.ledger.record(answer, self.began.elapsed());
    }

    /// Looks what became of the file.
    fn follow(&mut self) {
        self.ledger.advance(self.began.elapsed());
        // A new listener is there a moment after the generation that names it.
        if let Some(target) = self.stage.target() {
            self.target.send_if_modified(|known| {
                let moves = *known != target;
                *known = target;
                moves
            });
        }
        let snapshot = self.stage.app.current().load();
        if snapshot.generation > self.ledger.generation() {
            self.stage.upstreams.provide(&snapshot.config);
            let host = self.target.borrow().host.clone();
            let division = Division::of(&snapshot, self.users, &host, None);
            self.ledger.replace(division, self.began.elapsed());
            self.settled.store(snapshot.generation.0, Ordering::Release);
            self.foresee();
            self.news.push(News::Applied);
        }
        let status = self.stage.app.status().last();
        if status.at != self.last_status {
            self.last_status = status.at;
            self.refusal = (!status.errors.is_empty()).then(|| (status.errors, Instant::now()));
            if self.refusal.is_some() {
                self.refusals += 1;
                self.news.push(News::Refused);
            }
        }
    }

    /// Computes what may be tried next.
    fn foresee(&mut self) {
        let snapshot = self.stage.app.current().load();
        let host = self.target.borrow().host.clone();
        if let Some(division) = self.ledger.current() {
            self.hints = hints(&snapshot, self.users, &host, division, &self.file);
        }
    }

    fn figures(&self) -> Figures {
        let elapsed = self.began.elapsed();
        let address = match self.stage.app.addresses().into_iter().next() {
            Some(crate::types::BindAddress::Unix(path)) => format!("unix:{}", path.display()),
            _ => format!("http://{}", self.target.borrow().host.to_str().unwrap_or_default()),
        };
        let refusal = self.refusal.as_ref();
        let current = self.ledger.current();
        Figures {
            url: address,
            admin: self.stage.app.admin_address().map(|address| format!("http://{address}")),
            file: self.file.display().to_string(),
            users: self.users.count(),
            rate: self.rate,
            elapsed,
            split: current.and_then(|division| division.split.clone()),
            generation: current.map_or(Generation(0), |division| division.generation),
            rows: self.ledger.rows(),
            totals: self.ledger.totals.clone(),
            rates: self.ledger.rates(),
            applied: self.ledger.applied(elapsed),
            refusals: self.refusals,
            refusal: refusal.map(|(errors, at)| Refusal { text: describe(errors), ago: at.elapsed() }),
            hints: self.hints.clone(),
            notes: self.stage.upstreams.foreign().to_vec(),
        }
    }
}

/// Returns at `end`, or never.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Whether colours are wanted; see <https://no-color.org>.
fn palette() -> Palette {
    match std::env::var_os("NO_COLOR") {
        Some(value) if !value.is_empty() => Palette::Plain,
        _ => Palette::Colours,
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

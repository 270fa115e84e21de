//! The task with an authority that does as told, in time that jumps.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::config::acme::Challenge;
use crate::logic::renewal::Trouble;

const NAME: &str = "shop.example.com";
const DAY: u64 = 86_400;
/// When the tests begin, in seconds since 1970.
const BEGIN: i64 = 2_000_000_000;

/// What an authority answers.
#[derive(Clone)]
enum Answer {
    /// A certificate for this many seconds.
    Lasting(i64),
    /// No.
    Refused,
    /// No, and not before this many seconds.
    Later(u64),
    /// Something else than what was asked for.
    Nonsense,
}

/// An authority that answers as told, and remembers when it was asked.
struct Fake {
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<u64>>>,
    running: Arc<AtomicUsize>,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Authority for Fake {
    async fn obtain(&self, acme: &Acme, _: &Keep, _: &Arc<Shelf>) -> Result<Vec<u8>, OrderError> {
        let now = (self.clock)();
        self.asked.lock().unwrap().push((now - BEGIN).unsigned_abs());
        assert_eq!(self.running.fetch_add(1, Ordering::Relaxed), 0, "one at a time");
        sleep(Duration::from_secs(1)).await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Answer::Lasting(seconds) => Ok(issue(&acme.domains, now, seconds)),
            Answer::Refused => Err(OrderError::refused("no\r\nno")),
            Answer::Later(wait) => {
                Err(OrderError::new(Trouble::Refused, "too many", Some(Duration::from_secs(wait))))
            }
            Answer::Nonsense => Ok(issue(&["www.example.com".to_owned()], now, 1000)),
        }
    }
}

fn issue(domains: &[String], from: i64, seconds: i64) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(domains).unwrap();
    let at = |second: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(second.unsigned_abs());
    params.not_before = at(from).into();
    params.not_after = at(from + seconds).into();
    let certificate = params.self_signed(&key).unwrap();
    format!("{}{}", key.serialize_pem(), certificate.pem()).into_bytes()
}

/// A keeper at work.
struct World {
    state: TempDir,
    shelf: Arc<Shelf>,
    metrics: Arc<Metrics>,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<Vec<u64>>>,
    acme: Arc<Acme>,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl World {
    fn new(answer: Answer) -> Self {
        let begun = Instant::now();
        let clock = move || BEGIN + i64::try_from(begun.elapsed().as_secs()).unwrap();
        Self {
            state: tempfile::tempdir().unwrap(),
            shelf: Arc::default(),
            metrics: Metrics::new(),
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
            acme: Arc::new(Acme {
                domains: vec![NAME.to_owned()],
                email: None,
                directory: "https://ca.example/directory".to_owned(),
                directory_ca: None,
                challenge: Challenge::TlsAlpn01,
                renew_before: None,
            }),
            clock: Arc::new(clock),
        }
    }

    /// A process, which ends when what is returned is dropped.
    fn start(&self, on: &Arc<Shelf>) -> (watch::Sender<Wanted>, tokio::task::JoinHandle<()>) {
        let fake = Fake {
            answer: Arc::clone(&self.answer),
            asked: Arc::clone(&self.asked),
            running: Arc::default(),
            clock: Arc::clone(&self.clock),
        };
        let mut keeper = Keeper::new(fake, Arc::clone(on), Arc::clone(&self.metrics));
        keeper.clock = Arc::clone(&self.clock);
        let certificates = vec![(Arc::clone(&self.acme), on.slot(&self.acme))];
        let wanted = Wanted { state_dir: Some(self.state.path().to_owned()), certificates };
        let (sender, receiver) = watch::channel(wanted);
        #[expect(clippy::disallowed_methods, reason = "a test is its own composition root")]
        let task = tokio::spawn(keeper.run(receiver));
        (sender, task)
    }

    fn slot(&self) -> Arc<Slot> {
        self.shelf.slot(&self.acme)
    }

    /// When the authority was asked, in seconds from the beginning.
    fn asked(&self) -> Vec<u64> {
        self.asked.lock().unwrap().clone()
    }

    fn renewals(&self) -> [f64; 2] {
        let text = String::from_utf8(self.metrics.encode().unwrap()).unwrap();
        ["success", "failure"].map(|result| {
            let series = format!("weir_acme_renewals_total{{result=\"{result}\"}} ");
            text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
        })
    }
}

async fn days(days: u64) {
    sleep(Duration::from_secs(days * DAY)).await;
}

#[tokio::test(start_paused = true)]
async fn certificate_is_got_at_once_and_renewed_when_a_third_of_its_time_is_left() {
    let world = World::new(Answer::Lasting(90 * 86_400));
    let (_wanted, _task) = world.start(&world.shelf);
    sleep(Duration::from_secs(2)).await;
    let first = world.slot().held().unwrap();
    assert_eq!((world.asked(), world.slot().notes().failures), (vec![0], 0));
    days(59).await;
    assert_eq!(world.asked().len(), 1);
    days(2).await;
    assert_eq!(world.asked().len(), 2);
    assert!(world.asked()[1].abs_diff(60 * DAY) < 10, "{:?}", world.asked());
    assert_ne!(world.slot().held().unwrap(), first);
    assert_eq!(world.renewals().map(f64::to_bits), [2.0_f64, 0.0].map(f64::to_bits));
}

#[tokio::test(start_paused = true)]
async fn failed_renewal_is_tried_again_ever_less_often_and_the_old_certificate_serves_on() {
    let world = World::new(Answer::Lasting(90 * 86_400));
    let (_wanted, _task) = world.start(&world.shelf);
    sleep(Duration::from_secs(2)).await;
    let first = world.slot().held().unwrap();
    *world.answer.lock().unwrap() = Answer::Refused;
    days(75).await;
    let notes = world.slot().notes();
    assert_eq!(notes.last_error.as_deref(), Some("no  no"));
    assert_eq!(world.slot().held().unwrap(), first);
    let asked = world.asked();
    let waits: Vec<_> = asked[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        waits[0] >= 225 && waits.windows(2).all(|pair| pair[1] >= pair[0] || pair[1] > 60_000),
        "{waits:?}"
    );
    assert!((15..30).contains(&asked.len()), "{waits:?}");
    assert_eq!(notes.failures as usize, asked.len() - 1);

    *world.answer.lock().unwrap() = Answer::Nonsense;
    days(2).await;
    assert!(world.slot().notes().last_error.is_some_and(|error| error.contains("all the names")));
    assert_eq!(world.slot().held().unwrap(), first);

    *world.answer.lock().unwrap() = Answer::Lasting(90 * 86_400);
    days(2).await;
    let notes = world.slot().notes();
    assert_eq!((notes.failures, notes.last_error), (0, None));
    assert_ne!(world.slot().held().unwrap(), first);
}

#[tokio::test(start_paused = true)]
async fn wait_that_the_authority_asks_for_is_kept() {
    let world = World::new(Answer::Later(3 * DAY));
    let (_wanted, _task) = world.start(&world.shelf);
    days(2).await;
    assert_eq!(world.asked(), [0]);
    days(2).await;
    assert_eq!(world.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn certificate_that_is_kept_serves_after_a_restart_without_an_order() {
    let world = World::new(Answer::Lasting(90 * 86_400));
    let (wanted, task) = world.start(&world.shelf);
    sleep(Duration::from_secs(2)).await;
    let first = world.slot().held().unwrap();
    drop(wanted);
    task.await.unwrap();

    let again: Arc<Shelf> = Arc::default();
    let (_wanted, _task) = world.start(&again);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(again.slot(&world.acme).held().unwrap(), first);
    assert_eq!(world.asked(), [0]);
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_one_asks_and_the_other_serves_it_and_takes_over_when_it_ends() {
    let world = World::new(Answer::Lasting(90 * 86_400));
    let (wanted, task) = world.start(&world.shelf);
    sleep(Duration::from_millis(10)).await;
    let other: Arc<Shelf> = Arc::default();
    let (_other_wanted, _other_task) = world.start(&other);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.asked(), [0]);
    assert_eq!(other.slot(&world.acme).held(), world.slot().held());
    assert!(world.slot().held().is_some());

    drop(wanted);
    task.await.unwrap();
    days(61).await;
    assert_eq!(world.asked().len(), 2);
    assert_ne!(other.slot(&world.acme).held(), world.slot().held());
}

#[tokio::test(start_paused = true)]
async fn folder_that_cannot_be_used_is_looked_at_again_and_nothing_is_ordered_meanwhile() {
    let world = World::new(Answer::Lasting(90 * 86_400));
    let place = world.state.path().join("acme");
    std::fs::File::create(&place).unwrap();
    let (_wanted, _task) = world.start(&world.shelf);
    sleep(Duration::from_mins(5)).await;
    assert_eq!(world.asked().len(), 0);
    std::fs::remove_file(&place).unwrap();
    sleep(Duration::from_secs(62)).await;
    assert_eq!(world.asked().len(), 1);
}

//! How many clients and requests there are at once, in all and by listener, and whether one more is let in.
//!
//! The counts are the whole process's: each worker has a socket of its own, and a limit by worker would refuse clients
//! where the kernel deals unevenly. So they are shared atomics, written once a connection; once a request only where
//! `limits.requests` is set. A change of the limits holds for who comes next: nobody is closed for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::model::{Limits, ListenerLimits};
use crate::telemetry::ListenerId;

/// The least number of files that is kept for what is no client: upstreams, logs, pages, the event queues of workers.
const LEAST_KEPT: usize = 64;

/// In how many parts the clients of a listener are, each with a lock of its own.
const PARTS: usize = 16;

/// The counts of a process.
#[derive(Debug)]
pub struct Admission {
    /// Connections in all where nothing is configured.
    most: usize,
    connections: Arc<Count>,
    requests: Arc<Count>,
    doors: Mutex<HashMap<ListenerId, Arc<Door>>>,
}

/// The counts of a listener.
#[derive(Debug, Default)]
pub struct Door {
    connections: Arc<Count>,
    clients: [Mutex<HashMap<IpAddr, usize>>; PARTS],
}

/// A number that goes down again when what it counts is dropped.
#[derive(Debug, Default)]
struct Count(AtomicUsize);

/// One that is counted, until it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Count>);

/// A connection that is let in, until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    _in_all: Permit,
    _by_listener: Permit,
}

/// A connection that counts for its client, until it is dropped.
#[derive(Debug)]
pub struct OfClient {
    door: Arc<Door>,
    client: IpAddr,
}

impl Admission {
    /// Nobody is in yet. The process may have so many `files` open; `None` is as many as it likes.
    pub fn new(files: Option<usize>) -> Self {
        Self {
            most: files.map_or(usize::MAX, connections_for),
            connections: Arc::default(),
            requests: Arc::default(),
            doors: Mutex::default(),
        }
    }

    /// The counts of the listener `id`, the same for every worker and over every reload.
    pub fn door(&self, id: ListenerId) -> Arc<Door> {
        Arc::clone(lock(&self.doors).entry(id).or_default())
    }

    /// Lets a connection in where neither all of them nor those of the listener are too many.
    pub fn connection(&self, limits: &Limits, door: &Door, own: &ListenerLimits) -> Option<Admitted> {
        let in_all = Count::enter(&self.connections, limits.connections.unwrap_or(self.most))?;
        let by_listener = Count::enter(&door.connections, own.connections.unwrap_or(usize::MAX))?;
        Some(Admitted { _in_all: in_all, _by_listener: by_listener })
    }

    /// Lets a request in where `most` are not in flight yet.
    pub fn request(&self, most: usize) -> Option<Permit> {
        Count::enter(&self.requests, most)
    }
}

impl Door {
    /// Lets a connection of `client` in where `most` of its are not there yet. Those that came while there was no such
    /// limit do not count.
    pub fn client(self: &Arc<Self>, client: IpAddr, most: usize) -> Option<OfClient> {
        let client = network(client);
        let mut clients = self.part(client);
        let count = clients.entry(client).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(clients);
        Some(OfClient { door: Arc::clone(self), client })
    }

    fn part(&self, client: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let folded = match client {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        // Neighbours in different parts, whichever of the bits tells them apart.
        let mixed = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        lock(&self.clients[mixed as usize % PARTS])
    }
}

impl Drop for OfClient {
    fn drop(&mut self) {
        if let Entry::Occupied(mut entry) = self.door.part(self.client).entry(self.client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

impl Count {
    fn enter(count: &Arc<Self>, most: usize) -> Option<Permit> {
        let more = |count: usize| (count < most).then_some(count + 1);
        count.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Permit(Arc::clone(count)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many connections clients may have of `files`: a request that waits has one file, one that is served two, and
/// requests of HTTP/2 even share one. So a quarter is kept for the other side, and something for logs and pages.
fn connections_for(files: usize) -> usize {
    files.saturating_sub((files / 4).max(LEAST_KEPT)).max(1)
}

/// What counts as one client: an address, or of IPv6 the network that one subscriber has at least.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn of_listener(connections: Option<usize>) -> ListenerLimits {
        ListenerLimits { connections, per_client: None }
    }

    #[test]
    fn connections_are_let_in_up_to_each_limit_and_again_when_one_has_gone() {
        let metrics = Metrics::new();
        let admission = Admission::new(None);
        let (web, own) = (admission.door(metrics.listener("web")), of_listener(Some(2)));
        let (other, free) = (admission.door(metrics.listener("other")), of_listener(None));
        let limits = Limits { connections: Some(3), requests: None };
        let first = admission.connection(&limits, &web, &own).unwrap();
        let second = admission.connection(&limits, &web, &own).unwrap();
        assert!(admission.connection(&limits, &web, &own).is_none(), "the listener's limit");
        let third = admission.connection(&limits, &other, &free).unwrap();
        assert!(admission.connection(&limits, &other, &free).is_none(), "the limit in all");
        // Who was refused is not counted.
        drop(third);
        let third = admission.connection(&limits, &other, &free).unwrap();
        // A lower limit closes nobody, and counts from where it is.
        let lower = Limits { connections: Some(2), requests: None };
        drop(first);
        assert!(admission.connection(&lower, &other, &free).is_none());
        drop((second, third));
        assert!(admission.connection(&lower, &other, &free).is_some());
        assert_eq!(admission.connections.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn clients_are_counted_by_address_and_of_ipv6_by_network() {
        let rows = [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ];
        for (one, other, is_same) in rows {
            let door = Arc::new(Door::default());
            let held = door.client(one.parse().unwrap(), 1).unwrap();
            let second = door.client(other.parse().unwrap(), 1);
            assert_eq!(second.is_none(), is_same, "{one} {other}");
            drop((held, second));
            assert!(door.clients.iter().all(|part| lock(part).is_empty()), "who has gone leaves nothing");
        }
    }

    #[test]
    fn files_leave_room_for_what_is_no_client() {
        let rows = [(1, 1), (64, 1), (65, 1), (256, 192), (1024, 768), (20_000, 15_000), (1 << 20, 786_432)];
        for (files, expected) in rows {
            assert_eq!(connections_for(files), expected, "{files}");
        }
        assert_eq!(Admission::new(None).most, usize::MAX);
    }

    #[test]
    fn counts_of_many_threads_are_exact() {
        let admission = Admission::new(None);
        let door = Arc::new(Door::default());
        let peak = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..2000_u32 {
                        let permit = admission.request(3);
                        peak.fetch_max(admission.requests.0.load(Ordering::Relaxed), Ordering::Relaxed);
                        let client = door.client(IpAddr::from((number % 7).to_be_bytes()), 2);
                        drop((permit, client));
                    }
                });
            }
        });
        assert!((1..=3).contains(&peak.load(Ordering::Relaxed)));
        assert_eq!(admission.requests.0.load(Ordering::Relaxed), 0);
        assert!(door.clients.iter().all(|part| lock(part).is_empty()));
    }
}

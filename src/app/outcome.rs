//! What an upgrade came to, for whoever has asked for it: `weir upgrade` waits at an address that is made of the
//! process's id, and hears what the process says there. A process that nobody waits for says it to nobody.

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

/// The longest message.
const LONGEST: u64 = 64 * 1024;

/// How long a message may take once it comes.
const READING: Duration = Duration::from_secs(1);

/// What an upgrade came to, and that there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is tried; what comes of it is told next.
    Begun,
    /// It is not tried: another one is under way.
    Refused,
    /// Another process serves; the one asked finishes what is in flight.
    Finished {
        /// The id of the new process.
        pid: u32,
    },
    /// The process goes on as before.
    Failed {
        /// Why, for a person.
        reason: String,
    },
}

impl Outcome {
    /// Tells whoever waits for the process `pid`, which is the caller. It never waits itself.
    pub fn tell(&self, pid: u32) {
        // Mostly nobody is there to hear it.
        drop(self.try_tell(pid));
    }

    fn try_tell(&self, pid: u32) -> io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name(pid).as_bytes())?)?;
        // Anybody on this machine may listen there, and a reason may quote the configuration.
        let listener = socket_peercred(&socket)?.uid;
        if !listener.is_root() && listener != rustix::process::geteuid() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        UnixStream::from(socket).write_all(&serde_json::to_vec(self)?)
    }
}

/// Hears the outcome of an upgrade.
#[derive(Debug)]
pub struct Ear {
    socket: UnixListener,
    pid: u32,
}

impl Ear {
    /// Listens for what process `pid` says of an upgrade.
    ///
    /// # Errors
    /// `AddrInUse` where another one waits for the same; else what the system says.
    pub fn for_process(pid: u32) -> io::Result<Self> {
        let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name(pid))?)?;
        Ok(Self { socket, pid })
    }

    /// What the process itself tells next; `None` where it says nothing for `limit`.
    ///
    /// # Errors
    /// What the system says.
    pub fn hear(&self, limit: Duration) -> io::Result<Option<Outcome>> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(limit))?;
        let stream = match self.socket.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        // Anybody on this machine may say something here; the kernel says who it was.
        let sender = socket_peercred(&stream)?.pid.as_raw_nonzero().get();
        if u32::try_from(sender) != Ok(self.pid) {
            return Ok(None);
        }
        stream.set_read_timeout(Some(READING))?;
        let mut text = Vec::new();
        // What does not come whole is no outcome.
        drop(stream.take(LONGEST).read_to_end(&mut text));
        Ok(serde_json::from_slice(&text).ok())
    }
}

/// Where the outcome for process `pid` is heard, in the abstract namespace.
fn name(pid: u32) -> String {
    format!("weir-upgrade-{pid}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_of_the_process_itself_is_heard_and_no_other() {
        let ours = std::process::id();
        let ear = Ear::for_process(ours).unwrap();
        assert_eq!(Ear::for_process(ours).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(ear.hear(Duration::from_millis(1)).unwrap(), None, "nothing was said");
        let outcome = Outcome::Failed { reason: "no".to_owned() };
        outcome.tell(ours);
        assert_eq!(ear.hear(Duration::from_secs(20)).unwrap(), Some(outcome.clone()));
        // Who waits for another process hears us say something in its place.
        let other = std::os::unix::process::parent_id();
        let ear = Ear::for_process(other).unwrap();
        outcome.tell(other);
        assert_eq!(ear.hear(Duration::from_secs(20)).unwrap(), None);
    }

    #[test]
    fn nobody_hears_it_then_nothing_is_waited_for() {
        Outcome::Begun.tell(u32::MAX);
        // One that never accepts: its queue is full in the end.
        let _ear = Ear::for_process(u32::MAX).unwrap();
        for _ in 0..10_000 {
            Outcome::Begun.tell(u32::MAX);
        }
    }
}
